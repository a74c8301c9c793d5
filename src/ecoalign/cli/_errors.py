"""How a command fails: one line that says what to do, and an exit code that scripts can rely on.

0 answered (a refusal is an answer)     3 the model or its server failed
1 an error in EcoAlign itself; `replay`: the events differ
2 bad usage or input                    4 the budget is too small for any scored answer
5 a refusal, with --fail-on-refusal     130 interrupted     143 ended by SIGTERM
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ecoalign.cli._text import print_json, say
from ecoalign.errors import EcoAlignError

REFUSED = 5

INTERRUPTED = 130

TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM has asked this process to end."""


def report_interrupt(error: KeyboardInterrupt, *, as_json: bool) -> int:
    """Say that it was interrupted, and by what; returns the exit code."""
    ended = isinstance(error, Terminated)
    kind, text = ("Terminated", "ended by SIGTERM") if ended else ("Interrupted", "interrupted")
    code = TERMINATED if ended else INTERRUPTED
    report(kind, text, code, as_json=as_json)
    return code


def report(kind: str, message: str, code: int, *, as_json: bool) -> None:
    """Say what went wrong: on standard error, or as the one JSON object on standard output."""
    if as_json:
        print_json({"error": {"type": kind, "message": message, "exit_code": code}})
    else:
        say(f"error: {message}")


@contextmanager
def reported(*, as_json: bool, debug: bool) -> Iterator[None]:
    """Turn what a command raises into its report and its exit code.

    Args:
        as_json: report as JSON on standard output.
        debug: let unexpected errors through, with their traceback.

    Raises:
        typer.Exit: with the exit code.
    """
    try:
        yield
    except EcoAlignError as error:
        report(type(error).__name__, str(error), error.exit_code, as_json=as_json)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt as error:
        raise typer.Exit(report_interrupt(error, as_json=as_json)) from None
    except BrokenPipeError:
        # The reader of our output went away; Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug:
            raise
        text = f"unexpected {type(error).__name__}: {error} (run again with --debug for more)"
        report(type(error).__name__, text, 1, as_json=as_json)
        raise typer.Exit(1) from None
