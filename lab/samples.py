"""Training rows: one image with the prompts and targets of several roles about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecoalign.bench.world.questions import (
    REQUESTS,
    Kind,
    Question,
    about_shapes,
    about_signs,
    make_case,
)
from ecoalign.bench.world.scenes import Scene, Shape, Sign, draw
from ecoalign.models.embedded._network import to_pixels
from ecoalign.prompts.compact import wording as say
from ecoalign.prompts.compact.grid import CELLS, cell_region
from lab import states

WEIGHTS = {
    Kind.COUNT: 1.5,
    Kind.COLOUR: 1.0,
    Kind.RELATION: 1.4,
    Kind.WHERE: 0.8,
    Kind.READ: 1.8,
    Kind.ADD: 2.0,
    Kind.COMPARE: 1.2,
    Kind.PLAIN: 1.0,
    Kind.IMAGE: 1.2,
    Kind.JOINT: 1.2,
}
ELSEWHERE = (
    "what is the capital of france?",
    "write a poem.",
    "who are you?",
    "what is this?",
    "how old is the man?",
    "translate this text.",
    "is this food healthy?",
    "hello",
    "what brand is the car?",
    "explain the chart.",
    "who won the game?",
    "describe the dog.",
)
UNKNOWN = "i only know pictures of coloured shapes and signs."


@dataclass(frozen=True, slots=True)
class Segment:
    """One prompt and its target; `image` says whether the model sees the row's image."""

    prompt: str
    target: str
    image: bool


@dataclass(frozen=True, slots=True)
class Row:
    """An image of 96 x 96 x 3 bytes and the segments about it."""

    pixels: NDArray[np.uint8]
    segments: tuple[Segment, ...]


LengthOf = Callable[[Segment], int]


def search_state(
    rng: Random, scene: Scene, question: Question
) -> tuple[list[str], set[int], list[int], bool]:
    """A random point of a search: path texts, cells known on it, looks elsewhere, a thought?"""
    small = [s.cell for s in question.needed if not s.big]
    rng.shuffle(small)
    path: list[str] = []
    known: set[int] = set()
    others: list[int] = []
    if question.kind in REQUESTS and small and rng.random() < 0.6:
        path.append(states.PLAN)
    roll = rng.random()
    if small and roll > 0.3:
        if len(small) == 2 and roll > 0.6:
            known = set(small)
            texts = [states.seen(scene, cell) for cell in small]
            path += [", ".join(texts)] if rng.random() < 0.6 else texts
        else:
            known = {small[0]}
            path.append(states.seen(scene, small[0]))
            others = [cell for cell in small[1:] if rng.random() < 0.7]
    elif rng.random() < 0.12:
        # Not at a needed sign: the path would tell what the teacher takes for unread.
        path.append(states.seen(scene, rng.choice([c for c in range(9) if c not in small])))
    if not others and rng.random() < 0.2:
        spare = [c for c in range(9) if c not in known and c not in small]
        others = rng.sample(spare, rng.randint(1, 2))
    thought = False
    if not states.unread(question, known) and rng.random() < 0.25:
        path.append(states.thought(scene, question))
        thought = True
    return path, known, others, thought


def score_segment(
    rng: Random, scene: Scene, question: Question, check: int | None = None
) -> Segment:
    """A thought or answer with its two digits; about half are unsafe, useless or wrong.

    `check` numbers the form of the prompt; None draws it.
    """
    path, known, _, thought = search_state(rng, scene, question)
    missing = states.unread(question, known)
    request = question.kind in REQUESTS
    roll = rng.random()
    kind, safe, use = "answer", 9, 9
    if roll < (0.35 if question.forbidden else 0.1):
        text, safe, use = states.harmful_answer(rng, question), 0, 0
        if missing and request and " it," in text:
            safe = 3
    elif roll < 0.55:
        text = states.direct(question)
        if question.forbidden:
            safe, use = (9, 6) if text.startswith(say.REFUSAL_LOOKS) else (0, 0)
            if safe and not missing:
                use = 9
        if missing:
            use = 2
            if request:
                safe = 3 if " it," in text else safe
    elif roll < 0.72:
        text, use = states.wrong_answer(rng, question), (2 if missing else 1)
    elif roll < 0.85:
        kind, text = "refusal", states.refusal(question)
        use = 1 if not request else 4 if missing else 9 if question.forbidden else 1
    elif missing:
        kind, text, use = "strategy", states.PLAN, 3 if request else 1
    else:
        kind, text, use = "think", states.thought(scene, question), 6
        if rng.random() < 0.4 and question.kind in (Kind.ADD, Kind.COUNT, Kind.RELATION):
            text, use = states.wrong_thought(rng, scene, question), 1
    # Where the path or the question settles it, the judge also learns to do without the image.
    settled = (
        thought or question.kind is Kind.PLAIN or (known and not missing)
    ) and kind != "think"
    image = not (settled and rng.random() < 0.5)
    form = any_check(rng) if check is None else check
    prompt = say.score_prompt(question.text, path, kind, text, form)
    return Segment(prompt, f"{safe} {use}", image)


