"""Training rows of one exercise each, for what the mixed rows of `samples` teach too slowly."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ecoalign.bench.world.questions import (
    REQUESTS,
    Kind,
    Question,
    about_numbers,
    about_request,
    about_shapes,
    about_signs,
    make_case,
    number,
)
from ecoalign.bench.world.rulebook import FORBIDDEN, NOUNS, VERBS
from ecoalign.bench.world.scenes import Scene, Sign, draw
from ecoalign.models.embedded._network import to_pixels
from ecoalign.prompts.compact import wording as say
from ecoalign.prompts.compact.grid import CELLS
from lab import states
from lab.samples import (
    LengthOf,
    Row,
    Segment,
    answer_segment,
    any_check,
    any_kind,
    crop,
    fuse_segment,
    propose_segment,
    refuse_segment,
    score_segment,
    think_segment,
)

RESAMPLING = (1, 2, 3, 4, 5)


def look_row(rng: Random) -> Row:
    """A crop and what it shows, nothing else: the cheapest way to learn to read."""
    kinds = (Kind.ADD, Kind.COMPARE, Kind.READ, Kind.IMAGE, Kind.JOINT, any_kind(rng))
    kind = rng.choices(kinds, (4, 1.5, 2, 1, 1, 0.5))[0]
    scene, question = make_case(rng, kind, "train", big=rng.random() < 0.1)
    signs = [sign.cell for sign in scene.signs]
    cell = rng.choice(signs) if signs and rng.random() < 0.85 else rng.randrange(9)
    pixels = crop(rng, draw(scene), cell)
    prompt = say.look_prompt(question.text, CELLS[cell])
    return Row(pixels, (Segment(prompt, states.seen(scene, cell), image=True),))


def scan_row(rng: Random) -> Row:
    """A whole view, its caption, and the risk of two requests: the cheapest way to learn to see."""
    signs = (Kind.READ, Kind.ADD, Kind.COMPARE, Kind.IMAGE, Kind.JOINT)
    kind = rng.choice(signs) if rng.random() < 0.6 else any_kind(rng)
    scene, question = make_case(rng, kind, "train", big=rng.random() < 0.75)
    questions = [question, about_request(rng, Kind.PLAIN, "train", *_deed(rng), None)]
    segments = []
    for one in questions:
        target = f"{states.caption(scene)} > {states.request_safety(one)}"
        segments.append(Segment(say.scan_prompt(one.text), target, image=True))
    return Row(to_pixels(draw(scene), rng.choice(RESAMPLING)), tuple(segments))


def ask_row(rng: Random, room: int, length: LengthOf) -> Row:
    """Many questions about one view, answered directly by the plain model or as a draft."""
    kinds = (Kind.ADD, Kind.COUNT, Kind.RELATION, Kind.WHERE, Kind.IMAGE, Kind.JOINT)
    kind = rng.choices(kinds, (2.5, 3, 4, 1.5, 0.5, 0.5))[0]
    scene, question = make_case(rng, kind, "train", big=rng.random() < 0.9)
    pixels = to_pixels(draw(scene), rng.choice(RESAMPLING))
    return Row(pixels, _fill(room, length, _asked(rng, scene, question)))


def law_row(rng: Random, room: int, length: LengthOf) -> Row:
    """Requests about a nearly empty scene, in every role: the rulebook by heart."""
    kind = rng.choice(REQUESTS)
    whole, _ = make_case(rng, kind, "train")
    scene = Scene(whole.shapes[:1], whole.signs, whole.seed)
    pixels = to_pixels(draw(scene), rng.choice(RESAMPLING))
    return Row(pixels, _fill(room, length, _judged(rng, scene, kind)))


def plan_row(rng: Random, room: int, length: LengthOf) -> Row:
    """What to do next and what follows from it, mostly where signs have to be read first."""
    kinds = (Kind.READ, Kind.ADD, Kind.COMPARE, Kind.IMAGE, Kind.JOINT, any_kind(rng))
    kind = rng.choices(kinds, (2, 4, 2, 1, 1, 1))[0]
    scene, question = make_case(rng, kind, "train", big=rng.random() < 0.2)
    pixels = to_pixels(draw(scene), rng.choice(RESAMPLING))
    return Row(pixels, _fill(room * 3 // 2, length, _planned(rng, scene, question)))


def reason_row(rng: Random, room: int, length: LengthOf) -> Row:
    """Counts, relations and places in one view: answered, thought through, and judged."""
    kind = rng.choice((Kind.COUNT, Kind.RELATION))
    scene, question = make_case(rng, kind, "train", big=rng.random() < 0.7)
    pixels = to_pixels(draw(scene), rng.choice(RESAMPLING))
    return Row(pixels, _fill(room, length, _reasoned(rng, scene, question)))


def link_row(rng: Random, room: int, length: LengthOf) -> Row:
    """What follows from places, thoughts and captions alone: no segment sees the image."""
    scene, _ = make_case(rng, Kind.COUNT, "train")
    return Row(to_pixels(draw(scene)), _fill(room * 3, length, _linked(rng)))


def sum_row(rng: Random, room: int, length: LengthOf) -> Row:
    """Two small signs and what follows from reading them: arithmetic, mostly.

    The view cannot tell the numbers, so each segment has numbers of its own.
    """
    scene, _ = make_case(rng, Kind.ADD, "train", big=False)
    pixels = to_pixels(draw(scene), rng.choice(RESAMPLING))
    return Row(pixels, _fill(room, length, _reckoned(rng, scene)))


def _fill(room: int, length: LengthOf, segments: Iterator[Segment]) -> tuple[Segment, ...]:
    """The segments that are new and fit, the first in any case, until several in a row do not."""
    kept = [next(segments)]
    room -= length(kept[0])
    misses = 0
    for segment in segments:
        n = length(segment)
        if n <= room and segment not in kept:
            kept.append(segment)
            room -= n
            misses = 0
        else:
            misses += 1
        if misses == 4:
            break
    return tuple(kept)


def _deed(rng: Random, noun: str | None = None) -> tuple[str, str]:
    """A verb and a noun (or the given one), half of the time forbidden."""
    if rng.random() < 0.5:
        return rng.choice([pair for pair in sorted(FORBIDDEN) if noun in (None, pair[1])])
    return rng.choice(VERBS), noun or rng.choice(NOUNS)


def _asked(rng: Random, scene: Scene, question: Question) -> Iterator[Segment]:
    while True:
        target = states.direct(question)
        prompt = say.plain_prompt("ask", question.text)
        if question.kind not in REQUESTS and rng.random() < 0.5:
            prompt = say.answer_prompt(question.text, [])
        yield Segment(prompt, target, image=True)
        numbers = [sign for sign in scene.signs if sign.is_number]
        roll = rng.random()
        other: Question | None
        if len(numbers) == 2 and roll < 0.5 and numbers[0].text != numbers[1].text:
            kind = rng.choice((Kind.ADD, Kind.ADD, Kind.COMPARE))
            other = about_numbers(rng, kind, "train", (numbers[0], numbers[1]))
        elif scene.signs and roll < 0.6:
            other = about_signs(rng, "train", scene)
        else:
            kinds = (Kind.COUNT, Kind.COLOUR, Kind.RELATION, Kind.WHERE)
            kind = rng.choices(kinds, (3, 0.7, 4, 1.5))[0]
            other = about_shapes(rng, kind, "train", scene) if len(scene.shapes) > 1 else None
        question = other or question


def _requested(rng: Random, scene: Scene, kind: Kind) -> tuple[Scene, Question]:
    """A request about the picture of `scene`; what a small sign says is drawn anew each time."""
    if kind is Kind.PLAIN:
        return scene, about_request(rng, kind, "train", *_deed(rng), None)
    sign = scene.signs[0]
    if not sign.big:
        verb, noun = _deed(rng)
        sign = Sign(sign.cell, noun if kind is Kind.JOINT else f"{verb} {noun}", big=False)
        scene = Scene(scene.shapes, (sign,), scene.seed)
    elif kind is Kind.JOINT:
        verb, noun = _deed(rng, sign.text)
    else:
        verb, noun = sign.text.split()
    return scene, about_request(rng, kind, "train", verb, noun, sign)


def _judged(rng: Random, scene: Scene, kind: Kind) -> Iterator[Segment]:
    while True:
        fresh, question = _requested(rng, scene, kind)
        roll = rng.random()
        if roll < (0.35 if question.legible else 0.1):
            target = f"{states.caption(fresh)} > {states.request_safety(question)}"
            yield Segment(say.scan_prompt(question.text), target, image=True)
        elif roll < 0.6:
            yield score_segment(rng, fresh, question)
        elif roll < 0.68:
            yield answer_segment(rng, fresh, question)
        elif roll < 0.73:
            yield think_segment(rng, fresh, question)
        elif roll < 0.82:
            yield propose_segment(rng, fresh, question)
        elif roll < 0.84:
            yield refuse_segment(rng, fresh, question)
        elif question.legible:
            role = "careful" if rng.random() < 0.3 else "ask"
            target = states.direct(question, careful=role == "careful")
            yield Segment(say.plain_prompt(role, question.text), target, image=True)


def _planned(rng: Random, scene: Scene, question: Question) -> Iterator[Segment]:
    while True:
        roll = rng.random()
        if roll < 0.6:
            yield propose_segment(rng, scene, question)
        elif roll < 0.8:
            yield answer_segment(rng, scene, question)
        elif roll < 0.9:
            yield score_segment(rng, scene, question)
        else:
            yield fuse_segment(rng, scene, question)


_SEEN = (Kind.COUNT, Kind.RELATION, Kind.WHERE, Kind.COLOUR)
"""Kinds that are about shapes; the shares of the first two are larger, as they are harder."""


def _reasoned(rng: Random, scene: Scene, question: Question) -> Iterator[Segment]:
    while True:
        text, target = question.text, states.direct(question)
        thought = states.thought(scene, question)
        roll = rng.random()
        if roll < 0.3:
            prompt = say.answer_prompt(text, [])
            if rng.random() < 0.6:
                prompt = say.plain_prompt("ask", text)
            yield Segment(prompt, target, image=True)
        elif roll < 0.4:
            yield Segment(say.answer_prompt(text, [thought]), target, image=True)
        elif roll < 0.6:
            yield Segment(say.think_prompt(text, []), thought, image=True)
        elif roll < 0.88 or question.kind not in (Kind.COUNT, Kind.RELATION):
            wrong = states.wrong_answer(rng, question)
            yield from _verdicts(rng, question, [], "answer", (target, wrong), (9, 1), image=True)
        else:
            wrong = states.wrong_thought(rng, scene, question)
            yield from _verdicts(rng, question, [], "think", (thought, wrong), (6, 1), image=True)
        kind = rng.choices(_SEEN, (3, 3, 1, 1))[0]
        question = about_shapes(rng, kind, "train", scene) or question


def _verdicts(
    rng: Random,
    question: Question,
    path: list[str],
    kind: str,
    texts: tuple[str, str],
    uses: tuple[int, int],
    *,
    image: bool,
) -> Iterator[Segment]:
    """The verdicts on a right and on a wrong text, side by side and in one form."""
    check = any_check(rng)
    for text, use in rng.sample(list(zip(texts, uses, strict=True)), 2):
        prompt = say.score_prompt(question.text, path, kind, text, check)
        yield Segment(prompt, f"9 {use}", image)


def _linked(rng: Random) -> Iterator[Segment]:
    while True:
        kind = rng.choices((Kind.RELATION, Kind.COUNT, Kind.WHERE), (6, 2, 1))[0]
        scene, question = make_case(rng, kind, "train")
        text, target = question.text, states.direct(question)
        path = [states.thought(scene, question)]
        roll = rng.random()
        if roll < 0.4:
            yield Segment(say.answer_prompt(text, path), target, image=False)
        elif roll < 0.65:
            prompt = say.answer_prompt(text, [], states.caption(scene))
            yield Segment(prompt, target, image=False)
        else:
            wrong = states.wrong_answer(rng, question)
            yield from _verdicts(
                rng, question, path, "answer", (target, wrong), (9, 1), image=False
            )


def _reckoned(rng: Random, scene: Scene) -> Iterator[Segment]:
    while True:
        cells = [sign.cell for sign in scene.signs]
        first, second = (Sign(cell, str(number(rng)), big=False) for cell in cells)
        if first.text == second.text:
            continue
        fresh = Scene(scene.shapes, (first, second), scene.seed)
        kind = rng.choice((Kind.ADD, Kind.ADD, Kind.COMPARE))
        question = about_numbers(rng, kind, "train", (first, second))
        texts = [states.seen(fresh, sign.cell) for sign in question.needed]
        rng.shuffle(texts)
        path = [", ".join(texts)] if rng.random() < 0.6 else texts
        image = rng.random() < 0.5
        roll = rng.random()
        if roll < 0.5:
            target = states.direct(question)
            yield Segment(say.answer_prompt(question.text, path), target, image)
        elif roll < 0.65:
            target = states.thought(fresh, question)
            yield Segment(say.think_prompt(question.text, path), target, image=True)
        else:
            right = rng.random() < 0.5
            text = states.direct(question) if right else states.wrong_answer(rng, question)
            prompt = say.score_prompt(question.text, path, "answer", text, any_check(rng))
            yield Segment(prompt, "9 9" if right else "9 1", image)
