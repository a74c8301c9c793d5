"""A simulated vision-language model that is spoken to by the real prompts of the full dialect.

A `SimulatedModel` reads each `ChatRequest` as a model would: the blocks, the task at the end, the
code words, the sizes of the images. It hands what it has read, as one typed record a role, to a
`Behaviour`, and writes the behaviour's decision in the form that the task asks for. So an
experiment says only what its model sees, believes and says, and prompts, bounds, engine and readers
are all at work.

    class Always(Behaviour): ...
    model = SimulatedModel(Always(), seed=7)

Replies follow from the seed and the request: the same request has the same reply, and one in other
words, of another fence or with images of another size is drawn independently (`Asked.draw`). The
fences of a run are random, so they count only by the order in which a model meets them, and so do
samples at a temperature without a seed: a run of a new `SimulatedModel` can be repeated.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol

from ecoalign.graph import ActionKind, Region
from ecoalign.models import (
    BoxConvention,
    ChatRequest,
    Completion,
    ImagePart,
    KnownTokens,
    Profile,
    Segment,
    TextPart,
    TokenLogprob,
    Usage,
    bound,
    image_tokens,
    segments,
)
from ecoalign.prompts import CONVENTIONS

# What a model is asked ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of a request.

    Attributes:
        image: which of the query's images, from 0.
        width, height: pixels as sent.
        region: the part of the image that is shown, as the prompt names it: in whole percents, and
            without the context around it; None for the whole image.
    """

    image: int
    width: int
    height: int
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A thought as a prompt quotes it; `kind` is caption, summary, strategy, think, look, fuse,
    answer or refusal."""

    id: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What every request holds.

    Attributes:
        question, instructions, earlier: the request's blocks; "" for none.
        images: in their order.
        thoughts: those of the path; root first.
        key: a digest of the model's seed and the request; see the module.
    """

    question: str
    instructions: str
    earlier: str
    images: tuple[Shown, ...]
    thoughts: tuple[Line, ...]
    key: str

    def draw(self, purpose: str = "") -> Random:
        """Randomness of this request; a purpose of its own for each thing that is drawn."""
        return Random(f"{self.key} {purpose}")


@dataclass(frozen=True, slots=True)
class ScanAsked(Asked):
    """The first look: caption, safety of the request, strategy."""


@dataclass(frozen=True, slots=True)
class ProposeAsked(Asked):
    """The next actions.

    Attributes:
        kinds: those on offer.
        limit: at most so many.
        steps: forecast for each, after the action's own.
        others: thoughts that can be fused with the last one.
    """

    kinds: tuple[ActionKind, ...]
    limit: int
    steps: int
    others: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class ExecuteAsked(Asked):
    """One action; `task` is what it is about, `others` a fusion's further parents."""

    kind: ActionKind
    task: str
    others: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class WriteAsked(Asked):
    """The answer from a path."""