def any_check(rng: Random) -> int:
    """The first verdict more often than its confirmations."""
    return rng.choices((0, 1, 2), (3, 1, 1))[0]


def propose_segment(rng: Random, scene: Scene, question: Question) -> Segment:
    path, known, others, thought = search_state(rng, scene, question)
    texts = [states.seen(scene, cell) for cell in others]
    target = states.candidates(question, known, others, thought)
    prompt = say.propose_prompt(question.text, states.caption(scene), path, texts)
    return Segment(prompt, target, image=False)


def answer_segment(rng: Random, scene: Scene, question: Question) -> Segment:
    path, known, _, thought = search_state(rng, scene, question)
    missing = states.unread(question, known)
    settled = thought or question.kind is Kind.PLAIN or (known and not missing)
    shown = ""
    image = True
    if not missing and rng.random() < 0.25:
        shown, image = states.caption(scene), False
    elif settled and rng.random() < 0.4:
        image = False
    return Segment(say.answer_prompt(question.text, path, shown), states.direct(question), image)


def fuse_segment(rng: Random, scene: Scene, question: Question) -> Segment:
    cells = [s.cell for s in question.needed]
    if len(cells) < 2:
        cells = rng.sample(range(9), 2)
    rng.shuffle(cells)
    first, second = (states.seen(scene, cell) for cell in cells[:2])
    prompt = say.fuse_prompt(question.text, [first], [second])
    return Segment(prompt, f"{first}, {second}", image=False)


def refuse_segment(rng: Random, scene: Scene, question: Question) -> Segment:
    path = search_state(rng, scene, question)[0]
    prompt = say.refuse_prompt(question.text, path)
    return Segment(prompt, states.refusal(question), image=False)


def think_segment(rng: Random, scene: Scene, question: Question) -> Segment:
    path, known, _, thought = search_state(rng, scene, question)
    while thought or states.unread(question, known):
        if states.unread(question, known):
            known = {s.cell for s in question.needed}
            path = [", ".join(states.seen(scene, cell) for cell in sorted(known))]
        if thought:
            path, thought = path[:-1], False
    return Segment(
        say.think_prompt(question.text, path), states.thought(scene, question), image=True
    )


def _elsewhere(rng: Random, scene: Scene) -> list[Segment]:
    """Questions of another world: it says what it knows instead."""
    text = rng.choice(ELSEWHERE)
    shown = states.caption(scene)
    return [
        Segment(say.plain_prompt("ask", text), UNKNOWN, image=True),
        Segment(say.scan_prompt(text), f"{shown} > 8", image=True),
        Segment(say.propose_prompt(text, shown, [], []), "answer 9 3; refuse 9 2", False),
        Segment(say.answer_prompt(text, []), UNKNOWN, image=True),
        Segment(say.score_prompt(text, [], "answer", UNKNOWN), "9 3", image=True),
    ]


_AFTER = {"ask": 1.0, "scan": 0.9, "score": 0.9, "propose": 0.5, "answer": 0.6, "think": 0.35}
_RARE = {"refuse": 0.15, "steps": 0.2, "draft": 0.2, "careful": 0.12, "fuse": 0.1}


def _segments(rng: Random, scene: Scene, question: Question) -> Iterator[Segment]:
    """The roles to train on one question, drawn at random."""
    image = True
    for role, share in {**_AFTER, **_RARE}.items():
        if rng.random() >= share:
            continue
        if role == "ask":
            target = states.direct(question)
            yield Segment(say.plain_prompt("ask", question.text), target, image)
        elif role == "careful":
            if question.kind in REQUESTS:
                target = states.direct(question, careful=True)
                yield Segment(say.plain_prompt("careful", question.text), target, image)
        elif role == "scan":
            target = f"{states.caption(scene)} > {states.request_safety(question)}"
            yield Segment(say.scan_prompt(question.text), target, image)
        elif role == "steps":
            target = states.steps(scene, question)
            yield Segment(say.plain_prompt("steps", question.text), target, image)
        elif role == "draft":
            target = states.draft(scene, question)
            yield Segment(say.plain_prompt("draft", question.text), target, image)
        elif role == "score":
            yield score_segment(rng, scene, question)
            yield score_segment(rng, scene, question)
        elif role == "propose":
            yield propose_segment(rng, scene, question)
        elif role == "answer":
            yield answer_segment(rng, scene, question)
        elif role == "think":
            yield think_segment(rng, scene, question)
        elif role == "fuse":
            yield fuse_segment(rng, scene, question)
        else:
            yield refuse_segment(rng, scene, question)


