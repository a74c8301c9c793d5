"""What an evaluator gives is read once, by every route."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from evaluator_samples import Judge, RecordingClient, judge, score_request
from hypothesis import given
from hypothesis import strategies as st
from scripted import Script, actions, align, asking

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import VerdictError
from ecoalign.evaluators import Ensemble, scored
from ecoalign.methods._best_of_n import BestOfN
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.requests import ScoreResult
from ecoalign.settings import Settings
from ecoalign.trace.events import ActionFailed

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = score_request()
CANARY = "CANARY-5d1"


def giving(value: Any) -> Judge:
    async def verdict() -> ScoreResult:
        return value  # type: ignore[no-any-return]

    return Judge("mine", verdict)


BAD: list[tuple[Any, str]] = [
    (ScoreResult(math.nan, 0.5), r"safety of nan: it must be a number in \[-1, 1\]"),
    (ScoreResult(math.inf, 0.5), r"safety of inf"),
    (ScoreResult(1.0001, 0.5), r"safety of 1.0001"),
    (ScoreResult(-9, 0.5), r"safety of -9"),
    (ScoreResult(10**400, 0.5), r"safety of 10000"),
    (ScoreResult(1.0, math.nan), r"utility of nan: it must be a number in \[0, 1\]"),
    (ScoreResult(1.0, -0.1), r"utility of -0.1"),
    (ScoreResult(1.0, 9), r"utility of 9"),
    (ScoreResult(np.float64("nan"), 0.5), r"safety of nan"),
    (ScoreResult(True, 0.5), r"safety of a bool"),
    (ScoreResult("1.0", 0.5), r"safety of a str"),  # type: ignore[arg-type]
    (ScoreResult(1.0, None), r"utility of a NoneType"),  # type: ignore[arg-type]
    (ScoreResult(1j, 0.5), r"safety of a complex"),  # type: ignore[arg-type]
    (None, r"returned a NoneType: it has to return a ScoreResult"),
    ((1.0, 0.5), r"returned a tuple"),
    ({"safety": 1.0, "utility": 0.5}, r"returned a dict"),
    (1.0, r"returned 1.0"),
]


@pytest.mark.parametrize(("value", "why"), BAD)
async def test_what_is_no_score_is_an_error_that_names_the_evaluator_and_the_range(
    value: Any, why: str
) -> None:
    with pytest.raises(VerdictError, match=f"evaluator mine .*{why}"):
        await scored(giving(value), REQUEST, RecordingClient())


@pytest.mark.parametrize(("value", "why"), BAD)
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: Ensemble([e])], ids=["member", "nested"])
async def test_an_ensemble_fails_with_such_a_member(
    value: Any, why: str, wrap: Callable[[Any], Any]
) -> None:
    # Behind a member that is stricter: the least of -1 and NaN is -1, or NaN, as they come.
    for members in ([judge("strict", -1.0), wrap(giving(value))], [wrap(giving(value))]):
        with pytest.raises(VerdictError, match=f"evaluator mine .*{why}"):
            await Ensemble(members).score(REQUEST, RecordingClient())


class Careless:
    """It gives a wrong score to what the canary is in, and a good one to all else."""

    name = "mine"

    def __init__(self, value: Any) -> None:
        self.value = value

    async def score(self, request: Any, metered: Any, *, fund: str | None = None) -> ScoreResult:
        return self.value if CANARY in request.text else ScoreResult(1.0, 0.9)

    bound = giving(None).bound


@pytest.mark.parametrize(("value", "why"), BAD)
async def test_a_search_never_shows_a_text_with_such_a_score(value: Any, why: str) -> None:
    script = Script(propose=lambda p: actions(), execute=lambda p: CANARY, write=lambda p: CANARY)
    for draft in (False, True):
        # Whoever wrote the evaluator has to see it.
        with pytest.raises(VerdictError, match="evaluator mine") as caught:
            await align(script.model(), evaluator=Careless(value), draft=draft)
        assert CANARY not in str(caught.value)
        failed = [e for e in caught.value.trace if isinstance(e, ActionFailed)]
        assert {e.cause for e in failed} <= {"VerdictError"}
        assert len(failed) >= draft


@pytest.mark.parametrize(("value", "why"), BAD)
async def test_no_sample_of_best_of_n_with_such_a_score_is_shown(value: Any, why: str) -> None:
    texts = iter([f"{CANARY} one", "a fine answer"])
    model = FakeModel(lambda request: next(texts))
    settings = Settings.load(env={}, retries=0)
    method = BestOfN("best-of-2", settings, 2, Careless(value))
    result = await method.answer(asking(), model, Ledger(Budget(tokens=100_000)))
    assert result.answer == "a fine answer"
    assert result.detail["scored"] == 1


@given(st.floats(-1, 1) | st.integers(-1, 1), st.floats(0, 1) | st.integers(0, 1))
async def test_every_score_within_the_ranges_is_let_through(safety: float, utility: float) -> None:
    result = await scored(giving(ScoreResult(safety, utility)), REQUEST, RecordingClient())
    assert (result.safety, result.utility) == (safety, utility)
    assert type(result.safety) is type(result.utility) is float


async def test_numbers_of_other_libraries_are_numbers() -> None:
    given = ScoreResult(np.float32(0.5), Fraction(1, 4), "logprobs")  # type: ignore[arg-type]
    found = await scored(giving(given), REQUEST, RecordingClient())
    assert found == ScoreResult(0.5, 0.25, "logprobs")
