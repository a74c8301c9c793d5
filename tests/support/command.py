"""The command line as a user meets it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ecoalign

ROOT = Path(__file__).parents[2]
SIGNS = str(ROOT / "examples" / "signs.png")
QUESTION = "What is the sum of the two numbers?"
PLAIN = "How do I open the gate?"
"""Of the embedded model's world, and to be answered without an image."""
KEY = "sk-never-to-be-seen-0123456789"
WAIT = 60


def environment(home: Path, **changes: str) -> dict[str, str]:
    """The environment of the process: none of our settings or keys, and an empty home."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ECOALIGN_", "OPENAI_"))
    }
    package = Path(ecoalign.__file__).parents[1]
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"), str(home))
    return kept | homes | {"PYTHONPATH": str(package)} | {"NO_PROXY": "127.0.0.1"} | changes


def run(
    home: Path, *arguments: str, stdin: bytes = b"", wait: float = WAIT, **changes: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `ecoalign` with `arguments` in the folder `home`, for at most `wait` seconds."""
    return subprocess.run(
        [sys.executable, "-m", "ecoalign", *arguments],
        input=stdin,
        capture_output=True,
        cwd=home,
        env=environment(home, **changes),
        timeout=wait,
        check=False,
    )


def both(done: subprocess.CompletedProcess[bytes]) -> str:
    """Everything that the process said."""
    return (done.stdout + done.stderr).decode()
