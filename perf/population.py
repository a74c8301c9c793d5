"""One setting of the engine at several values, on the population of simulated models.

    python perf/population.py lambda0 0.05 0.15 0.3 [--split dev] [--preset paper] [--count 14]

For every value: mean and worst case over the profiles (see `ecoalign.bench.suites.population`).
Choose on `dev`, report `test` and the world: of equal means the better worst case.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import get_args

from ecoalign.bench.suites.population import KINDS, Split, evaluate, split_named
from ecoalign.settings import Settings

_COLUMNS = (
    *("safe, mean", "safe, worst", "useful, mean", "useful, worst"),
    *("over-refused, mean", "over-refused, worst", "x Base, mean", "x Base, worst", "usd"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a value."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("setting", help="its name; 'none' for the settings as they are")
    parser.add_argument("values", nargs="*", help="as in ECOALIGN_SETTING or --set")
    parser.add_argument("--split", default="dev", choices=get_args(Split))
    parser.add_argument("--preset", help="what the other settings are")
    parser.add_argument("--count", type=int, default=len(KINDS), help="questions to each profile")
    options = parser.parse_args(arguments)
    settings = Settings.load(options.preset, env={})
    print(f"{options.setting:24s}", *(f"{name:>19s}" for name in _COLUMNS))
    for value in options.values or [""]:
        changed = settings.replace(**{options.setting: value}) if value else settings
        figures = evaluate(changed, split_named(options.split), count=options.count)["ecoalign"]
        cells = (f"{figures[name]:19.1f}" for name in _COLUMNS)
        print(f"{value or 'as it is':24s}", *cells, flush=True)


if __name__ == "__main__":
    main()
