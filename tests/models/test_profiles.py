"""The shipped profiles: each line has its source, and fits the models that are meant."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest

from ecoalign.errors import InputError
from ecoalign.models import Profile, open_model, profile_of, shipped_profile

_TABLES = tomllib.loads((files("ecoalign.models") / "profiles.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", _TABLES)
def test_every_line_has_a_source_and_can_be_used(name: str) -> None:
    table = dict(_TABLES[name])
    re.compile(table.pop("pattern"))
    sources = table.pop("sources")
    assert set(sources) == set(table)
    published = [text for text in sources.values() if re.search(r"https://\S+|arXiv \d{4}\.", text)]
    ours = [text for text in sources.values() if text not in published]
    assert all("of our choice" in text or "perf/" in text for text in ours)
    profile = Profile().with_values({**table, "sources": sources}, "the family")
    plain = Profile()
    # The default is no line: it would say that something is known. Of these two it is.
    alike = {key for key in table if getattr(profile, key) == getattr(plain, key)}
    assert alike <= {"boxes", "smallest_image"}
    open_model("m", "http://127.0.0.1:9/v1", tune=lambda _: profile)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o", {}),
        ("gpt-4.1-mini-2025-04-14", {}),
        ("gpt-5", {"reasoning_effort": "minimal", "thinking": 1024, "logprobs": 0}),
        ("openai/gpt-5-nano", {"reasoning_effort": "minimal"}),
        ("gpt-5.1", {"reasoning_effort": "none", "thinking": 0, "logprobs": 20}),
        ("gpt-5-chat-latest", {"reasoning_effort": None}),
        ("gpt-5.1-chat-latest", {"reasoning_effort": None}),
        ("o3", {"reasoning_effort": "low", "thinking": 2048}),
        ("openai/o4-mini-2025-04-16", {"reasoning_effort": "low"}),
        ("foo3", {"reasoning_effort": None}),
        ("gemini-2.5-flash", {"boxes": "yxyx-1000", "reasoning_effort": "none", "thinking": 0}),
        ("google/gemini-2.5-pro", {"reasoning_effort": "low", "thinking": 1024}),
        ("gemini-3-flash-preview", {"reasoning_effort": "low", "boxes": "yxyx-1000"}),
        ("gemini-2.0-flash", {"reasoning_effort": None, "boxes": "yxyx-1000"}),
        ("claude-sonnet-4-5", {"schema_mode": "prompt", "logprobs": 0, "seed": False}),
        ("Qwen/Qwen3-VL-8B-Instruct", {"boxes": "xyxy-1000", "thinking": 0, "smallest_image": 32}),
        ("Qwen/Qwen3-VL-8B-Thinking", {"thinking": 4096, "smallest_image": 32}),
        ("qwen3-vl:8b", {"boxes": "xyxy-1000", "smallest_image": 32}),
        ("qwen2.5vl:7b", {"boxes": "xyxy-pixels", "smallest_image": 28}),
        ("Qwen/Qwen2-VL-7B-Instruct", {"boxes": "xyxy-1000", "smallest_image": 28}),
        ("llama3.2-vision:11b", {"system": "user"}),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", {"system": "user"}),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", {"system": "system"}),
        ("google/gemma-3-27b-it", {"view_pixels": 896, "crop_pixels": 896}),
        ("google/paligemma-3b", {"view_pixels": 512}),
        ("zai-org/GLM-4.5V", {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}),
        ("zai-org/GLM-4.1V-9B-Thinking", {"thinking": 4096, "extra_body": {}}),
        ("moonshotai/Kimi-VL-A3B-Instruct", {"boxes": "xyxy-1", "thinking": 0}),
        ("moonshotai/Kimi-VL-A3B-Thinking", {"boxes": "xyxy-1", "thinking": 2048}),
        ("llava:13b", {"boxes": "xyxy-1"}),
        ("llava-onevision-qwen2-7b", {"boxes": "xyxy-1000"}),
    ],
)
def test_a_models_family(model: str, expected: dict[str, object]) -> None:
    profile = shipped_profile(model)
    assert {name: getattr(profile, name) for name in expected} == expected


def test_what_a_provider_calls_a_model_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "or-1")
    model = open_model("openrouter:google/gemini-2.5-flash")
    assert profile_of(model).boxes == "yxyx-1000"
    assert profile_of(model).family == "gemini"


@pytest.mark.parametrize("tokens", [0, -100_000])
def test_an_image_takes_tokens(tokens: int) -> None:
    with pytest.raises(InputError, match="image_tokens"):
        Profile().with_values({"image_tokens": {"448x448": tokens}}, "a file")
