"""Upper bounds of the tokens of a call, known before the call is made.

A hard budget reserves the worst case of a call first and settles at the real usage afterwards, so
every number here errs on the high side. No tokenizer is needed:

- Text. A byte-level BPE, and a sentence-piece model with byte fallback, never makes more tokens
  than the text has UTF-8 bytes.
- Chat template. A fixed allowance per request and per message: role markers, separators, and the
  default system prompt that some templates insert.
- Images. One formula per family of models, from the makers' documentation or, where that is
  contradicted by what users were billed, the larger of the two. See `FAMILIES`.
- A client's parameters. Tools and schemas are written into the prompt, by some templates indented;
  a prediction may be billed as output beside the answer.

Not covered, because nothing on this side can bound it: tools that a server runs by itself, and
servers that ignore the output cap (some do for hidden reasoning; switch it off there).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from ecoalign.errors import InputError
from ecoalign.models._base import ChatRequest, ImagePart, Usage

Detail = Literal["auto", "low", "high"]

Formula = Callable[[int, int, Detail], int]

# Role markers and separators: ChatML takes 5, Llama 3 headers 6, Mistral fewer.
PER_MESSAGE = 16

# A sentence-piece prefix space, or the markers around an image.
PER_PART = 4

# Default system prompts: Qwen's 20 tokens, Llama 3's date header 25, gpt-oss's preamble 100.
PER_REQUEST = 256

# OpenAI's own templates add 3 tokens in all.
PER_REQUEST_OPENAI = 32

# What templates say about tools beside the tools themselves: Claude's takes up to 530 tokens.
PER_TOOLS = 640

# Wrapping of a schema, whether the server or this package writes it into the prompt.
PER_SCHEMA = 96


def text_tokens(text: str) -> int:
    """Upper bound of the tokens of `text`: its length in UTF-8 bytes."""
    return len(text.encode("utf-8", "replace"))


def _grid(width: int, height: int, cell: int) -> int:
    return math.ceil(width / cell) * math.ceil(height / cell)


def _tiles(base: int, tile: int) -> Formula:
    """OpenAI's older scheme: fit in 2048x2048, shortest side to 768, count 512 px tiles."""

    def formula(width: int, height: int, detail: Detail) -> int:
        if detail == "low":
            return base
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height))
        return base + tile * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)

    return formula


def _patches(multiplier: float, cap: int) -> Formula:
    """OpenAI's newer scheme: 32 px patches, at most `cap` of them, times a factor per model.

    `detail` changes nothing here: users measured that "low" is billed like "high".
    """

    def formula(width: int, height: int, detail: Detail) -> int:
        return math.ceil(min(cap, _grid(width, height, 32)) * multiplier)

    return formula


def _most(*formulas: Formula) -> Formula:
    def formula(width: int, height: int, detail: Detail) -> int:
        return max(one(width, height, detail) for one in formulas)

    return formula


def _gemini(width: int, height: int, detail: Detail) -> int:
    """258 tokens up to 384 px and per tile above it; from 2.5 on a budget of at most 2,304.

    The tile is min(width, height) / 1.5, between 256 and 768 px. Gemini 2.5 takes 256 and up to
    2,048 for pan-and-scan, Gemini 3 takes 1,120 by default and 2,240 at its highest setting.
    """
    unit = min(768, max(256, math.floor(min(width, height) / 1.5)))
    return max(2304, 258 * _grid(width, height, unit))


def _qwen(width: int, height: int, detail: Detail) -> int:
    """Qwen-VL: one token per 28x28 px (2 and 2.5) or 32x32 px (3); small images are enlarged.

    The least area that a published configuration enlarges to is 262,144 px. Enlarging rounds
    both sides up to whole cells; so does `_grid`, where the real rounding is to the nearest.
    """
    enlarge = max(1.0, math.sqrt(262_144 / (width * height)))
    return _grid(math.ceil(width * enlarge), math.ceil(height * enlarge), 28) + 2


def _llama_vision(width: int, height: int, detail: Detail) -> int:
    """Llama 3.2 Vision: 1 to 4 tiles of 560 px, 1,601 embeddings each."""
    return 1601 * min(4, _grid(width, height, 560))


def _claude(width: int, height: int, detail: Detail) -> int:
    """Claude behind a compatible endpoint: an image costs its area / 750, or 28 px patches."""
    return max(math.ceil(width * height / 750), _grid(width, height, 28)) + 16


def _pixtral(width: int, height: int, detail: Detail) -> int:
    """Pixtral and Mistral: 16 px patches (28 px in later ones) and a break after each row."""
    return (math.ceil(width / 16) + 1) * math.ceil(height / 16)


