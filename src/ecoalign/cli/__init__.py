"""The command line. Thin: every command is a call that a Python user can make, too."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv` and exit with its code (see `ecoalign.cli._errors`)."""
    try:
        from ecoalign.cli._app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # Before a command has begun there is nothing to tell of.
        code = 130
    sys.exit(code)
