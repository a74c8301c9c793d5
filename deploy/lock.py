"""Write the locks in deploy/locks anew: versions with hashes, and no address of an index.

    pip install --require-hashes -r deploy/locks/tools.txt     # or any other uv
    python deploy/lock.py                             # keep what is locked and still fits
    python deploy/lock.py --upgrade                   # the newest of everything
    python deploy/lock.py --upgrade-package pillow    # of one package
    python deploy/lock.py --only image                # one lock

Each holds for every platform, and for Python 3.11 and later. Other options are uv's; the index is
asked that uv is set up for (UV_DEFAULT_INDEX).
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "deploy" / "locks"

EXTRAS: Mapping[str, Sequence[str]] = {
    "image": ("serve", "postgres", "otel"),
    "ci": ("test", "dev", "docs"),
}
"""What is locked of pyproject.toml, by the lock's name."""

TOOLS: Mapping[str, Sequence[str]] = {
    "build": tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"],
    "tools": ["cyclonedx-bom>=7.0", "uv>=0.8"],
}
"""What is locked beside it: what builds the wheel; what writes bills of materials and locks."""


def lock(name: str, options: Sequence[str]) -> int:
    """Write the lock `name`; the exit code of uv."""
    source = ["pyproject.toml"] if name in EXTRAS else ["-"]
    source += [part for extra in EXTRAS.get(name, ()) for part in ("--extra", extra)]
    command = ["uv", "pip", "compile", *source, "--output-file", f"deploy/locks/{name}.txt"]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-config"]
    command += ["--custom-compile-command", "python deploy/lock.py", *options]
    given = "\n".join(TOOLS.get(name, ()))
    return subprocess.run(  # noqa: S603
        command, cwd=ROOT, input=given, text=True, check=False
    ).returncode


def main(arguments: list[str]) -> int:
    """The command line."""
    names = [*EXTRAS, *TOOLS]
    if "--only" in arguments:
        at = arguments.index("--only")
        names, arguments[at : at + 2] = arguments[at + 1 : at + 2], []
        if not names or names[0] not in {*EXTRAS, *TOOLS}:
            print(f"--only takes one of {', '.join([*EXTRAS, *TOOLS])}", file=sys.stderr)
            return 2
    return max([lock(name, arguments) for name in names])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
