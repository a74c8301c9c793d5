"""Token bounds against documented examples and against what users were billed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.errors import InputError
from ecoalign.models import (
    ChatRequest,
    ImagePart,
    Message,
    TextPart,
    bound,
    image_family,
    segments,
)
from ecoalign.models._tokens import FAMILIES, image_tokens, text_tokens


def image(width: int, height: int, detail: str = "high") -> ImagePart:
    assert detail in {"auto", "low", "high"}
    return ImagePart(b"", "image/png", width, height, "low" if detail == "low" else "high")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("chatgpt-4o-latest", "gpt-4o"),
        ("gpt-4-turbo", "gpt-4o"),
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("o1", "o-series"),
        ("o3-2025-04-16", "o-series"),
        ("o4-mini", "o4-mini"),
        ("gpt-5", "gpt-5"),
        ("gpt-5.2-pro", "gpt-5"),
        ("gpt-5-mini", "gpt-5-mini"),
        ("gpt-5.4-nano-2026-03-17", "gpt-5-nano"),
        ("gpt-6", "openai"),
        ("o5", "openai"),
        ("google/gemini-2.5-flash", "gemini"),
        ("claude-sonnet-4-5", "claude"),
        ("qwen-vl-max", "qwen"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen"),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "llama-vision"),
        ("llama3.2-vision:11b", "llama-vision"),
        ("Llama-4-Scout-17B", "llama-4"),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", "llava-onevision"),
        ("llava-v1.6-mistral-7b", "llava"),
        ("OpenGVLab/InternVL3-14B", "internvl"),
        ("google/gemma-3-12b-it", "gemma"),
        ("google/paligemma-3b-mix-448", "unknown"),
        ("mistralai/Pixtral-12B-2409", "mistral"),
        ("gpt-oss-20b", "unknown"),
        ("my-deployment", "unknown"),
        ("", "unknown"),
    ],
)
def test_families(model: str, family: str) -> None:
    assert image_family(model) == family


@pytest.mark.parametrize(
    ("family", "width", "height", "detail", "documented"),
    [
        # OpenAI's own examples.
        ("gpt-4o", 1024, 1024, "high", 765),
        ("gpt-4o", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-4o-mini", 1024, 1024, "high", 2833 + 4 * 5667),
        ("gpt-4o-mini", 10, 10, "low", 2833),
        ("gpt-5", 1024, 1024, "low", 1229),
        ("o-series", 128, 64, "high", 225),
        ("o-series", 128, 64, "low", 75),
        ("gpt-4.1", 1024, 1024, "high", 1024),
        ("gpt-4.1-mini", 1024, 1024, "high", 1659),
        ("gpt-4.1-mini", 4000, 1474, "high", 2489),
        ("gpt-4.1-nano", 4000, 4000, "low", 3779),
        ("o4-mini", 128, 64, "low", 14),
        # Gemini: 258 a tile, never under the budget of its later versions.
        ("gemini", 300, 300, "high", 2304),
        ("gemini", 5000, 200, "high", 258 * 20),
        ("llama-vision", 560, 560, "high", 1601),
        ("llama-vision", 561, 560, "high", 3202),
        ("llama-vision", 3000, 100, "high", 6404),
        ("qwen", 28 * 30, 28 * 20, "high", 602),
        ("internvl", 1, 1, "high", 3400),
        ("llava-onevision", 384, 384, "high", 2 * 729 + 27),
        ("llava-onevision", 5000, 5000, "high", 7500),
        ("unknown", 1, 1, "low", 4000),
        ("unknown", 512, 512, "low", 4000),
        ("unknown", 1200, 1100, "low", 7500),
        ("unknown", 2800, 2800, "low", 201 * 200),
    ],
)
def test_formulas(family: str, width: int, height: int, detail: str, documented: int) -> None:
    assert image_tokens(image(width, height, detail), family) == documented


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "billed"),
    [
        # Users' measurements, with the few tokens of text around the image.
        ("gpt-4.1", 1800, 2400, "high", 773),
        ("gpt-4.1", 2049, 513, "high", 1453),
        ("gpt-4.1-mini", 2400, 1800, "high", 2362),
        ("gpt-4.1-mini", 4000, 1474, "high", 2498),
        ("o3-2025-04-16", 128, 64, "high", 236),
        ("o4-mini-2025-04-16", 128, 64, "low", 26),
        ("gpt-4o-mini-2024-07-18", 128, 64, "low", 2845),
        ("gpt-4o-mini-2024-07-18", 128, 64, "high", 8512),
        ("gpt-4o-2024-11-20", 128, 64, "high", 267),
        ("o1-2024-12-17", 128, 64, "low", 22),
        ("gpt-5-nano", 1536, 1024, "high", 2334),
    ],
)
def test_bounds_hold_for_what_was_billed(
    model: str, width: int, height: int, detail: str, billed: int
) -> None:
    parts = (image(width, height, detail), TextPart("repeat word from attached image"))
    request = ChatRequest((Message("user", parts),), 16, "test")
    estimate = bound(request, image_family(model))
    assert estimate.prompt >= billed
    assert estimate.completion == 16


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6000), st.integers(1, 6000), st.sampled_from(sorted(FAMILIES)))
def test_image_bounds_are_sane(width: int, height: int, family: str) -> None:
    high, low = (image_tokens(image(width, height, d), family) for d in ("high", "low"))
    assert 1 <= low <= high
    auto = image_tokens(ImagePart(b"", "image/png", width, height, "auto"), family)
    assert auto == high


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([28, 32]))
def test_qwen_bound_covers_its_own_rounding(width: int, height: int, cell: int) -> None:
    """The published resizing: sides to the nearest cell, then up or down to the area allowed."""
    if max(width, height) / min(width, height) > 200:
        return  # refused by the server
    across, down = max(1, round(width / cell)), max(1, round(height / cell))
    least = 262_144
    if across * down * cell * cell < least:
        grow = (least / (width * height)) ** 0.5
        across, down = -int(-width * grow // cell), -int(-height * grow // cell)
    assert image_tokens(image(width, height), "qwen") >= across * down


@given(st.text(max_size=100))
def test_text_is_bounded_by_bytes(text: str) -> None:
    assert text_tokens(text) >= len(text)
    assert text_tokens(text) == len(text.encode("utf-8", "replace"))


def test_everything_that_is_sent_is_counted() -> None:
    plain = ChatRequest((Message("user", (TextPart("hello"),)),), 7, "test")
    base = bound(plain, "unknown")
    assert base.image == 0
    assert base.prompt >= 5 + 100  # a template may insert a long default system prompt
    schema = {"type": "object", "title": "ü" * 50}
    with_schema = ChatRequest(plain.messages, 7, "test", schema=schema)
    assert bound(with_schema, "unknown").prompt >= base.prompt + 100
    extra = {"guided_regex": "x" * 90}
    with_extra = ChatRequest(plain.messages, 7, "test", extra=extra)
    assert bound(with_extra, "unknown").prompt >= base.prompt + len(json.dumps(extra))
    two = ChatRequest((*plain.messages, Message("user", (image(9, 9), image(9, 9)))), 7, "test")
    assert bound(two, "unknown").image == 8_000
    assert bound(two, "unknown").prompt > base.prompt + 8_000


def test_what_was_measured_bounds_images_of_that_size_alone() -> None:
    measured = {"512x384": 131}
    assert image_tokens(image(512, 384), "unknown", measured) == 131 + 4
    assert image_tokens(image(384, 512), "unknown", measured) == 4000
    # Never above the formula, and for OpenAI's the detail counts as well.
    assert image_tokens(image(512, 384), "unknown", {"512x384": 9000}) == 4000
    assert image_tokens(image(512, 384), "gpt-4o", measured) == 255


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2304), st.integers(1, 2304))
def test_llava_onevision_bound_covers_the_published_choice_of_tiles(
    width: int, height: int
) -> None:
    """Of the grids of 384 px tiles the one that keeps most of the image, then wastes least."""

    def kept(grid: tuple[int, int]) -> tuple[int, int]:
        scale = min(grid[0] / width, grid[1] / height)
        pixels = min(int(width * scale) * int(height * scale), width * height)
        return pixels, -(grid[0] * grid[1] - pixels)

    grids = [(384 * across, 384 * down) for across in range(1, 7) for down in range(1, 7)]
    across, down = (side // 384 for side in max(grids, key=kept))
    features = min(across * down, 9) * 729 + 27 * min(down, 9)
    assert image_tokens(image(width, height), "llava-onevision") >= 729 + features


TEXTS = st.lists(st.text(st.sampled_from("ab\nü "), max_size=12), max_size=4)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(0, 3), st.booleans())
def test_the_segments_of_a_prompt_add_up_to_its_bound(
    texts: list[str], images: int, parameters: bool
) -> None:
    parts: tuple[TextPart | ImagePart, ...] = tuple(map(TextPart, texts))
    parts += tuple(image(9 + i, 9) for i in range(images))
    request = ChatRequest(
        (Message("system", parts[:1]), Message("user", parts[1:])),
        7,
        "test",
        schema={"a": 1} if parameters else None,
        client={"tools": [{"x": 1}]} if parameters else {},
    )
    found = segments(request, "unknown")
    assert sum(one.tokens for one in found) == bound(request, "unknown").prompt
    sent = sum(map(text_tokens, texts))
    assert sum(one.tokens for one in found if str(one.key).startswith("('line'")) == sent
    # A schema is in the prompt or not, as the server takes it: no call pays for another's.
    assert sum(one.key is None for one in found) == parameters


def test_an_unknown_family_is_an_input_error() -> None:
    with pytest.raises(InputError, match="gpt-4o-mini"):
        image_tokens(image(1, 1), "nonsense")
