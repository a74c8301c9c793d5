"""Finding out what a server and its model can do, by a dozen cheap calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from ecoalign.aligner import run_blocking
from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.errors import BudgetExceeded, ModelError
from ecoalign.models import (
    ChatModel,
    ChatRequest,
    Message,
    TextPart,
    profile_of,
    shipped_profile,
)
from ecoalign.models.openai import OpenAIModel
from ecoalign.probe import _checks
from ecoalign.probe._calls import Calls
from ecoalign.probe._pictures import plain
from ecoalign.probe._report import Finding, FormResult, Report
from ecoalign.probe._verdicts import compared, judges
from ecoalign.probe._verdicts import findings as findings_of
from ecoalign.settings import Settings

IMAGES = 10
"""How many images a probe sends, at most."""

TEXT = 30_000
"""Tokens of a probe's other calls, at most: text by its bytes, and room to think."""


def default_budget(model: ChatModel, *, judge: bool = False) -> Budget:
    """The most that a probe of `model` may spend; it usually spends a small part of it.

    The worst case of an image is not known before it is measured.

    Args:
        model: who is probed.
        judge: whether its verdicts are tried, too.
    """
    words = ChatRequest((Message("user", (TextPart(""),)),), 1, "probe")
    image = ChatRequest((Message("user", (plain(*_checks.SIZES[-1]),)),), 1, "probe")
    each = max(0, model.bound(image).total - model.bound(words).total)
    verdicts = 0
    if judge:
        known = shipped_profile(model.name.partition(":")[2])
        # Whether the server gives log-probabilities is found out only then.
        verdicts = max(
            sum(one.bound().total for one in judges(model, replace(known, logprobs=most)))
            for most in (0, 20)
        )
    return Budget(tokens=TEXT + IMAGES * each + verdicts)


def probe(
    model: str | ChatModel | None = None,
    *,
    settings: Settings | None = None,
    budget: Budget | str | None = None,
    judge: bool = False,
    on_progress: Callable[[str], object] | None = None,
) -> Report:
    """Find out what a model can do on its server, by about a dozen cheap calls.

        report = probe("openai:my-model", settings=Settings(base_url="http://localhost:8000/v1"))
        report.save()

    Args:
        model: as in `Aligner`; that of the settings if None.
        settings: where it is and how it is reached; else they are loaded.
        budget: the most that may be spent; `default_budget` if None.
        judge: also find out how well its verdicts separate harmless from unwanted requests, and
            which scoring form does it best: some hundred further calls.
        on_progress: told what is being looked at.

    Raises:
        ModelError: the server cannot be reached, or does not know the model or the key.
        InputError: there is no such model.
    """
    allowed = Budget.parse(budget) if isinstance(budget, str) else budget
    return run_blocking(probe_model(model, settings, allowed, on_progress, judge=judge))


async def probe_model(
    model: str | ChatModel | None = None,
    settings: Settings | None = None,
    budget: Budget | None = None,
    on_progress: Callable[[str], object] | None = None,
    *,
    judge: bool = False,
) -> Report:
    """As `probe`, in a running event loop."""
    settings = Settings.load() if settings is None else settings
    async with _opened(model, settings) as probed:
        ledger = Ledger(budget or default_budget(probed, judge=judge), settings.price_book())
        when = datetime.now(UTC).date().isoformat()
        tell = on_progress or (lambda _: None)
        if not isinstance(probed, OpenAIModel):
            found = "in this process, with no server between: there is nothing to find out"
            return Report(
                probed.name,
                probed.name,
                "",
                (Finding("where it runs", found, f"dialect {probed.dialect}"),),
                profile_of(probed),
                when,
                ledger.spent,
            )
        findings = await _look(Calls(probed, ledger, settings.retries), tell)
        report = Report(
            probed.name,
            probed.model,
            probed.base_url,
            tuple(findings),
            shipped_profile(probed.model),
            when,
            ledger.spent,
        )
        return await _judge(report, probed, ledger, settings, tell) if judge else report


@asynccontextmanager
async def _opened(model: str | ChatModel | None, settings: Settings) -> AsyncIterator[ChatModel]:
    """The model with nothing known of it, so that nothing is left out or added in its name."""
    opened = settings.replace(profile="none").open_model(model)
    try:
        yield opened
    finally:
        await opened.aclose()


async def _look(calls: Calls, tell: Callable[[str], object]) -> list[Finding]:
    """All checks, in an order in which the later ones use what the earlier ones found."""
    tell("is anybody there, and does it think")
    findings, before = await _checks.first(calls)
    try:
        tell("text, and the cap on the output")
        findings += await _checks.text_and_cap(calls, before)
        tell("token counter")
        findings += await _checks.counter(calls)
        tell("images")
        seen, sees = await _checks.images(calls, before)
        findings += seen
        tell("system role and prefix cache")
        findings += await _checks.system_and_cache(calls, before, sees=sees)
        tell("JSON")
        findings += await _checks.schemas(calls)
        tell("log-probabilities and seed")
        findings += await _checks.logprobs_and_seed(calls)
        if sees:
            tell("boxes")
            findings += await _checks.boxes(calls)
            tell("smallest image")
            findings += await _checks.smallest(calls)
    except BudgetExceeded as short:
        findings.append(Finding("budget", "used up: not all was looked at", str(short), {}, True))
    except ModelError as error:
        findings.append(Finding("server", "failed: not all was looked at", str(error), {}, True))
    return findings + _checks.negotiated(calls)


async def _judge(
    report: Report,
    model: OpenAIModel,
    ledger: Ledger,
    settings: Settings,
    tell: Callable[[str], object],
) -> Report:
    """The report with how well the model's verdicts separate, asked for as was just found out."""
    model.profile = settings.tuned(report.profile)
    metered = MeteredClient(
        ledger, settings.retries, max_concurrency=settings.max_concurrency
    ).scoped(stage="judge")
    forms: tuple[FormResult, ...] = ()
    try:
        forms = await compared(judges(model, model.profile), metered, tell)
        found = findings_of(forms)
    except (BudgetExceeded, ModelError) as error:
        found = [Finding("verdicts", "not compared to the end", str(error), {}, problem=True)]
    return replace(report, findings=(*report.findings, *found), forms=forms, spent=ledger.spent)
