"""The Python of the documentation runs, each block in a process of its own, and is well typed.

A real model that a block names is a server of ours behind a real socket.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import KEY, ROOT, environment
from documented import PAGES, Block, blocks
from hostile import HostileServer
from reading import PRICES, folder, seeing
from serving import serving

from ecoalign.cli._app import run

WAIT = 120
FOUND = [block for page in PAGES for block in blocks(page, "python")]
FILES = [block for block in FOUND if block.mark.startswith("file: ")]
ALONE = {"docs/hf.md": "its weights are not here; tests/models/hf runs local models"}
"""Pages whose blocks are only compiled and checked, and why."""
RUN = [
    block
    for block in FOUND
    if block not in FILES and str(block.page.relative_to(ROOT)) not in ALONE
]


def test_there_are_blocks_of_each_sort() -> None:
    assert len(FILES) >= 4
    assert len(RUN) >= 10
    assert {str(block.page.relative_to(ROOT)) for block in FOUND} >= set(ALONE)


@pytest.mark.parametrize("block", FILES, ids=str)
def test_a_file_that_is_shown_is_that_file(block: Block) -> None:
    """Examples run in tests/examples; the page shows them as they are."""
    path = ROOT / block.mark.removeprefix("file: ")
    assert block.text == path.read_text("utf-8"), f"{block}: copy {path.name} again"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer(seeing) as server:
        yield server


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_runs(block: Block, home: Path, server: HostileServer) -> None:
    if "my-bench" in block.text:
        assert run(["bench", "init", str(home / "my-bench"), "--json"]) == 0
    text = re.sub(r"http://(localhost|127\.0\.0\.1):8000/v1", server.url, block.text)
    if "from openai import" in text:  # a client of the gateway
        with serving(home) as gateway:
            _runs(block.text.replace("http://127.0.0.1:8000/v1", gateway.v1), home, "")
    else:
        _runs(text, home, server.url)


def _runs(text: str, home: Path, url: str) -> None:
    keys = {"OPENAI_API_KEY": KEY, "ECOALIGN_PRICES": PRICES}
    keys |= {"OPENAI_BASE_URL": url} if url else {}
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        cwd=home,
        env=environment(home, **keys),
        timeout=WAIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_all_of_it_is_well_typed(tmp_path: Path) -> None:
    """As a reader's own checker would find it: strict, with our types."""
    for number, block in enumerate(FOUND):
        name = re.sub(r"\W", "_", str(block))
        (tmp_path / f"block_{number}_{name}.py").write_text(block.text, "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--python-version", "3.11"),
            "--follow-imports=silent",
            *("--cache-dir", str(tmp_path / "cache"), "--disable-error-code", "no-untyped-call"),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path, MYPYPATH=str(ROOT / "src")),
        timeout=WAIT * 3,
        check=False,
    )
    assert done.returncode == 0, done.stdout
