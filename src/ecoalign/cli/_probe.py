"""`ecoalign probe`: what a model can do on its server, measured, and kept for later runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ecoalign.budget import Budget
from ecoalign.cli._options import Config, Json, Quiet, SettingsOptions
from ecoalign.cli._text import amount, print_json, rich_console, rich_table, say, tell
from ecoalign.models import Usage

if TYPE_CHECKING:
    from ecoalign.budget import PriceBook
    from ecoalign.probe import Report

EXITS = (
    "Exit codes: 0 probed, 2 bad usage or input, 3 the server cannot be reached or does not know "
    "the model."
)


def probe(
    model: Annotated[str, Argument(help="The model: PROVIDER:NAME, or NAME with --base-url.")],
    base_url: Annotated[
        str | None,
        Option(help="The OpenAI-compatible server that runs the model; usually ends in /v1."),
    ] = None,
    judge: Annotated[
        bool,
        Option(
            "--judge",
            help="Also find out how well its verdicts separate harmless from unwanted requests, "
            "and in which form: some hundred short calls.",
        ),
    ] = False,
    save: Annotated[
        bool, Option("--save/--no-save", help="Keep the profile for every later run.")
    ] = True,
    out: Annotated[
        Path | None, Option(help="Write the profile to this file instead; see --set profile=FILE.")
    ] = None,
    budget: Annotated[
        str | None,
        Option("--budget", "-b", help='The most that it may spend: "50000", "$0.05", "120s".'),
    ] = None,
    config: Config = None,
    pairs: Annotated[
        list[str] | None,
        Option("--set", help="Change any setting; may be repeated.", metavar="NAME=VALUE"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find out what a model can do on its server, and keep it as the profile of later runs.

    About a dozen cheap calls show the tokens of images and text, which way of asking for JSON is
    heeded, log-probabilities, seed, system role, hidden reasoning and how to limit it, boxes, the
    smallest image, caps, usage and prefix caching.
    """
    from ecoalign.aligner import run_blocking
    from ecoalign.models.openai import OpenAIModel
    from ecoalign.probe import default_budget, probe_model

    # What a model's requests find out by and by is what is looked at here, and in the table.
    logging.getLogger("ecoalign.models").setLevel(logging.ERROR)
    options = SettingsOptions(model=model, base_url=base_url, config=config, pairs=pairs)
    settings = options.load()
    opened = settings.replace(profile="none").open_model()
    allowed = Budget.parse(budget) if budget else default_budget(opened, judge=judge)
    shown = not (quiet or as_json)
    if shown and isinstance(opened, OpenAIModel):
        say(f"probing {opened.name}: {_most(allowed, opened.name, settings.price_book())}")

    def on_progress(what: str) -> None:
        if shown:
            say(f"  {what} ...")

    report = run_blocking(probe_model(opened, settings, allowed, on_progress, judge=judge))
    kept = _keep(report, out, save=save)
    if as_json:
        print_json(report.to_json() | {"file": None if kept is None else str(kept)})
        return
    _show(report, kept)


def _keep(report: Report, out: Path | None, *, save: bool) -> Path | None:
    """Write the profile, if there is anything to keep; its file."""
    if not report.measured or not (save or out is not None):
        return None
    return report.save(out)


def _most(budget: Budget, model: str, prices: PriceBook) -> str:
    """What may be spent, in words, with its price where that is known."""
    usd = budget.usd
    price = prices.lookup(model)
    if usd is None and budget.tokens is not None and price is not None:
        # All of it as output would be the dearest, and cannot be: most are tokens of images.
        usd = float(price.cost(Usage(prompt=budget.tokens)))
    most = amount(budget.tokens, usd, budget.seconds)
    return f"at most {most}, usually far less"


def _show(report: Report, kept: Path | None) -> None:
    """Print the findings on standard output."""
    rows = [(one.what, one.found, one.how) for one in report.findings]
    rich_console().print(rich_table(("what", "found", "how"), rows))
    spent = report.spent
    tell(
        f"spent {amount(spent.tokens.total, spent.usd, spent.seconds)} in {spent.calls} calls; "
        f"profile {report.profile.hash}"
    )
    if kept is not None:
        tell(f"kept in {kept}, and found from now on" if kept == report.file else f"kept in {kept}")
    for problem in report.problems:
        say(f"warning: {problem}")
