"""Each finding is right, for servers that can and servers that cannot."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from capable import Capable
from hostile import HostileServer, Reply

from ecoalign import Settings
from ecoalign.budget import Budget
from ecoalign.errors import ModelError
from ecoalign.models import Profile, Usage, read_profile
from ecoalign.models.fake import FakeModel
from ecoalign.probe import Report, default_budget, probe
from ecoalign.probe._calls import Reply as Answer
from ecoalign.probe._checks import _cache


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def _probed(server: Capable, model: str = "some-model", **settings: Any) -> Report:
    with HostileServer(server) as running:
        return probe(settings=Settings(model=model, base_url=running.url, **settings))


def test_a_server_that_can_do_it_all() -> None:
    server = Capable(counter="vllm", caches=True)
    report = _probed(server)
    assert report.problems == []
    assert report.measured == {
        "usage": True,
        "thinking": 0,
        "bytes_per_token": pytest.approx(4, abs=0.1),
        "caps_honoured": True,
        "tokenize": "/tokenize",
        "image_tokens": {"224x224": 100, "512x384": 100, "1024x768": 100},
        "system": "system",
        "prefix_cache": True,
        "schema_mode": "json_schema",
        "logprobs": 20,
        "seed": True,
        "boxes": "xyxy-1000",
        "smallest_image": 8,
    }
    assert len(server.asked) <= 14
    assert report.spent.calls == len(server.asked)
    assert report.model == "openai:some-model"


@pytest.mark.parametrize(
    ("server", "field", "value"),
    [
        (Capable(schema="object"), "schema_mode", "json_object"),
        (Capable(schema="dropped"), "schema_mode", "prompt"),
        (Capable(schema="refused"), "schema_mode", "prompt"),
        (Capable(logprobs=5), "logprobs", 5),
        (Capable(logprobs=0), "logprobs", 0),
        (Capable(logprobs=-1), "logprobs", 0),
        (Capable(seed=False), "seed", False),
        (Capable(seed=False), "logprobs", 20),
        (Capable(seed=False, logprobs=0), "logprobs", 0),
        (Capable(seed=False, logprobs=0), "seed", False),
        (Capable(logprobs=0), "seed", True),
        (Capable(system="refused"), "system", "user"),
        (Capable(system="dropped"), "system", "user"),
        (Capable(usage=False), "usage", False),
        (Capable(capped=False), "caps_honoured", False),
        (Capable(capped=False, usage=False), "caps_honoured", False),
        (Capable(usage=False), "caps_honoured", True),
        (Capable(counter="llama.cpp"), "tokenize", "/tokenize"),
        (Capable(), "tokenize", ""),
        (Capable(), "prefix_cache", False),
        (Capable(smallest=28), "smallest_image", 28),
        (Capable(smallest=32), "smallest_image", 32),
        (Capable(smallest=60), "smallest_image", 224),
        (Capable(boxes="yxyx-1000"), "boxes", "yxyx-1000"),
        (Capable(boxes="xyxy-1"), "boxes", "xyxy-1"),
        (Capable(boxes="xyxy-1024"), "boxes", "xyxy-1024"),
        (Capable(boxes="xyxy-pixels"), "boxes", "xyxy-pixels"),
        (Capable(boxes="xywh-pixels"), "boxes", "xywh-pixels"),
        (Capable(boxes=""), "boxes", None),
        (Capable(sees="refused"), "image_tokens", None),
        (Capable(sees="refused"), "images", False),
        (Capable(sees="dropped"), "images", False),
        (Capable(sees="yes"), "images", None),
        (Capable(sees="dropped"), "image_tokens", None),
        (Capable(sees="refused"), "schema_mode", "json_schema"),
    ],
)
def test_a_finding(server: Capable, field: str, value: object) -> None:
    assert _probed(server).measured.get(field) == value


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Capable(sees="refused"), "vision part (llama.cpp: --mmproj)"),
        (Capable(sees="dropped"), "images: ignored in silence: answers are made up; start the"),
        (Capable(capped=False), "cap on the output: ignored"),
    ],
)
def test_what_keeps_something_from_working_is_a_problem(server: Capable, said: str) -> None:
    assert [said in problem for problem in _probed(server).problems] == [True]


@pytest.mark.parametrize(
    ("limiter", "field", "value"),
    [
        (
            {"chat_template_kwargs": {"enable_thinking": False}},
            "extra_body",
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        ({"reasoning_effort": "minimal"}, "reasoning_effort", "minimal"),
        ({"enable_thinking": False}, "extra_body", {"enable_thinking": False}),
    ],
)
def test_hidden_reasoning_and_what_limits_it(
    limiter: dict[str, object], field: str, value: object
) -> None:
    report = _probed(Capable(thinks=300, limited_by=limiter))
    assert report.measured[field] == value
    assert report.measured["thinking"] == 0
    # Found out with the limit in force: nothing else is spoilt by the thinking.
    assert report.measured["schema_mode"] == "json_schema"
    assert report.measured["boxes"] == "xyxy-1000"


def test_hidden_reasoning_that_nothing_limits_gets_room() -> None:
    report = _probed(Capable(thinks=300))
    assert report.measured["thinking"] == 640
    assert "extra_body" not in report.measured
    # Every later cap left room for it.
    assert report.measured["schema_mode"] == "json_schema"
    assert report.measured["caps_honoured"] is True


def test_the_published_least_size_is_not_undercut() -> None:
    server = Capable(smallest=28)
    report = _probed(server, model="qwen2.5vl:7b")
    assert report.measured["smallest_image"] == 28


def test_a_budget_that_is_used_up_ends_the_probe_and_is_kept() -> None:
    server = Capable()
    with HostileServer(server) as running:
        settings = Settings(model="some-model", base_url=running.url)
        report = probe(settings=settings, budget="9000")
    assert report.spent.tokens.total <= 9000
    assert [one for one in report.problems if "budget" in one]
    assert report.measured["usage"] is True
    assert "boxes" not in report.measured


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"error": {"message": "no such model"}}, 404), "no such model"),
        (Reply({"error": {"message": "bad key"}}, 401), "wants a key; set OPENAI_API_KEY"),
    ],
)
def test_a_server_that_answers_nobody(reply: Reply, said: str) -> None:
    with HostileServer(lambda _: reply) as running, pytest.raises(ModelError, match=said) as caught:
        probe(settings=Settings(model="m", base_url=running.url))
    assert len(running.received) == 1
    assert "\n" not in str(caught.value)


def test_a_server_that_dies_in_the_middle_leaves_what_was_found() -> None:
    server = Capable()

    def dying(request: Any) -> Reply:
        return server(request) if len(server.asked) < 4 else Reply(raw=b"")

    with HostileServer(dying) as running:
        report = probe(settings=Settings(model="m", base_url=running.url, retries=0))
    assert report.measured["usage"] is True
    assert report.findings


def test_the_file_is_what_was_measured_with_how_and_when() -> None:
    report = _probed(Capable(schema="refused", thinks=300, boxes="xyxy-pixels"))
    text = report.to_toml()
    values = tomllib.loads(text)
    about = values.pop("about")
    assert (about["model"], about["base_url"]) == (report.model, report.base_url)
    assert values == report.measured
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(tuple(values)):
            comments = [one for one in lines[max(0, number - 3) : number] if one.startswith("#")]
            assert comments[-1].endswith(f"({report.when})")
    path = report.save()
    assert read_profile(path, Profile()).hash == report.profile.hash


def test_what_a_server_says_cannot_break_the_file() -> None:
    said = 'no\n"]\x07\x7f\u202e image_url ' + "\U0001f600"
    server = Capable()

    def rude(request: Any) -> Reply:
        reply = server(request)
        if b"image_url" in request.body:
            return Reply({"error": {"message": said}}, 400)
        return reply

    with HostileServer(rude) as running:
        report = probe(settings=Settings(model="m", base_url=running.url))
    values = tomllib.loads(report.to_toml())
    assert values["usage"] is True


def test_a_model_in_this_process_needs_no_probe() -> None:
    for model in ("embedded", FakeModel(lambda _: "")):
        report = probe(model)
        assert (report.measured, report.spent.calls, report.base_url) == ({}, 0, "")
        assert "in this process" in report.findings[0].found


def test_the_default_budget_covers_the_images_of_a_family() -> None:
    small, large = Settings(base_url="http://h/v1"), Settings(base_url="http://h/v1")
    internvl = default_budget(small.open_model("internvl3"))
    unknown = default_budget(large.open_model("some-model"))
    assert isinstance(internvl, Budget)
    assert (internvl.tokens or 0) < (unknown.tokens or 0) <= 150_000


def _reply(seconds: float, cached: int = 0) -> Answer:
    return Answer("42", Usage(1000, 1, 0, cached), seconds)


@pytest.mark.parametrize(
    ("once", "again", "found"),
    [
        (_reply(0.1), _reply(0.1, cached=900), True),
        (_reply(2.0), _reply(0.4), True),
        (_reply(2.0), _reply(1.9), False),
        # Too short to tell.
        (_reply(0.2), _reply(0.01), False),
    ],
)
def test_a_cache_is_told_by_what_is_reported_or_by_the_time(
    once: Answer, again: Answer, found: bool
) -> None:
    (finding,) = _cache(once, again)
    assert finding.fields == {"prefix_cache": found}


def test_a_server_that_is_busy_is_asked_again_and_one_that_fails_is_not() -> None:
    server = Capable(schema="refused")
    turned_away: list[Any] = []

    def busy(request: Any) -> Reply:
        if len(server.asked) == 2 and len(turned_away) < 2:
            turned_away.append(request)
            return Reply({"error": {"message": "slow down"}}, 429, {"retry-after": "0.01"})
        return server(request)

    with HostileServer(busy) as running:
        report = probe(settings=Settings(model="m", base_url=running.url))
    assert len(turned_away) == 2
    assert report.measured["image_tokens"]["224x224"] == 100
    # Two forms of response_format were refused, once each.
    assert len([one for one in server.asked if "response_format" in one]) == 2


@pytest.mark.parametrize(
    ("settings", "sent", "kept"),
    [({}, "high", True), ({"detail": "high"}, "high", True), ({"detail": "low"}, "low", False)],
)
def test_image_tokens_are_measured_in_the_dearest_detail(
    settings: dict[str, str], sent: str, kept: bool
) -> None:
    """An image of the same size that is sent in another detail is never above them."""
    server = Capable()
    report = _probed(server, **settings)
    assert ("image_tokens" in report.measured) is kept
    details = re.findall(r'"detail": "(\w+)"', json.dumps(server.asked))
    assert details[:3] == [sent] * 3