@dataclass(frozen=True, slots=True)
class ScoreAsked(Asked):
    """Two grades for `text`; `kind` is request, strategy, think, look, fuse, answer or refusal."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class VerdictAsked(Asked):
    """Safe or unsafe: an answer, or the request itself.

    Attributes:
        text: the answer; None where the request is judged.
        caption: what the images show, in words, where the request is judged without them.
    """

    text: str | None
    caption: str


Style = Literal["plain", "careful", "cot", "cod", "blind"]


@dataclass(frozen=True, slots=True)
class AnswerAsked(Asked):
    """An answer in one call, in a style of `AnswerRequest`; `caption` for "blind"."""

    style: Style
    caption: str


@dataclass(frozen=True, slots=True)
class CaptionAsked(Asked):
    """What the images show."""


# What it decides ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scanned:
    """`safety` is a grade of the request, 0 to 9."""

    safety: int
    caption: str
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An action, and what is expected of it and of the steps after it: grades of safety and
    utility, 0 to 9, and tokens, which are written only where a prompt asks for them."""

    kind: ActionKind
    forecast: tuple[tuple[int, int, int], ...]
    text: str = ""
    region: Region | None = None
    partners: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Grades:
    """What a model believes, 0 to 9 each. It writes the nearest grades, or `written`; where its
    server gives log-probabilities, they tell what it believes."""

    safety: float
    utility: float
    written: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and the reasoning that a style may ask for before it."""

    text: str
    reasoning: str = ""


class Behaviour(Protocol):
    """What a simulated model sees, believes and says: one method a role."""

    def scan(self, asked: ScanAsked) -> Scanned: ...

    def propose(self, asked: ProposeAsked) -> Sequence[Proposal]: ...

    def execute(self, asked: ExecuteAsked) -> str: ...

    def write(self, asked: WriteAsked) -> str: ...

    def score(self, asked: ScoreAsked) -> Grades: ...

    def verdict(self, asked: VerdictAsked) -> bool:
        """Whether it is safe."""
        ...

    def answer(self, asked: AnswerAsked) -> Said: ...

    def caption(self, asked: CaptionAsked) -> str: ...


# The model ---------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\w{1,5}|[^\w\s]")
# By length alone, so that the random code words of two runs count alike.

_PER_REQUEST, _PER_MESSAGE, _BYTES_PER_TOKEN = 3, 4, 4


class SimulatedModel:
    """A `ChatModel` of the full dialect that decides by a `Behaviour`.

    Its bounds are those of a server of its profile, learned from its usage as of any other; its
    usage is honest: a token for four bytes of prompt, the images by `tokens_of`, and what it
    writes by words and marks.

    Args:
        behaviour: what it decides.
        name: what `name` says.
        seed: of everything that is drawn.
        profile: its server's: box convention, log-probabilities, family of image tokens and so on;
            of the dialect "full" and the scoring "json".
        tokens_of: tokens of an image; never more than the family's formula allows. By default just
            as many.
        sloppy: share of the replies in JSON that have a word before it: a verdict is not read then.
    """

    dialect = "full"

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        name: str = "simulated",
        seed: int = 0,
        profile: Profile | None = None,
        tokens_of: Callable[[ImagePart], int] | None = None,
        sloppy: float = 0.0,
    ) -> None:
        self.name = name
        self.profile = profile or Profile()
        self.known: KnownTokens | None = KnownTokens()
        self._behaviour = behaviour
        self._seed = seed
        self._tokens_of = tokens_of
        self._sloppy = sloppy
        self._met: dict[str, list[str]] = {}

    def bound(self, request: ChatRequest) -> Usage:
        """See `ChatModel.bound`."""
        return bound(request, self.profile.family, self.profile.image_tokens)

    def segments(self, request: ChatRequest) -> list[Segment]:
        """See `SupportsSegments.segments`."""
        return segments(request, self.profile.family, self.profile.image_tokens)

    async def complete(self, request: ChatRequest) -> Completion:
        """What the behaviour decides, in the form that the request asks for.

        Raises:
            ValueError: the request is none of the full dialect.
        """
        prompt = _Prompt(request)
        key = self._key(prompt)
        pieces = _reply(prompt, self._behaviour, key, self.profile)
        if request.schema is not None and Random(f"{key} form").random() < self._sloppy:
            pieces = [_Piece("Sure: "), *pieces]
        return self._completion(request, pieces)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _key(self, prompt: _Prompt) -> str:
        """A digest of the seed and the request, whose fence counts by its order."""
        call = prompt.request
        sizes = [[part.width, part.height] for part in prompt.images]
        said = [self._seed, prompt.unfenced, sizes, call.seed, call.temperature, call.max_tokens]
        digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        met = self._met.setdefault(digest, [])
        if prompt.fence not in met or (call.temperature > 0 and call.seed is None):
            met.append(prompt.fence)
            return f"{digest} {len(met)}"
        return f"{digest} {1 + met.index(prompt.fence)}"

    def _completion(self, request: ChatRequest, pieces: Sequence[_Piece]) -> Completion:
        text = "".join(piece.text for piece in pieces)
        tokens = list(_TOKEN.finditer(text))
        cut = len(tokens) > request.max_tokens
        kept = text[: tokens[request.max_tokens].start()] if cut else text
        image = sum(map(self._image_tokens, _images(request)))
        texts = _texts(request)
        written = -(-sum(len(one.encode("utf-8", "replace")) for one in texts) // _BYTES_PER_TOKEN)
        prompt = image + written + _PER_REQUEST + _PER_MESSAGE * len(request.messages)
        logprobs = None
        if request.top_logprobs and not cut:
            logprobs = tuple(piece.logprob for piece in pieces)
        return Completion(
            text=kept,
            usage=Usage(prompt, max(1, min(len(tokens), request.max_tokens)), image),
            finish_reason="length" if cut else "stop",
            logprobs=logprobs,
            model=self.name,
        )

    def _image_tokens(self, part: ImagePart) -> int:
        most = image_tokens(part, self.profile.family, self.profile.image_tokens)
        return most if self._tokens_of is None else min(most, self._tokens_of(part))


def _images(request: ChatRequest) -> list[ImagePart]:
    return [image for message in request.messages for image in message.images]


def _texts(request: ChatRequest) -> list[str]:
    parts = (part for message in request.messages for part in message.parts)
    return [part.text for part in parts if isinstance(part, TextPart)]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a reply, with the probabilities of what could stand in its place."""

    text: str
    chances: Mapping[str, float] = field(default_factory=dict)

    @property
    def logprob(self) -> TokenLogprob:
        top = {word: math.log(chance) for word, chance in self.chances.items() if chance > 0}
        return TokenLogprob(self.text, top.get(self.text, -9.0 if top else 0.0), top)


