"""What servers in the field say, on every route: chat completions and responses, whole and in a
stream, passed on and aligned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from field_reports import REPORTS, Report
from hostile import HostileServer, Received, Reply
from routes import Answer, Route, ask
from served import well_behaved
from serving import ANY_METHOD, Served, serving


@dataclass
class Field:
    """The upstream: it answers as `report` has it, and judges as a server does that works."""

    report: Report | None = None

    def __call__(self, request: Received) -> Reply:
        usual = well_behaved(request)
        assert isinstance(usual.body, dict)
        words = usual.body["choices"][0]["message"]["content"]
        asked: dict[str, Any] = request.json
        if words != "42" or self.report is None or (self.report.calls and "tools" not in asked):
            return usual
        if not asked.get("stream"):
            return Reply(self.report.whole(), self.report.status)
        if self.report.status != 200:
            return Reply(self.report.whole(), self.report.status)
        events = self.report.stream(with_usage="stream_options" in asked)
        return Reply(events, 200, {"Content-Type": "text/event-stream"})


@pytest.fixture(scope="module")
def field() -> Field:
    return Field()


@pytest.fixture(scope="module")
def gateway(field: Field, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        HostileServer(field) as upstream,
        serving(
            tmp_path_factory.mktemp("field"),
            *("--model", "gpt-4o", "--base-url", upstream.url, "--budget", "400000"),
            *("--set", "retries=0"),
            *ANY_METHOD,
        ) as served,
    ):
        yield served


PASSED = [Route(path, stream, "base") for path in ("chat", "responses") for stream in (False, True)]

ALIGNED = [Route(route.path, route.stream, "ecoalign") for route in PASSED]


def _ids(value: object) -> str:
    return value.name if isinstance(value, Report) else str(value)


@pytest.mark.parametrize(
    ("report", "route"),
    [
        (report, route)
        for report in REPORTS
        for route in PASSED
        if route.stream or not report.chunks
    ],
    ids=_ids,
)
def test_passed_on(gateway: Served, field: Field, report: Report, route: Route) -> None:
    field.report = report
    with httpx2.Client(base_url=gateway.v1, timeout=60) as client:
        got = ask(client, route, report.asked)
    if report.reason is None:
        assert got.error, got
        assert "Harbour" not in got.error
        return
    assert not got.error, got
    assert (got.content.strip(), got.refusal) == (report.content, report.refusal)
    # Who reads the numbers of a call reads JSON; where it stands in a text is a server's affair.
    assert [(name, json.loads(said)) for name, said in got.calls] == [
        (name, json.loads(said)) for name, said in report.calls
    ]
    assert got.reason == route.reason(report.reason)
    assert got.total == report.total
    ids = [call.id for call in got.whole_calls]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    assert "secret" not in got.raw


@pytest.mark.parametrize(
    ("report", "route"),
    [(report, route) for report in REPORTS if not report.chunks for route in ALIGNED],
    ids=_ids,
)
def test_aligned(gateway: Served, field: Field, report: Report, route: Route) -> None:
    """What is whole comes out as it is; what is not is never shown as whole."""
    field.report = report
    with httpx2.Client(base_url=gateway.v1, timeout=60) as client:
        got = ask(client, route, report.asked)
    assert "secret" not in got.raw
    if report.reason in {"stop", "tool_calls"}:
        assert not got.error, got
        assert (got.content.strip(), got.refusal) == (report.content, report.refusal), got
        assert [(name, json.loads(said)) for name, said in got.calls] == [
            (name, json.loads(said)) for name, said in report.calls
        ]
        assert got.reason == route.reason(report.reason)
    elif not got.error:
        said = got.content.strip()
        assert got.reason != route.reason("stop") or said != report.content or not said, got
        assert got.refused or got.reason == route.reason(str(report.reason)), got


def test_answers_are_told_apart() -> None:
    """The names of the reports are the names of tests."""
    names = [(report.name, bool(report.chunks)) for report in REPORTS]
    assert len(set(names)) == len(names)
    assert Answer().total is None