def _llava_onevision(width: int, height: int, detail: Detail) -> int:
    """LLaVA-OneVision: tiles of 384 px, 729 embeddings each, and the whole image as one more.

    Of the grids that lose no pixel the smallest is taken, so never more tiles than cover the image
    (arXiv 2408.03326, section 3.2, "Higher AnyRes"); beyond nine of them embeddings are merged.
    27 line breaks a row of tiles.
    """
    across, down = math.ceil(width / 384), math.ceil(height / 384)
    return min(7500, 729 * (across * down + 1) + 27 * down)


def _fixed(tokens: int) -> Formula:
    return lambda width, height, detail: tokens


def _unknown(width: int, height: int, detail: Detail) -> int:
    """An unknown model: above every open family here, whether it tiles, resizes or patches.

    4,000 covers those that enlarge small images (InternVL 3,328, Idefics 3 2,873 and separators,
    LLaVA-NeXT 2,928); tiles that grow with the image are those of LLaVA-OneVision (up to 7,290 and
    line breaks) and Llama 3.2 Vision (up to 6,404); 14 px patches cover the encoders that take any
    size.
    """
    tiled = max(_llava_onevision(width, height, detail), _llama_vision(width, height, detail))
    return max(4000, tiled, (math.ceil(width / 14) + 1) * math.ceil(height / 14))


# Later OpenAI models than are listed: the dearest patches and the dearest usual tiles.
_OPENAI_LATER = _most(_patches(2.46, 10_000), _tiles(85, 170))

FAMILIES: Mapping[str, tuple[str, Formula]] = {
    # name: (pattern of the model's name, formula). The first match counts.
    "gpt-4o-mini": (r"gpt-4o-mini", _tiles(2833, 5667)),
    "gpt-4.1-mini": (r"gpt-4\.1-mini", _patches(1.62, 1536)),
    "gpt-4.1-nano": (r"gpt-4\.1-nano", _patches(2.46, 1536)),
    # Documented for a while as patches, billed as tiles.
    "gpt-4.1": (r"gpt-4\.1", _most(_tiles(85, 170), _patches(1.0, 1536))),
    "gpt-4o": (
        r"gpt-4o|chatgpt-4o|gpt-4\.5|gpt-4-(turbo|vision)|gpt-4-\d+-vision",
        _tiles(85, 170),
    ),
    "o4-mini": (r"\bo4-mini|codex-mini", _patches(1.72, 1536)),
    "o-series": (r"\bo[13]\b", _tiles(75, 150)),
    "computer-use": (r"computer-use", _tiles(65, 129)),
    # Documented 1.62 and 2.46, billed 1.2 and 1.5; some of the 5.4 line take 2,500 patches.
    "gpt-5-mini": (r"gpt-5[\d.]*-mini", _patches(1.62, 2500)),
    "gpt-5-nano": (r"gpt-5[\d.]*-nano", _patches(2.46, 2500)),
    # Tiles of 70 and 140 in gpt-5 and 5.1; patches at 1.2 since 5.2, with 10,000 at full detail.
    "gpt-5": (r"gpt-5", _most(_tiles(70, 140), _patches(1.2, 10_000))),
    "openai": (r"\bgpt-(?!oss)|\bo\d", _OPENAI_LATER),
    "gemini": (r"gemini", _gemini),
    "claude": (r"claude", _claude),
    # Before the language models that they are built on, whose names they may carry.
    "llava-onevision": (r"llava[-_]?one-?vision", _llava_onevision),
    # 576 to 2,880 by version, and line breaks.
    "llava": (r"llava|bakllava", _fixed(3000)),
    # 12 tiles and a thumbnail, 256 tokens each.
    "internvl": (r"internvl", _fixed(3400)),
    "qwen": (r"qwen|qvq|\bqwq", _qwen),
    "llama-vision": (r"llama-?3[.\d]*-.*vision|llama3\.2-vision", _llama_vision),
    # 16 tiles of 336 px and a global one, 144 tokens and a separator each.
    "llama-4": (r"llama-?4", _fixed(2500)),
    # 256, five times that with pan-and-scan; up to 1,120 since Gemma 4.
    "gemma": (r"(?<!pali)gemma", _fixed(1400)),
    "mistral": (r"pixtral|mistral|magistral|ministral", _pixtral),
    "unknown": (r"", _unknown),
}

_OPENAI_FAMILIES = frozenset(
    name for name in FAMILIES if name.startswith(("gpt-", "o4-", "o-", "openai", "computer"))
)


def image_family(model: str) -> str:
    """The family whose image formula fits a model named `model`, as listed in `FAMILIES`.

    Vendor prefixes ("google/gemini-2.5-flash") and suffixes (":11b") do not matter.
    """
    lowered = model.lower()
    return next(
        name for name, (pattern, _) in FAMILIES.items() if re.search(pattern, lowered) is not None
    )


