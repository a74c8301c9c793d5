"""A process that spends from a key: `python key_spender.py URL KEY WANT HOW COUNT`.

Prints "ready", waits for a line, and then prints a line for each grant once it has it: the tokens
granted, or 0 when the window is exhausted. HOW is what it does with its grants:

    die     settles none, and goes on until it is killed
    settle  settles each at half of it, and ends
    call    makes a call of each that costs a twentieth and begins one that may cost a tenth, and
            goes on until it is killed
    spin    settles each at half of it and prints only how many it has settled, for as long as it
            lives
    wait    settles each at half of it, once it is told to by another line; then it prints "done"

It imports nothing that the first release does not have, unless HOW is `call`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from ecoalign.budget import Budget, Ledger, Spending
from ecoalign.gateway.keys import WindowExhausted, open_store
from ecoalign.models import Usage


async def main(url: str, key_id: str, want: int, how: str, count: int) -> None:
    store = open_store(url)
    key = next(key for key in await store.keys() if key.id == key_id)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    if how == "spin":
        await spin(store, key, want, count)
    grants = []
    for _ in range(count):
        try:
            grant = await store.grant(key, Budget(want))
        except WindowExhausted:
            print(0, flush=True)
            break
        if how == "call":
            ledger = Ledger(grant.budget, on_change=store.watch(grant))
            ledger.reserve("x", Usage(want // 10, 0), "m").settle(Usage(want // 20, 0))
            ledger.reserve("x", Usage(want // 10, 0), "m")
        print(grant.budget.tokens, flush=True)
        grants.append(grant)
        if how == "settle":
            await store.settle(grant, Spending(Usage(want // 2, 0)))
    if how in {"die", "call"}:
        await asyncio.Event().wait()
    if how == "wait":
        await asyncio.to_thread(sys.stdin.readline)
        for grant in grants:
            await store.settle(grant, Spending(Usage(want // 2, 0)))
        print("done", flush=True)
    await store.aclose()


async def spin(store: Any, key: Any, want: int, together: int) -> None:
    """`together` clients at once, until the window holds no more."""
    settled = 0

    async def client() -> None:
        nonlocal settled
        while True:
            try:
                grant = await store.grant(key, Budget(want))
            except WindowExhausted as short:
                if short.crowded:
                    await asyncio.sleep(0.01)
                    continue
                return
            await asyncio.sleep(0)
            await store.settle(grant, Spending(Usage(want // 2, 0)))
            settled += 1
            print(settled, flush=True)

    await asyncio.gather(*(client() for _ in range(together)))
    await store.aclose()
    sys.exit()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])))
