"""A process that spends from a key: `python key_spender.py URL KEY WANT die|settle COUNT`.

Prints a line for each grant once it has it: the tokens granted, or 0 when the window is exhausted.
`die`: goes on until it is killed, and settles nothing. `settle`: settles half of each grant.
"""

from __future__ import annotations

import asyncio
import sys

from ecoalign.budget import Budget, Spending
from ecoalign.gateway.keys import WindowExhausted, open_store
from ecoalign.models import Usage


async def main(url: str, key_id: str, want: int, how: str, count: int) -> None:
    store = open_store(url)
    key = next(key for key in await store.keys() if key.id == key_id)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(count):
        try:
            grant = await store.grant(key, Budget(want))
        except WindowExhausted:
            print(0, flush=True)
            break
        print(grant.budget.tokens, flush=True)
        if how == "settle":
            await store.settle(grant, Spending(Usage(want // 2, 0)))
    if how == "die":
        await asyncio.Event().wait()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])))
