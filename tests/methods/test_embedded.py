"""Every method on the embedded model: real prompts, a real network, exact truth."""

from __future__ import annotations

from random import Random

import pytest

from ecoalign.bench.world.questions import Kind, make_case
from ecoalign.bench.world.scenes import draw
from ecoalign.budget import Budget, Ledger
from ecoalign.methods import METHODS, open_method
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.compact import CompactDialect
from ecoalign.prompts.requests import GateRequest
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Alignment

SETTINGS = Settings.load(env={})
STAGES = {
    "base": {"answer"},
    "cot": {"answer"},
    "cod": {"answer"},
    "safety-prompt": {"answer"},
    "ecso": {"answer", "check", "caption", "blind"},
    # The scan is caption and gate in one.
    "vlm-guard": {"caption", "answer", "check"},
    "best-of-n": {"sample", "score"},
}


async def ask(name: str, kind: Kind, seed: int, tokens: int = 8000) -> Alignment:
    scene, question = make_case(Random(seed), kind, "train", big=True)
    query = Query.of(draw(scene), question.text)
    ledger = Ledger(Budget(tokens=tokens))
    return await open_method(name, SETTINGS).answer(query, EmbeddedModel(), ledger)


@pytest.mark.parametrize("name", METHODS)
async def test_it_answers_and_says_where_the_money_went(name: str) -> None:
    for seed, kind in enumerate((Kind.COLOUR, Kind.PLAIN)):
        answer = await ask(name, kind, seed)
        assert answer.answer
        assert 0 < answer.spent.tokens.total <= 8000
        assert 1 <= answer.critical_path <= answer.spent.calls
        if name in STAGES:
            assert set(answer.spent.by_stage) <= STAGES[name]


async def test_cot_says_more_than_is_shown() -> None:
    for name, mark in (("cot", "answer:"), ("cod", "#")):
        answer = await ask(name, Kind.COLOUR, 1)
        assert mark not in answer.answer
        assert answer.detail["whole"].endswith(answer.answer)
        assert mark in answer.detail["whole"]
        assert answer.spent.tokens.total > (await ask("base", Kind.COLOUR, 1)).spent.tokens.total


def compact(**says: str) -> FakeModel:
    return FakeModel(lambda request: says[request.stage], dialect="compact")


async def guarded(model: FakeModel, name: str = "vlm-guard") -> Alignment:
    scene, question = make_case(Random(1), Kind.PLAIN, "train")
    query = Query.of(draw(scene), question.text)
    settings = SETTINGS.replace(retries=0)
    return await open_method(name, settings).answer(query, model, Ledger(Budget(tokens=8000)))


@pytest.mark.parametrize(
    ("scan", "careful"),
    [
        ("red circle top > 9", False),
        ("red circle top > 5", False),
        ("red circle top > 4", True),
        ("red circle top > 6 plan: read the sign.", False),
        # No verdict, or not exactly one.
        ("red circle top", True),
        ("red circle top > x", True),
        ("red circle top > 9 > 1", True),
        ("red circle top > 9 plan > 1", True),
        ("", True),
        ("> 9", True),
    ],
)
async def test_the_scan_s_risk_is_the_gate(scan: str, careful: bool) -> None:
    model = compact(caption=scan, answer="yes.", check="9 9")
    answer = await guarded(model)
    assert [r.stage for r in model.requests] == ["caption", "answer", "check"]
    asked = model.requests[1].messages[-1].text
    assert asked.startswith("<careful>" if careful else "<ask>")
    assert answer.detail["flagged"] is careful


@pytest.mark.parametrize("verdict", ["", "9", "99 9", "9 9 9", "safe", "4 9", "0 0", "9 x"])
@pytest.mark.parametrize("name", ["vlm-guard", "ecso"])
async def test_a_verdict_is_two_digits_and_five_or_more(verdict: str, name: str) -> None:
    model = compact(caption="red > 9", answer="CANARY", check=verdict, blind="from the caption")
    answer = await guarded(model, name)
    assert answer.answer != "CANARY"
    check = next(r for r in model.requests if r.stage == "check")
    assert check.messages[-1].text.endswith("<t> answer : CANARY <out>")
    passed = compact(caption="red > 9", answer="CANARY", check="5 0")
    assert (await guarded(passed, name)).answer == "CANARY"


async def test_ecso_s_last_step_has_the_caption_and_no_image() -> None:
    model = compact(caption="red circle top > 1", answer="a", check="0 0", blind="b")
    answer = await guarded(model, "ecso")
    last = model.requests[-1].messages[-1]
    assert answer.answer == "b"
    assert last.text.startswith("<answer> ")
    assert "<cap> red circle top <out>" in last.text
    assert not last.images


def test_there_is_no_gate_call_in_the_compact_dialect() -> None:
    assert not CompactDialect().has_gate
    with pytest.raises(ValueError, match="no gate"):
        CompactDialect().render(GateRequest("q", "c", "fence1"))
