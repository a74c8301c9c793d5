"""What the default budget lets a run do, for every family of models and for an unknown name.

    python perf/default_budgets.py [--share 0.5] [--images 1 2 4]

The model is scripted, its bill honest: a token for each four bytes of a line and, for an image, a
share of what the family's formula says (of an unknown name 100, 500 and 1,500 tokens). Its draft
is of little use and its request harmless, so that the search goes on: it proposes to think, to look
and to answer. Counted are the actions that were executed and scored beside scan and draft, the most
that was spent, reserved and set aside at one moment, and what was spent in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from PIL import Image

from ecoalign.aligner import Aligner
from ecoalign.budget import Ledger
from ecoalign.models import (
    ChatRequest,
    Completion,
    ImagePart,
    KnownTokens,
    Profile,
    Segment,
    Usage,
    bound,
    segments,
)
from ecoalign.models._tokens import FAMILIES, image_tokens
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace.events import ThoughtAdded

LEAST_ACTIONS = 5

UNKNOWN = (100, 500, 1500)
"""Real tokens of an image on a server of an unknown name."""

SIZES = ((1600, 1200), (1200, 1600), (1024, 1024), (1920, 1080))

_KEY = re.compile(r'"key"\s*:\s*"([A-Za-z0-9_-]+)"')


class HonestServer:
    """A scripted model of a family, which is billed what it has read and written.

    Args:
        family: a key of `FAMILIES`.
        share: what an image really costs, as a share of the formula's bound; in (0, 1].
        each: what every image really costs instead.
    """

    dialect = "full"

    def __init__(self, family: str, share: float = 1.0, each: int | None = None) -> None:
        self.name = f"openai:{family}"
        self.profile = Profile(family=family)
        self.known = KnownTokens()
        self._share = share
        self._each = each
        self._numbers = count(1)

    def bound(self, request: ChatRequest) -> Usage:
        """By the formula."""
        return bound(request, self.profile.family)

    def segments(self, request: ChatRequest) -> list[Segment]:
        """By the formula."""
        return segments(request, self.profile.family)

    async def complete(self, request: ChatRequest) -> Completion:
        """What the script says, and what that cost."""
        text = self._said(request)
        read = sum(self._read(part) for m in request.messages for part in m.parts)
        prompt = read + 8 * len(request.messages)
        return Completion(text, Usage(prompt, -(-len(text) // 4)))

    async def aclose(self) -> None:
        """Nothing to release."""

    def _read(self, part: object) -> int:
        if isinstance(part, ImagePart):
            real = self._share * image_tokens(part, self.profile.family)
            return round(real) if self._each is None else self._each
        lines = str(getattr(part, "text", "")).split("\n")
        return sum(1 + len(line.encode()) // 4 for line in lines)

    def _said(self, request: ChatRequest) -> str:
        number = next(self._numbers)
        if request.stage == "scan":
            caption = "A board with the signs of many shops. " * 4
            return json.dumps({"safety": 9, "caption": caption, "strategy": ""})
        if request.stage == "propose":
            side = 100 + 50 * (number % 9)
            base = {"text": f"part {number}", "region": [], "image": 1, "partners": []}
            look = {"kind": "look", "region": [side, side, side + 300, side + 300]}
            steps = [[9, 5, 150], [9, 9, 200]]
            return json.dumps(
                {
                    "actions": [
                        base | look | {"forecast": steps},
                        base | {"kind": "think", "forecast": steps},
                        base | {"kind": "answer", "forecast": [[9, 7, 200]]},
                    ]
                }
            )
        if request.stage == "score":
            key = _KEY.findall(request.messages[-1].text)[-1]
            return json.dumps({"key": key, "safety": 9, "utility": 4})
        return f"The part number {number} of the board says a word and a number. " * 5


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        family, images: of what.
        real: what one image of the views really cost, in tokens.
        budget: the default.
        actions: executed and scored beside scan and draft.
        committed: the most tokens spent, reserved and set aside at one moment.
        used: tokens spent in the end.
        stop: why the search ended.
    """

    family: str
    images: int
    real: str
    budget: int
    actions: int
    committed: int
    used: int
    stop: str


class WatchedLedger(Ledger):
    """Remembers the most that was ever committed."""

    most = 0

    def reserve(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        """See `Ledger.reserve`."""
        reservation = super().reserve(*args, **kwargs)  # type: ignore[arg-type]
        self.most = max(self.most, self.committed.tokens or 0)
        return reservation


async def run(family: str, images: int, share: float = 1.0, each: int | None = None) -> Row:
    """One run under the default settings."""
    model = HonestServer(family, share, each)
    pictures = [Image.new("RGB", SIZES[i % len(SIZES)], (40 * i, 90, 160)) for i in range(images)]
    query = Query.of(
        pictures, "Which of the shops on this board is open on Sundays, and until when?"
    )
    aligner = Aligner(model, Settings())
    budget = aligner.budget_for(query)
    ledger = WatchedLedger(budget)
    result = await aligner.align(query, ledger=ledger)
    executed = sum(1 for e in result.trace if isinstance(e, ThoughtAdded) and e.action > 0)
    return Row(
        family,
        images,
        f"{share:.0%}" if each is None else f"{each:,}",
        budget.tokens or 0,
        executed,
        ledger.most,
        result.spent.tokens.total,
        result.stop_reason,
    )


async def rows(images: Sequence[int], share: float) -> list[Row]:
    """All families, and an unknown name at several prices."""
    out = []
    for family in FAMILIES:
        for number in images:
            if family == "unknown":
                out += [await run(family, number, each=each) for each in UNKNOWN]
            else:
                out.append(await run(family, number, share))
    return out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    print("family            images  an image    budget  actions  committed    used  stopped")
    for row in asyncio.run(rows(options.images, options.share)):
        print(
            f"{row.family:<16}  {row.images:>6}  {row.real:>8}  {row.budget:>8,}  {row.actions:>7}"
            f"  {row.committed:>9,}  {row.used:>6,}  {row.stop}"
        )


if __name__ == "__main__":
    main()
