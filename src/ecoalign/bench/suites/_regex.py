"""Regular expressions of somebody's file, held against answers that a model wrote, in bounded time.

Some patterns take time exponential in a text that almost fits, `(a+)+$` for one, and Python's `re`
cannot be told to stop. So what could take long runs in a process of its own, which is ended.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

SECONDS = 5.0
"""For all patterns of an answer together, the start of the process included."""

_SHORT = 1000
"""Characters of an answer on which one repetition cannot take long."""

_REPEATS = "*+?{"

_FOUND, _MISSING = 10, 11

_SEARCH = (
    "import json, re, sys\n"
    "patterns, text = json.load(sys.stdin)\n"
    f"sys.exit({_FOUND} if any(re.search(one, text) for one in patterns) else {_MISSING})\n"
)


def found(patterns: Sequence[str], text: str) -> bool | None:
    """Whether one of the patterns is in the text; None if that cannot be told in `SECONDS`.

    Args:
        patterns: regular expressions that compile.
        text: an answer.
    """
    repeats = max((sum(map(one.count, _REPEATS)) for one in patterns), default=0)
    if repeats == 0 or (repeats == 1 and len(text) <= _SHORT):
        return any(re.search(one, text) for one in patterns)
    command = [sys.executable, "-I", "-S", "-c", _SEARCH]
    try:
        ended = subprocess.run(  # noqa: S603 - our own program; what it reads is data
            command,
            input=json.dumps([list(patterns), text]).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return {_FOUND: True, _MISSING: False}.get(ended.returncode)
