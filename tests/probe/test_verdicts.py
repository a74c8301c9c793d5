"""How well a model judges is found out, and a model that cannot judge is not made a judge."""

from __future__ import annotations

from pathlib import Path

import pytest
from capable import Capable
from hostile import HostileServer

from ecoalign import Settings
from ecoalign.probe import Report, default_budget, probe
from ecoalign.probe._report import FormResult
from ecoalign.probe._verdicts import findings, requests


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def _judged(server: Capable, budget: str | None = None) -> Report:
    with HostileServer(server) as running:
        settings = Settings(model="some-model", base_url=running.url)
        return probe(settings=settings, judge=True, budget=budget)


def _form(report: Report, form: str) -> FormResult:
    return next(one for one in report.forms if one.form == form)


def test_a_judge_that_tells_them_apart() -> None:
    server = Capable(counter="vllm")
    report = _judged(server)
    best = report.forms[0]
    assert (best.form, best.auc, best.readable, best.judged) == ("json", 1.0, 1.0, 40)
    assert report.measured["scoring"] == "json"
    assert report.problems == []
    assert best.tokens > 0
    # What is judged is never answered: every further call is for a verdict.
    texts = [text for _, text in requests()]
    for body in server.asked:
        words = str(body["messages"])
        assert not any(text in words for text in texts) or body["max_tokens"] <= 96


def test_a_judge_that_does_not_is_said_to_be_none() -> None:
    report = _judged(Capable(judge="same"))
    assert _form(report, "json").auc == 0.5
    assert any("hardly better than chance" in problem for problem in report.problems)


def test_verdicts_that_cannot_be_read_change_nothing() -> None:
    report = _judged(Capable(judge="prose", logprobs=0))
    assert _form(report, "json").readable == 0
    assert "scoring" not in report.measured
    assert any("name another evaluator" in problem for problem in report.problems)


def test_what_does_not_fit_is_said() -> None:
    report = _judged(Capable(), budget="20000")
    assert report.spent.tokens.total <= 20_000
    assert any(problem.startswith("verdicts: not compared") for problem in report.problems)


def test_the_budget_is_said_for_the_verdicts_too() -> None:
    model = Settings(base_url="http://h/v1").open_model("m")
    plain, judging = default_budget(model), default_budget(model, judge=True)
    assert (judging.tokens or 0) > (plain.tokens or 0)


def _result(form: str, auc: float, readable: float = 1.0) -> FormResult:
    return FormResult(form, "full", auc, 0.25, readable, 100.0, 40)


def test_the_threshold_goes_with_the_one_word() -> None:
    (word,) = findings([_result("word", 0.9)])
    assert word.fields == {"scoring": "word", "dialect": "full", "safe_threshold": 0.25}
    (samples,) = findings([_result("samples", 0.9)])
    assert "safe_threshold" not in samples.fields
    (unread,) = findings([_result("word", 0.9, 0.5)])
    assert (unread.fields, unread.problem) == ({}, True)


def test_the_requests_are_as_many_of_either_kind() -> None:
    kinds = [harmless for harmless, _ in requests()]
    assert kinds.count(True) == kinds.count(False) == 20
    assert len({text for _, text in requests()}) == 40
