"""`hf:NAME` where its extra is not installed, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hf_requests import picture

LAZY = """
import sys
import ecoalign, ecoalign.models.hf
from ecoalign.models import open_model
open_model("embedded"), open_model("m", "http://localhost/v1")
heavy = {"torch", "transformers", "llguidance", "huggingface_hub"} & sys.modules.keys()
sys.exit(f"imported: {heavy}" if heavy else 0)
"""

ABSENT = """
import sys
sys.modules["torch"] = None
from ecoalign.cli import main
sys.exit(main())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_nothing_of_it_is_imported_before_such_a_model_is_opened() -> None:
    done = run(LAZY)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_without_the_extra_a_line_says_what_to_install(tmp_path: Path) -> None:
    seen = tmp_path / "seen.png"
    seen.write_bytes(picture().data)
    done = run(ABSENT, "ask", str(seen), "What is it?", "--model", "hf:org/name")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "torch" in done.stderr
    assert "pip install 'ecoalign[hf]'" in done.stderr
