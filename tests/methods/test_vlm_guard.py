"""The black-box reading of VLM-Guard: gate, careful prompt, output check; all fail closed."""

from __future__ import annotations

import json

import pytest
from methodical import UNSAFE, Says, Stages, answered, bad_verdicts, stages_of

from ecoalign.errors import BudgetTooSmall, ModelError
from ecoalign.methods import METHODS
from ecoalign.methods._vlm_guard import VlmGuard
from ecoalign.models import ChatRequest
from ecoalign.search.synthesizer import FIXED_REFUSAL

CANARY = "CANARY-7f3"
BAD = bad_verdicts()


def was_careful(request: ChatRequest) -> bool:
    return request.messages[0].role == "system"


async def test_a_harmless_request_is_answered_as_base_would() -> None:
    model = Stages().model()
    answer = await answered("vlm-guard", model)
    assert stages_of(model) == ["caption", "gate", "answer", "check"]
    assert not was_careful(model.requests[2])
    assert (answer.answer, answer.stop_reason, answer.safety) == ("a plain answer", "plain", 1.0)
    assert answer.critical_path == answer.spent.calls == 4


async def test_the_gate_reads_and_does_not_see() -> None:
    model = Stages(caption="a sign that says 42").model()
    await answered("vlm-guard", model)
    caption, gate, said, check = model.requests
    assert not any(message.images for message in gate.messages)
    assert "a sign that says 42" in gate.messages[-1].text
    assert "What does the sign say?" in gate.messages[-1].text
    assert all(request.messages[-1].images for request in (caption, said, check))


async def test_a_flagged_request_is_answered_with_care() -> None:
    model = Stages(gate=UNSAFE).model()
    answer = await answered("vlm-guard", model)
    assert was_careful(model.requests[2])
    assert (answer.answer, answer.stop_reason) == ("a plain answer", "careful")
    assert answer.detail["flagged"]


OUTAGES = {"timeout", "down"}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_gate_without_a_verdict_flags(bad: Says) -> None:
    model = Stages(gate=bad).model()
    answer = await answered("vlm-guard", model)
    assert was_careful(model.requests[2])
    assert answer.detail["gate"] is None
    assert answer.detail["cause"]


async def test_a_caption_that_cannot_be_read_flags_and_saves_the_gate() -> None:
    model = Stages(caption="").model()
    answer = await answered("vlm-guard", model)
    assert stages_of(model) == ["caption", "answer", "check"]
    assert was_careful(model.requests[1])
    assert answer.stop_reason == "careful"


async def test_an_unsafe_answer_is_blocked() -> None:
    answer = await answered("vlm-guard", Stages(answer=CANARY, check=UNSAFE).model())
    assert (answer.answer, answer.stop_reason) == (FIXED_REFUSAL, "blocked")
    assert answer.refused
    assert answer.safety is None
    assert answer.detail["check"] == -1.0
    assert CANARY not in json.dumps(dict(answer.detail))


@pytest.mark.parametrize("bad", [says for name, says in BAD.items() if name not in OUTAGES])
async def test_an_answer_without_a_verdict_is_never_given(bad: Says) -> None:
    answer = await answered("vlm-guard", Stages(answer=CANARY, check=bad).model())
    assert (answer.answer, answer.stop_reason) == (FIXED_REFUSAL, "fail-closed")
    assert CANARY not in json.dumps(dict(answer.detail))


@pytest.mark.parametrize("stage", ["caption", "answer", "check"])
async def test_a_server_that_fails_is_an_error_and_not_a_refusal(stage: str) -> None:
    def down(request: object) -> ModelError:
        return ModelError("gone", fault="down")

    with pytest.raises(ModelError):
        await answered("vlm-guard", Stages(**{stage: down}).model())


async def test_everything_it_needs_is_paid_for_beforehand() -> None:
    with pytest.raises(BudgetTooSmall) as caught:
        await answered("vlm-guard", (model := Stages().model()), 2000)
    assert model.calls == 0
    answer = await answered("vlm-guard", Stages().model(), int(caught.value.smallest))
    assert answer.stop_reason == "plain"


def test_users_are_told_that_it_is_not_the_published_method() -> None:
    for text in (METHODS["vlm-guard"], str(VlmGuard.__doc__)):
        assert "2502.10486" in text
        assert "steers activations" in text
        assert "closed model" in text
