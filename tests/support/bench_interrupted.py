"""A session of the bench in a process of its own, to be interrupted while its first row is shown.

python bench_interrupted.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from ecoalign.bench._orders import Order
from ecoalign.bench._rows import Row
from ecoalign.bench._session import Session
from ecoalign.settings import Settings


def main() -> None:
    order = Order("mixed-safety", Settings(), out=Path(sys.argv[1]), limit=40, concurrency=2)
    seen: list[Row] = []

    def watch(row: Row) -> None:
        seen.append(row)
        if len(seen) == 1:
            print("first", flush=True)
            sys.stdin.readline()

    outcome = Session(order).run(watch=watch, stopping=lambda: print("stopping", flush=True))
    print(f"stopped={outcome.stopped} fresh={len(outcome.fresh)} total={outcome.total}")


if __name__ == "__main__":
    main()
