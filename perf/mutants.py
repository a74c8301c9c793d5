"""Mutation testing of the pure core: is there a test that fails when the code is wrong?

    pip install 'mutmut>=3.8' && python -m perf.mutants --sample 300

makes every mutant of the rooms (comparisons, operators, constants, arguments, ...) with mutmut in
mutants/, runs the tests that reach a seeded sample of them, and prints the score by room and the
survivors. What has been killed is kept: the command can be stopped and goes on where it was, and
after a new test it tries the survivors again. `--sample 0` tries all mutants of the rooms named.
Show a survivor with `mutmut show NAME`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOMS = ("graph", "budget", "search")

WORK = Path("mutants")

# mutmut's exit codes of a mutant's test run: 0 survived, 33 no test reaches it; the others (a
# failure, a timeout, a crash) killed it.
SURVIVED = frozenset({0, 33})

MUTMUT = (sys.executable, "-m", "mutmut", "run")


def outcomes(rooms: tuple[str, ...]) -> dict[str, int | None]:
    """The exit code of every mutant by name; None where it has not been tried."""
    found: dict[str, int | None] = {}
    for room in rooms:
        for path in sorted((WORK / "src" / "ecoalign" / room).rglob("*.meta")):
            found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def main() -> int:
    """Make the mutants, try the sample, print the score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=ROOMS, metavar="ROOM", help=", ".join(ROOMS))
    parser.add_argument("--sample", type=int, default=300, help="mutants to try; 0 for all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--processes", type=int, default=2, help="how many at once")
    parser.add_argument("--fresh", action="store_true", help="forget what has been tried")
    options = parser.parse_args()
    rooms = tuple(options.rooms)
    if options.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    workers = ("--max-children", str(options.processes))
    # A name that matches nothing: the mutants are made and the tests timed, none is tried.
    made = subprocess.run([*MUTMUT, *workers, "none"], check=False, capture_output=True, text=True)
    mutants = sorted(outcomes(rooms))
    if not mutants or "nothing matches" not in made.stderr:
        print(made.stdout[-4000:], made.stderr[-4000:], sep="\n", file=sys.stderr)
        return 1
    if options.sample:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    known = outcomes(rooms)
    if waiting := [name for name in mutants if known[name] in {None, *SURVIVED}]:
        subprocess.run([*MUTMUT, *workers, *waiting], check=False)
    known = outcomes(rooms)
    tried, killed = Counter[str](), Counter[str]()
    for name in sorted(mutants):
        if (code := known[name]) is None:
            continue
        room = name.split(".")[1]
        tried[room] += 1
        killed[room] += code not in SURVIVED
        if code in SURVIVED:
            print("survived" if code == 0 else "no test ", name)
    for room in rooms:
        print(f"{room}: {killed[room]} of {tried[room]} killed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