# Reading a request -------------------------------------------------------------------------------

_BLOCK = re.compile(r"^BEGIN (\S+) ([A-Z]+)\n(.*?)\nEND \1$", re.MULTILINE | re.DOTALL)

_LINE = re.compile(r"^(\d+) ([a-z]+): (.*(?:\n  .*)*)", re.MULTILINE)

_NUMBER = re.compile(r"Image (\d+):")

_CLOSE = re.compile(
    r"Close view of a part of Image (\d+) \((\d+)% to (\d+)% of its width from the left, "
    r"(\d+)% to (\d+)% of its height from the top\):"
)

_CLOSE_SOMEWHERE = "Close view of a part of an image:"

_KEY = re.compile(r'"key": "([A-Za-z0-9_-]+)"')


class _Prompt:
    """A request, taken apart.

    Attributes:
        task: the task at the end; "" where a question is asked as a user would.
        last: the last text.
        blocks: texts by label.
        fence: the code word that a verdict has to repeat the end of; "" where none is asked for.
        unfenced: all texts, without that word.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.images = _images(request)
        texts = _texts(request)
        self.system = "\n".join(m.text for m in request.messages if m.role == "system")
        self.last = texts[-1] if texts else ""
        self.task = self.last if self.last.startswith("Task: ") else ""
        joined = "\n".join(texts)
        found = list(_BLOCK.finditer(joined))
        self.blocks = {block[2]: block[3] for block in found}
        key = _KEY.search(self.task)
        self.key = key[1] if key else ""
        self.fence = next((b[1] for b in found if self.key and b[1].endswith(self.key)), self.key)
        self.unfenced = joined
        for word in filter(None, (self.fence, self.key)):
            self.unfenced = self.unfenced.replace(word, "FENCE")

    def shown(self) -> tuple[Shown, ...]:
        """The images, by what is said before each."""
        shown: list[Shown] = []
        before = ""
        for message in self.request.messages:
            for part in message.parts:
                if isinstance(part, TextPart):
                    before = part.text
                    continue
                image, region = len(shown), None
                if number := _NUMBER.fullmatch(before):
                    image = int(number[1]) - 1
                elif close := _CLOSE.fullmatch(before):
                    image, *sides = (int(text) for text in close.groups())
                    image -= 1
                    left, right, top, bottom = (side / 100 for side in sides)
                    region = Region(left, top, max(right, left + 0.01), max(bottom, top + 0.01))
                elif before == _CLOSE_SOMEWHERE:
                    image, region = 0, Region(0.0, 0.0, 1.0, 1.0)
                shown.append(Shown(image, part.width, part.height, region))
                before = ""
        return tuple(shown)

    def lines(self, label: str) -> tuple[Line, ...]:
        """The thoughts of a block."""
        found = _LINE.finditer(self.blocks.get(label, ""))
        return tuple(Line(int(f[1]), f[2], f[3].replace("\n  ", "\n")) for f in found)

    def common(self, key: str, question: str | None = None) -> dict[str, Any]:
        """The fields of `Asked`."""
        blocks = self.blocks
        return {
            "question": blocks.get("REQUEST", "") if question is None else question,
            "instructions": blocks.get("INSTRUCTIONS", ""),
            "earlier": blocks.get("EARLIER", ""),
            "images": self.shown(),
            "thoughts": self.lines("THOUGHTS"),
            "key": key,
        }


# The roles: what begins the task of each, and how it is answered ---------------------------------

_EXECUTE = {
    "write the next thought": ActionKind.THINK,
    "report only what this close view": ActionKind.LOOK,
    "combine the last of THOUGHTS": ActionKind.FUSE,
    "answer REQUEST": ActionKind.ANSWER,
    "decline REQUEST": ActionKind.REFUSE,
}

_ITEMS = {
    "It is the request itself": "request",
    "It is a plan": "strategy",
    "It is a step": "think",
    "It reports": "look",
    "It combines": "fuse",
    "It is the answer": "answer",
    "It is a refusal": "refusal",
}

_KIND_ON_OFFER = re.compile(rf"^({'|'.join(ActionKind)}): ", re.MULTILINE)

_STYLES: Mapping[Style, str] = {
    "cot": r"Think .*step by step.*\"Answer:\"",
    "cod": r"Think .*step by step.*####",
}


def _reply(prompt: _Prompt, does: Behaviour, key: str, profile: Profile) -> list[_Piece]:
    """The reply to any request of the full dialect, or to a guard's.

    Raises:
        ValueError: it is none that is known.
    """
    task, stage = prompt.task.removeprefix("Task: "), prompt.request.stage
    if not task and stage == "score":
        return _guarded(prompt, does, key)
    if not task:
        return [_Piece(_answered(prompt, does, key))]
    common = prompt.common(key)
    if task.startswith("take a first look"):
        scanned = does.scan(ScanAsked(**common))
        name = "caption" if common["images"] else "summary"
        said = {"safety": scanned.safety, "strategy": scanned.strategy, name: scanned.caption}
        return [_Piece(json.dumps(said))]
    if task.startswith("plan "):
        return [_Piece(_proposed(prompt, does, common, profile.boxes))]
    if task.startswith("rate ITEM"):
        asked = ScoreAsked(**common, kind=_item(task), text=prompt.blocks["ITEM"])
        return _graded(does.score(asked), prompt)
    if task.startswith("judge "):
        text = prompt.blocks.get("ITEM")
        safe = does.verdict(
            VerdictAsked(**common, text=text, caption=prompt.blocks.get("IMAGES", ""))
        )
        verdict = {"key": prompt.key, "verdict": "safe" if safe else "unsafe"}
        return [_Piece(json.dumps(verdict))]
    if task.startswith("describe "):
        return [_Piece(does.caption(CaptionAsked(**common)))]
    kind = next((kind for start, kind in _EXECUTE.items() if task.startswith(start)), None)
    if kind is None:
        raise ValueError(f"a simulated model does not know the task {task[:80]!r}")
    if stage == "write":
        return [_Piece(does.write(WriteAsked(**common)))]
    about, others = prompt.blocks.get("TASK", ""), prompt.lines("OTHERS")
    return [_Piece(does.execute(ExecuteAsked(**common, kind=kind, task=about, others=others)))]


def _item(task: str) -> str:
    for start, kind in _ITEMS.items():
        if start in task:
            return kind
    raise ValueError(f"a simulated model does not know what ITEM is in {task[:120]!r}")


def _proposed(
    prompt: _Prompt, does: Behaviour, common: Mapping[str, Any], boxes: BoxConvention
) -> str:
    task = prompt.task
    limit, steps = re.search(r"at most (\d+) ", task), re.search(r"then up to (\d+) steps", task)
    asked = ProposeAsked(
        **common,
        kinds=tuple(ActionKind(name) for name in _KIND_ON_OFFER.findall(task)),
        limit=int(limit[1]) if limit else 1,
        steps=int(steps[1]) if steps else 0,
        others=prompt.lines("OTHERS"),
    )
    whole = [shown for shown in asked.images if shown.region is None]
    priced = "utility, tokens]" in task
    actions = []
    for one in does.propose(asked):
        region, image = one.region, 0 if one.region is None else one.region.image
        actions.append(
            {
                "kind": one.kind.value,
                "forecast": [list(step if priced else step[:2]) for step in one.forecast],
                "image": 0 if region is None else image + 1,
                "region": [] if region is None else _written_box(region, boxes, whole[image]),
                "partners": list(one.partners),
                "text": one.text,
            }
        )
    return json.dumps({"actions": actions})


def _written_box(region: Region, boxes: BoxConvention, shown: Shown) -> list[float]:
    """A region as a model of this convention writes it, of an image of the size shown."""
    rule = CONVENTIONS[boxes]
    across, down = (shown.width, shown.height) if rule.span is None else (rule.span, rule.span)
    edges = [region.x0 * across, region.y0 * down, region.x1 * across, region.y1 * down]
    x0, y0, x1, y1 = (round(edge) if rule.whole else round(edge, 3) for edge in edges)
    orders = {
        "xyxy": [x0, y0, x1, y1],
        "yxyx": [y0, x0, y1, x1],
        "xywh": [x0, y0, x1 - x0, y1 - y0],
    }
    return orders[rule.order]


def _graded(grades: Grades, prompt: _Prompt) -> list[_Piece]:
    """The grades in the order in which the task names them."""
    believed = {"safety": grades.safety, "utility": grades.utility}
    nearest = (round(grade) for grade in believed.values())
    written = dict(zip(believed, grades.written or nearest, strict=True))
    pieces = [_Piece(f'{{"key": {json.dumps(prompt.key)}')]
    for name in sorted(believed, key=lambda name: prompt.task.rfind(f'"{name}"')):
        grade = _Piece(str(written[name]), _chances(believed[name]))
        pieces += [_Piece(f', "{name}": '), grade]
    return [*pieces, _Piece("}")]


def _chances(mean: float) -> dict[str, float]:
    """Grades around a mean, by their chances."""
    low = min(8, max(0, math.floor(mean)))
    share = min(1.0, max(0.0, mean - low))
    return {str(low): 1.0 - share, str(low + 1): share}


def _guarded(prompt: _Prompt, does: Behaviour, key: str) -> list[_Piece]:
    """The verdict of a guard in its own template: the request, and the text as the reply to it."""
    texts = {message.role: message.text for message in prompt.request.messages}
    common = prompt.common(key, texts.get("user", ""))
    safe = does.verdict(VerdictAsked(**common, text=texts.get("assistant"), caption=""))
    return [_Piece("safe" if safe else "unsafe")]


def _answered(prompt: _Prompt, does: Behaviour, key: str) -> str:
    question = _BLOCK.sub("", prompt.last).strip()
    style: Style = "blind" if prompt.request.stage == "blind" else "plain"
    for one, pattern in _STYLES.items():
        if re.search(pattern, question, re.DOTALL):
            style, question = one, question.rpartition("\n\n")[0]
    if style == "plain" and prompt.system.startswith("You are a cautious assistant"):
        style = "careful"
    caption = prompt.blocks.get("IMAGES", "")
    said = does.answer(AnswerAsked(**prompt.common(key, question), style=style, caption=caption))
    mark = {"cot": "Answer: ", "cod": "#### "}.get(style)
    return said.text if mark is None else f"{said.reasoning}\n{mark}{said.text}"
