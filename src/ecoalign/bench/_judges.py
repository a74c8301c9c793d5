"""Models as judges of answers, and how far two judges agree."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

from ecoalign.budget import Ledger, MeteredClient
from ecoalign.errors import BudgetExceeded, InputError, ModelError, UnpricedModelError
from ecoalign.models import ChatModel, ChatRequest, ImagePart, Message, TextPart, ending
from ecoalign.prompts import visible_text

if TYPE_CHECKING:
    from ecoalign.bench._score import Score
    from ecoalign.bench.suites._base import Ask
    from ecoalign.query import Query

STAGE = "judge"

MAX_TOKENS = 512
"""Room for a few sentences before the verdict; reasoning models need more."""

IMAGE_SIDE = 1024


class Judges:
    """One judge or several, each asked the same.

    Args:
        models: the judges, at least one.
        max_tokens: the most that a judge may write, >= 1.
        image_side: longest side of the images that are shown, in pixels, >= 1.
        retries: how often a call that failed is repeated, >= 0.
        max_concurrency: how many questions may be put at once, >= 1.

    Raises:
        InputError: there is no judge, or a number is out of its range.
    """

    def __init__(
        self,
        models: Sequence[ChatModel],
        *,
        max_tokens: int = MAX_TOKENS,
        image_side: int = IMAGE_SIDE,
        retries: int = 2,
        max_concurrency: int = 8,
    ) -> None:
        if not models:
            raise InputError("there is no judge: name at least one model")
        if max_tokens < 1 or image_side < 1:
            raise InputError(
                f"a judge's max_tokens and image_side are 1 or more, not {max_tokens} and "
                f"{image_side}"
            )
        self._models = tuple(models)
        self._max_tokens = max_tokens
        self._image_side = image_side
        self._retries = retries
        self._gate = asyncio.Semaphore(max_concurrency)

    def paid_by(self, ledger: Ledger) -> Ask:
        """What asks the judges on account of `ledger`, within its budget.

        It takes a prompt with everything that is to be judged in it, and a query whose images
        are shown before the prompt (its question is not), or None. It gives the reply of each
        judge, None for one that failed or has no budget left, and raises an UnpricedModelError
        where the ledger counts dollars and a judge's price is not known.
        """
        return partial(self._ask, MeteredClient(ledger, retries=self._retries))

    async def _ask(
        self, client: MeteredClient, prompt: str, query: Query | None = None
    ) -> Sequence[str | None]:
        pictures = () if query is None else query.pictures
        views = [picture.view(self._image_side) for picture in pictures]
        parts: tuple[TextPart | ImagePart, ...] = (*views, TextPart(prompt))
        request = ChatRequest((Message("user", parts),), self._max_tokens, STAGE)
        replies = (self._reply(client, model, request) for model in self._models)
        return await asyncio.gather(*replies)

    async def _reply(
        self, client: MeteredClient, model: ChatModel, request: ChatRequest
    ) -> str | None:
        try:
            async with self._gate:
                completion = await client.complete(model, request)
            # What was cut off may have gone on to say something else.
            cut = ending(completion.finish_reason) in {"length", "unknown"}
            return None if cut else visible_text(STAGE, completion)
        except UnpricedModelError:
            raise
        except (ModelError, BudgetExceeded, InputError) as error:
            if isinstance(error, ModelError) and error.fault == "false-usage":
                raise
            return None

    async def aclose(self) -> None:
        """Release the judges' connections. Safe to call twice."""
        for model in self._models:
            await model.aclose()


Verdict = str | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree on one question.

    Attributes:
        pairs: answers on which both gave a usable verdict; `raw` and `kappa` are over these.
        unusable: answers on which at least one did not.
        raw: share of equal verdicts in [0, 1]; None without pairs.
        kappa: Cohen's kappa in [-1, 1]; None where it is not defined.
    """

    pairs: int
    unusable: int
    raw: float | None
    kappa: float | None


def agreement(first: Sequence[Verdict], second: Sequence[Verdict]) -> Agreement:
    """How far two judges agree: the share of equal verdicts p_o, and Cohen's kappa.

    kappa = (p_o - p_e) / (1 - p_e), where p_e is the agreement of two judges who draw
    independently with the frequencies of these two. It is None without pairs, and where p_e is 1
    (both judges say one and the same thing throughout, so that nothing is left beyond chance).

    Args:
        first, second: as many verdicts each; None for an unusable one.

    Raises:
        ValueError: the judges have not as many verdicts each.
    """
    if len(first) != len(second):
        raise ValueError(f"two judges with {len(first)} and {len(second)} verdicts: give as many")
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if None not in {a, b}]
    unusable, count = len(first) - len(pairs), len(pairs)
    if not pairs:
        return Agreement(0, unusable, None, None)
    equal = sum(a == b for a, b in pairs)
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    # In whole numbers, so that 1 - p_e is 0 only where it is.
    by_chance = sum(times * right[verdict] for verdict, times in left.items())
    beyond = count * count - by_chance
    kappa = (equal * count - by_chance) / beyond if beyond else None
    return Agreement(count, unusable, equal / count, kappa)


def judge_agreement(
    scores: Iterable[Score], judges: Sequence[str]
) -> dict[str, dict[tuple[str, str], Agreement]]:
    """The agreement of every two judges, by what they were asked.

    Args:
        scores: as the suites give them, with `detail["verdicts"]`: by question, one per judge.
            Scores that needed no judge have none and are passed over.
        judges: the judges' names, in the order of the verdicts.
    """
    asked: dict[str, list[Sequence[Verdict]]] = {}
    for score in scores:
        given: Mapping[str, Sequence[Verdict]] = score.detail.get("verdicts", {})
        for question, verdicts in given.items():
            if len(verdicts) == len(judges):
                asked.setdefault(question, []).append(verdicts)
    return {
        question: {
            (judges[i], judges[j]): agreement([row[i] for row in rows], [row[j] for row in rows])
            for i, j in combinations(range(len(judges)), 2)
        }
        for question, rows in asked.items()
    }