def check_family(family: str) -> str:
    """`family`, if there is such a one.

    Raises:
        InputError: there is none; the message lists them.
    """
    if family not in FAMILIES:
        raise InputError(
            f"unknown image family {family!r}; choose one of: {', '.join(sorted(FAMILIES))}"
        )
    return family


def image_tokens(
    image: ImagePart,
    family: str,
    measured: Mapping[str, int] | None = None,
) -> int:
    """Upper bound of the tokens of one image for a model of `family` (a key of `FAMILIES`).

    Args:
        image: the image.
        family: the model's.
        measured: tokens by size, "WIDTHxHEIGHT", as its server has reported them. OpenAI's depend
            on the detail, too, so for its families the formula alone counts.

    Raises:
        InputError: there is no such family.
    """
    formula = FAMILIES[check_family(family)][1]
    most = formula(max(1, image.width), max(1, image.height), image.detail)
    known = None if family in _OPENAI_FAMILIES else (measured or {}).get(size_of(image))
    return most if known is None else min(most, known + PER_PART)


def size_of(image: ImagePart) -> str:
    """ "WIDTHxHEIGHT" in pixels."""
    return f"{image.width}x{image.height}"


def _json_bytes(value: object) -> int:
    return text_tokens(json.dumps(value, ensure_ascii=False, default=str))


@lru_cache(maxsize=32)
def _client_tokens(client: str) -> int:
    """Upper bound of what a client's parameters, in JSON, can add to the prompt, however they are
    put."""
    read = json.loads(client)
    indented = (json.dumps(read, indent=4, ensure_ascii=ascii_) for ascii_ in (False, True))
    text = max(map(text_tokens, indented))
    return text + (PER_TOOLS if read.get("tools") else 0) + PER_SCHEMA


class Segment(NamedTuple):
    """A piece of a prompt, which costs about the same in every call that it is in."""

    key: Hashable
    """Equal for equal pieces; None for one that another call may not have paid for, although it
    has it: a schema, which is written into the prompt or not as the server takes it."""
    tokens: int
    """Upper bound."""
    image: ImagePart | None = None
    """The image, if it is one."""


def segments(
    request: ChatRequest,
    family: str,
    measured: Mapping[str, int] | None = None,
) -> list[Segment]:
    """All of a prompt: template, lines of text, images, schema and further parameters.

    Text goes by lines, as tokenizers hardly ever join what a line break separates.

    Args:
        request: the call.
        family, measured: see `image_tokens`.

    Raises:
        InputError: there is no such family.
    """
    per_request = PER_REQUEST_OPENAI if family in _OPENAI_FAMILIES else PER_REQUEST
    out = [Segment("request", per_request)]
    for message in request.messages:
        out.append(Segment("message", PER_MESSAGE))
        for part in message.parts:
            if isinstance(part, ImagePart):
                out.append(Segment(part, PER_PART + image_tokens(part, family, measured), part))
                continue
            out.append(Segment("text", PER_PART))
            *whole, last = _lines(part.text)
            out += [Segment(("line", line), text_tokens(line) + 1) for line in whole]
            out.append(Segment(("line", last), text_tokens(last)))
    if request.schema is not None:
        out.append(Segment(None, PER_SCHEMA + _json_bytes(request.schema)))
    if request.extra:
        extra = json.dumps(request.extra, default=str)
        out.append(Segment(("extra", extra), _json_bytes(request.extra)))
    if request.client:
        client = json.dumps(request.client, default=str)
        out.append(Segment(("client", client), _client_tokens(client)))
    return out


_MOST_LINES = 512
"""Of one text that are told apart; of more, so many neighbours go together."""


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if len(lines) <= _MOST_LINES:
        return lines
    step = -(-len(lines) // _MOST_LINES)
    return ["\n".join(lines[at : at + step]) for at in range(0, len(lines), step)]


def bound(
    request: ChatRequest,
    family: str,
    measured: Mapping[str, int] | None = None,
) -> Usage:
    """Upper bound of what one attempt at `request` can use on a model of `family`.

    The prompt counts text, template, schema, further parameters and images; the completion is
    the cap, `request.max_tokens`, which includes hidden reasoning, and what may come `beyond` it.

    Args:
        request: the call.
        family, measured: see `image_tokens`.

    Raises:
        InputError: there is no such family.
    """
    prompt = image = 0
    for segment in segments(request, family, measured):
        prompt += segment.tokens
        image += 0 if segment.image is None else segment.tokens - PER_PART
    completion = request.max_tokens + request.beyond
    if "prediction" in request.client:
        completion += _json_bytes(request.client["prediction"])
    return Usage(prompt=prompt, completion=completion, image=image)
