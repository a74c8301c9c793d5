"""A session of the bench in a process of its own, to be interrupted while its first row is shown.

python bench_interrupted.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from ecoalign.bench import BenchOptions, Row, Session
from ecoalign.settings import Settings


def main() -> None:
    options = BenchOptions(
        "mixed-safety", Settings(), out=Path(sys.argv[1]), limit=40, concurrency=2
    )
    seen: list[Row] = []

    def watch(row: Row) -> None:
        seen.append(row)
        if len(seen) == 1:
            print("first", flush=True)
            sys.stdin.readline()

    progress = Session(options).run(watch=watch, stopping=lambda: print("stopping", flush=True))
    print(f"stopped={progress.stopped} fresh={len(progress.fresh)} total={progress.total}")


if __name__ == "__main__":
    main()
