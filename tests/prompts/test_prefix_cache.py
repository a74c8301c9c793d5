"""What a server that caches prefixes need not compute again, by its own account.

The server is that of perf/prefix_cache.py, on a real socket, asked by `ecoalign ask` in a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "perf" / "prefix_cache.py"


# A process with a whole search.
@pytest.mark.slow
def test_the_views_are_computed_once() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = json.loads(done.stdout)["now"]
    assert found["calls with the views"] > 15
    # In every call after the first one.
    assert found["least in one call, %"] >= 95
    # Cached tokens count fully in B.
    assert found["tokens charged to B"] == found["prompt tokens"] + found["completion tokens"]
    assert found["cached tokens"] > 0.5 * found["prompt tokens"]
