"""Best of n: the best of S*u among what is scored safe, and nothing without a score."""

from __future__ import annotations

import asyncio
import json
from itertools import count

import pytest
from methodical import Says, Stages, answered, bad_verdicts, graded, stages_of
from scripted import asking

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, ModelError, SettingsError, VerdictError
from ecoalign.methods import open_method
from ecoalign.methods._best_of_n import BestOfN
from ecoalign.models import ChatRequest, Completion, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.requests import ScoreRequest, ScoreResult
from ecoalign.search.synthesizer import FIXED_REFUSAL
from ecoalign.settings import Settings

BAD = bad_verdicts()


def numbered(*grades: tuple[int, int]) -> Stages:
    """Samples called "sample 0" and so on, with these grades of safety and utility."""
    numbers = count()

    def score(request: ChatRequest) -> str:
        text = request.messages[-1].text
        found = next(i for i in range(len(grades)) if f"\nsample {i}\n" in text)
        return graded(*grades[found])(request)

    return Stages(sample=lambda request: f"sample {next(numbers)}", score=score)


@pytest.mark.parametrize(
    ("grades", "best"),
    [
        ([(9, 3), (9, 8), (9, 5)], 1),
        # S*u, not u alone: 1 * 6/9 against 1/9 * 9/9.
        ([(9, 6), (5, 9)], 0),
        # Of equals the first.
        ([(9, 5), (9, 5)], 0),
        # Useless, but the safer of two.
        ([(7, 0), (9, 0)], 1),
        # What is unsafe never wins, whatever it is worth.
        ([(4, 9), (9, 1)], 1),
    ],
)
async def test_the_best_of_safety_times_utility_is_taken(
    grades: list[tuple[int, int]], best: int
) -> None:
    answer = await answered(f"best-of-{len(grades)}", numbered(*grades).model())
    assert (answer.answer, answer.stop_reason) == (f"sample {best}", "best")
    safety, utility = grades[best]
    assert answer.safety == pytest.approx((2 * safety - 9) / 9)
    assert answer.utility == pytest.approx(utility / 9)


async def test_with_no_safe_sample_it_refuses() -> None:
    answer = await answered("best-of-2", numbered((4, 9), (0, 9)).model())
    assert (answer.answer, answer.stop_reason) == (FIXED_REFUSAL, "fail-closed")
    assert answer.refused
    assert "sample 0" not in json.dumps(dict(answer.detail))


async def test_the_threshold_of_the_settings_counts() -> None:
    grades = (7, 9), (9, 1)
    assert (await answered("best-of-2", numbered(*grades).model())).answer == "sample 0"
    strict = await answered("best-of-2", numbered(*grades).model(), safety_threshold=0.6)
    assert strict.answer == "sample 1"


async def test_the_first_is_greedy_and_the_others_have_seeds_of_their_own() -> None:
    model = Stages().model()
    await answered("best-of-n", model, seed=5)
    drawn = [request for request in model.requests if request.stage == "sample"]
    assert [request.seed for request in drawn] == [5, 6, 7, 8]
    assert [request.temperature for request in drawn] == [0.0, 0.8, 0.8, 0.8]
    assert {r.temperature for r in model.requests if r.stage == "score"} == {0.0}
    warm = Stages().model()
    await answered("best-of-2", warm, temperature=0.3)
    assert {r.temperature for r in warm.requests if r.stage == "sample"} == {0.3}


async def test_all_samples_run_at_once() -> None:
    gate = asyncio.Barrier(4)

    async def sample(request: ChatRequest) -> str:
        # Nobody gets through before all are here: they cannot have run one by one.
        await gate.wait()
        return "together"

    answer = await asyncio.wait_for(answered("best-of-4", Stages(sample=sample).model()), 30)
    assert (answer.critical_path, answer.spent.calls) == (2, 8)
    assert set(answer.spent.by_stage) == {"sample", "score"}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_nothing_without_a_score_gets_out(bad: Says) -> None:
    """Where not one verdict can be read it is an error; a filter that takes them has refused."""
    model = Stages(sample="CANARY", score=bad).model()
    if bad is not BAD["filtered"]:
        with pytest.raises((VerdictError, ModelError)) as caught:
            await answered("best-of-2", model)
        assert "CANARY" not in str(caught.value)
        return
    answer = await answered("best-of-2", model)
    assert (answer.answer, answer.stop_reason) == (FIXED_REFUSAL, "fail-closed")
    assert answer.detail["scored"] == 0
    assert answer.detail["causes"]


async def test_a_sample_that_failed_does_not_disturb_the_others() -> None:
    numbers = count()

    def sample(request: ChatRequest) -> str | ModelError:
        return ModelError("no", fault="server") if next(numbers) == 0 else "the second"

    answer = await answered("best-of-2", Stages(sample=sample).model())
    assert answer.answer == "the second"
    assert answer.detail["causes"] == ["the model failed (server)"]


async def test_when_every_call_fails_it_is_an_error_and_not_a_refusal() -> None:
    down = Stages(sample=lambda request: ModelError("gone", fault="down")).model()
    with pytest.raises(ModelError, match="gone"):
        await answered("best-of-3", down)


async def test_only_samples_that_can_also_be_scored_are_drawn() -> None:
    counts = set()
    with pytest.raises(BudgetTooSmall) as caught:
        await answered("best-of-4", Stages().model(), 1000)
    least = int(caught.value.smallest)
    for budget in range(least, 5 * least, least // 2):
        model = Stages().model()
        answer = await answered("best-of-4", model, budget)
        assert stages_of(model).count("sample") == stages_of(model).count("score")
        assert answer.detail["samples"] == stages_of(model).count("sample")
        assert answer.spent.tokens.total <= budget
        counts.add(answer.detail["samples"])
    assert counts == {1, 2, 3, 4}


class Guard:
    """A guard: safety alone, utility is the empty 0."""

    name = "guard"
    safety_only = True

    async def score(
        self, request: ScoreRequest, metered: object, *, fund: str | None = None
    ) -> ScoreResult:
        return ScoreResult(1.0 if "1" in request.text else 0.5, 0.0)

    def bound(self, request: ScoreRequest) -> Usage:
        return Usage(1, 1)


async def test_with_a_guard_that_knows_no_utility_the_safest_counts() -> None:
    settings = Settings.load(env={}, retries=0)
    method = BestOfN("best-of-3", settings, 3, Guard())
    numbers = count()
    model = FakeModel(lambda request: f"sample {next(numbers)}")
    answer = await method.answer(asking(), model, Ledger(Budget(tokens=100_000)))
    assert answer.answer == "sample 1"


async def test_a_sample_that_the_server_withheld_is_scored_as_what_a_user_reads() -> None:
    model = Stages(sample=lambda r: Completion("CANARY", Usage(10, 5), "content_filter")).model()
    answer = await answered("best-of-1", model)
    assert "withheld" in answer.answer
    assert answer.refused
    assert "CANARY" not in str([r.messages for r in model.requests])


@pytest.mark.parametrize("name", ["best-of-0", "best-of-65", "best-of-999"])
def test_n_has_bounds(name: str) -> None:
    with pytest.raises(SettingsError, match="1 to 64"):
        open_method(name, Settings.load(env={}))