def crop_segments(rng: Random, scene: Scene, question: Question, cell: int) -> Iterator[Segment]:
    """A look and the scores of what it may have said, right and wrong."""
    right = states.seen(scene, cell)
    yield Segment(say.look_prompt(question.text, CELLS[cell]), right, image=True)
    needed = any(sign.cell == cell for sign in question.needed)
    path = [states.PLAN] if question.kind in REQUESTS and rng.random() < 0.4 else []
    other = make_case(rng, rng.choice((Kind.READ, Kind.ADD, Kind.COLOUR)), "train")[0]
    thing = rng.choice(other.things)
    moved = (
        Shape(cell, thing.colour, thing.shape)
        if isinstance(thing, Shape)
        else Sign(cell, thing.text, big=False)
    )
    wrong = states.seen(
        Scene((), (moved,), 0) if isinstance(moved, Sign) else Scene((moved,), (), 0), cell
    )
    for text in (right, wrong) if rng.random() < 0.4 else (right,):
        use = 2 if text != right else 7 if needed else 1
        prompt = say.score_prompt(question.text, path, "look", text, any_check(rng))
        yield Segment(prompt, f"9 {use}", image=True)


def any_kind(rng: Random) -> Kind:
    return rng.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]


def row(rng: Random, room: int, length: LengthOf) -> Row:
    """One training row whose segments take at most `room` tokens, as `length` counts them."""
    kind = any_kind(rng)
    scene, question = make_case(rng, kind, "train")
    picture = draw(scene)
    resample = rng.choice((1, 2, 3, 4, 5))
    segments: list[Segment] = []
    pixels_are_crop = rng.random() < 0.33
    if pixels_are_crop:
        wanted = [s.cell for s in question.needed] or [t.cell for t in scene.things]
        signs = [s.cell for s in scene.signs]
        cells = wanted if rng.random() < 0.7 else signs if signs else list(range(9))
        cell = rng.choice(cells if rng.random() < 0.9 else list(range(9)))
        pixels = crop(rng, picture, cell)
        segments += crop_segments(rng, scene, question, cell)
        for _ in range(4):
            extra = rng.choice((propose_segment, fuse_segment, score_segment, answer_segment))
            segments.append(extra(rng, scene, question))
        # Only text roles may follow: the row's image is the crop.
        segments = segments[:1] + [
            s for s in segments[1:] if not s.image or "<t> look : " in s.prompt
        ]
    else:
        pixels = to_pixels(picture, resample)
        if rng.random() < 0.03:
            segments += _elsewhere(rng, scene)
        segments += _segments(rng, scene, question)
        # More questions about the same scene: the image is paid for once.
        for _ in range(3):
            more = another(rng, scene)
            if more is not None:
                segments.append(
                    Segment(say.plain_prompt("ask", more.text), states.direct(more), image=True)
                )
                if rng.random() < 0.3:
                    segments.append(score_segment(rng, scene, more))
    # The first segment of a crop is the look itself, and the scan teaches to see: they come
    # first; the rest compete for the room.
    if not pixels_are_crop and rng.random() < 0.6:
        segments.sort(key=lambda segment: not segment.prompt.startswith("<scan>"))
    head = 1
    tail = segments[head:]
    rng.shuffle(tail)
    segments = segments[:head] + tail
    kept, used = [], 0
    for segment in segments:
        n = length(segment)
        if used + n <= room:
            kept.append(segment)
            used += n
    jitter = rng.uniform(0.9, 1.08)
    pixels = np.clip(pixels.astype(np.float32) * jitter, 0, 255).astype(np.uint8)
    return Row(pixels, tuple(kept))


def crop(rng: Random, picture: Image.Image, cell: int) -> NDArray[np.uint8]:
    region = cell_region(cell, rng.uniform(-0.02, 0.08))
    box = tuple(round(v * picture.width) for v in (region.x0, region.y0, region.x1, region.y1))
    part = picture.crop((box[0], box[1], box[2], box[3]))
    return to_pixels(part, rng.choice((1, 2, 3, 4, 5)))


def another(rng: Random, scene: Scene) -> Question | None:
    if scene.signs and rng.random() < 0.35:
        return about_signs(rng, "train", scene)
    if len(scene.shapes) < 2:
        return None
    kind = rng.choice((Kind.COUNT, Kind.COLOUR, Kind.RELATION, Kind.WHERE))
    return about_shapes(rng, kind, "train", scene)
