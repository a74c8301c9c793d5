"""Models as judges of answers, on an account of their own."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING

from ecoalign.budget import MeteredClient
from ecoalign.errors import BudgetExceeded, InputError, ModelError, UnpricedModelError
from ecoalign.models import ChatRequest, ImagePart, Message, TextPart
from ecoalign.prompts._reading import visible_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ecoalign.budget import Called, Ledger, Spending
    from ecoalign.models import ChatModel
    from ecoalign.query import Query

__all__ = ["Judges", "combined", "parse_verdict"]

STAGE = "judge"

MAX_TOKENS = 512
"""Room for a few sentences before the verdict; reasoning models need more."""

IMAGE_SIDE = 1024


class Judges:
    """One judge or several, each asked the same. An instance is an `Ask`.

    What they cost is on `ledger`, apart from what the answers cost, and bounded by its budget.

    Args:
        models: the judges, at least one.
        ledger: who pays.
        max_tokens: the most that a judge may write, >= 1.
        image_side: longest side of the images that are shown, in pixels, >= 1.
        retries: how often a call that failed is repeated, >= 0.
        max_concurrency: how many calls may be under way at once, >= 1.
        on_call: told of every attempt as it ends.

    Raises:
        InputError: there is no judge, or a number is out of its range.

    Attributes:
        failures: how often a judge gave nothing, by its name and the kind of failure.
    """

    def __init__(
        self,
        models: Sequence[ChatModel],
        ledger: Ledger,
        *,
        max_tokens: int = MAX_TOKENS,
        image_side: int = IMAGE_SIDE,
        retries: int = 2,
        max_concurrency: int = 8,
        on_call: Callable[[Called], None] | None = None,
    ) -> None:
        if not models:
            raise InputError("there is no judge: name at least one model")
        if max_tokens < 1 or image_side < 1:
            raise InputError(
                f"a judge's max_tokens and image_side are 1 or more, not {max_tokens} and "
                f"{image_side}"
            )
        self._models = tuple(models)
        self._ledger = ledger
        self._max_tokens = max_tokens
        self._image_side = image_side
        self._caller = MeteredClient(
            ledger, retries=retries, on_call=on_call, max_concurrency=max_concurrency
        )
        self.failures: Counter[tuple[str, str]] = Counter()

    @property
    def names(self) -> tuple[str, ...]:
        """The judges' names, "provider:name", in the order of their replies."""
        return tuple(model.name for model in self._models)

    @property
    def spent(self) -> Spending:
        """What all judges have cost so far."""
        return self._ledger.spent

    async def __call__(self, prompt: str, query: Query | None = None) -> Sequence[str | None]:
        """The reply of each judge, None for one that failed or has no budget left.

        Args:
            prompt: what is asked, with everything that is to be judged in it.
            query: its images are shown before the prompt; its question is not.

        Raises:
            UnpricedModelError: the ledger counts dollars and a judge's price is not known.
        """
        pictures = () if query is None else query.pictures
        views = [picture.view(self._image_side) for picture in pictures]
        parts: tuple[TextPart | ImagePart, ...] = (*views, TextPart(prompt))
        request = ChatRequest(
            messages=(Message("user", parts),), max_tokens=self._max_tokens, stage=STAGE
        )
        return await asyncio.gather(*(self._reply(model, request) for model in self._models))

    async def _reply(self, model: ChatModel, request: ChatRequest) -> str | None:
        try:
            completion = await self._caller.complete(model, request)
            if completion.finish_reason != "length":
                return visible_text(STAGE, completion)
            # What was cut off may have gone on to say something else.
            kind = "cut off"
        except UnpricedModelError:
            raise
        except ModelError as error:
            kind = error.fault
        except BudgetExceeded:
            kind = "no budget"
        except InputError:
            kind = "unreadable"
        self.failures[model.name, kind] += 1
        return None

    async def aclose(self) -> None:
        """Release the judges' connections. Safe to call twice."""
        for model in self._models:
            await model.aclose()


_LINE = re.compile(r"[\s*_#>-]*verdict[\s*_]*[:=](.*)", re.IGNORECASE)

_DECORATION = " \t\r\n\"'`*_.<>[]()"


def parse_verdict(text: str | None, allowed: Sequence[str]) -> str | None:
    """The one verdict in a judge's reply, or None where there is not exactly one.

    Two forms are read: the whole reply is an allowed word, or its last line is `Verdict: WORD`
    and no line before it is a verdict too. Case, and quotes, stars or brackets around the word,
    do not matter; a word more does.

    Args:
        text: the reply; None for a judge that failed.
        allowed: the words to choose from, in lower case.
    """
    if text is None:
        return None
    lines = [line for line in text.strip().splitlines() if line.strip(_DECORATION)]
    if not lines:
        return None
    given = [found.group(1) for line in lines if (found := _LINE.fullmatch(line))]
    if given:
        if len(given) > 1 or not _LINE.fullmatch(lines[-1]):
            return None
        word = given[0]
    elif len(lines) == 1:
        word = lines[0]
    else:
        return None
    word = " ".join(word.strip(_DECORATION).lower().split())
    return word if word in allowed else None


def combined(verdicts: Sequence[str | None], caution: Sequence[str]) -> str | None:
    """What several judges say together: the most frequent verdict; a tie goes to caution.

    Args:
        verdicts: one per judge, None for an unusable one, which has no vote.
        caution: all verdicts, the one that tells most against the answer first.

    Returns:
        The verdict, or None if no judge gave a usable one.
    """
    votes = [verdict for verdict in verdicts if verdict is not None]
    if not votes:
        return None
    most = max(votes.count(verdict) for verdict in votes)
    return next(verdict for verdict in caution if votes.count(verdict) == most)
