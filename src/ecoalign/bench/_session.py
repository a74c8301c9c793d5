"""One run of an experiment from its options to its report: what `ecoalign bench run` calls."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoalign._text import short
from ecoalign.bench._cache import ResponseCache, scope_of
from ecoalign.bench._experiments import (
    BASE,
    BenchOptions,
    Variant,
    experiment_named,
    method_names,
)
from ecoalign.bench._judges import Judges
from ecoalign.bench._metrics import OwnTable, Summary, summarise
from ecoalign.bench._rows import (
    FAILED,
    Row,
    Store,
    check_manifest,
    in_order,
    read_manifest,
    read_rows,
)
from ecoalign.bench._runner import OpenMethod, Plan, pick, run
from ecoalign.bench.suites import open_suite
from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.methods import open_method
from ecoalign.models import ChatModel
from ecoalign.models.fake import FakeModel

if TYPE_CHECKING:
    from ecoalign.bench.progress import BenchProgress
    from ecoalign.bench.suites._base import Suite
    from ecoalign.methods import Method
    from ecoalign.settings import Settings

# A run of the same name with another of these is another run.
_FIXED = (
    *("experiment", "suite", "split", "path", "options", "model", "weights", "judges"),
    *("judge_base_url", "repeats", "settings", "budgets"),
)


class Session:
    """Options made ready to run. Nothing is asked and nothing written before `run`.

    Attributes:
        plan: what is to be run.
        out: the folder of the run.
        notes: what is to be known of it before it is paid for, a sentence each.

    Raises:
        InputError: something in the options is wrong; files of a suite are read here.
    """

    def __init__(self, options: BenchOptions) -> None:
        if len(options.budgets) == 1:
            settings = options.settings.replace(budget=options.budgets[0])
            options = replace(options, settings=settings, budgets=())
        for text in options.budgets:
            Budget.parse(text)
        if options.limit is not None and options.limit < 0:
            raise InputError(f"--limit must be 0 (all) or more, not {options.limit}")
        self.options = options
        self.experiment = experiment_named(options.experiment)
        self._suite_options = _pairs(options.suite_options)
        suite, self._open_method = self._suite()
        settings = options.settings
        limit = self.experiment.limit if options.limit is None else options.limit
        self.model: ChatModel = FakeModel(lambda request: "", name="none")
        if self.experiment.own is None:
            self.model = settings.open_model()
        variants = self._variants()
        every = suite.samples()
        samples = pick(every, limit or None)
        self.notes = [str(note) for note in getattr(suite, "notes", ())]
        if self.notes and len(samples) < len(every):
            self.notes.append(f"{len(samples)} of {len(every):,} are asked; --limit 0 asks all")
        if not samples:
            raise InputError(f"the suite {suite.name} has no samples")
        name = self.experiment.name
        self.plan = Plan(name, variants, suite, samples, settings, options.repeats)
        self.split = str(getattr(suite, "split", ""))
        parts = (name, suite.name, self.split, self.model.name)
        slug = _file_name("-".join(part for part in parts if part))
        self.out = options.out or Path("ecoalign-bench") / slug

    def _suite(self) -> tuple[Suite, OpenMethod]:
        options, experiment = self.options, self.experiment
        if experiment.own is None:
            return self._asked_suite(), _open_method
        suite, method = experiment.own(options)
        if options.suite is not None and options.suite != suite.name:
            other = getattr(options.suite, "name", options.suite)
            raise InputError(
                f"the experiment {experiment.name} has a suite of its own, {suite.name}; "
                f"it cannot be run on {other}"
            )
        return suite, method

    def _asked_suite(self) -> Suite:
        options, suite = self.options, self.options.suite or "world"
        split = {} if options.split is None else {"split": options.split}
        if isinstance(suite, str | Path):
            return open_suite(suite, options.path, **split, **self._suite_options)
        if options.path is not None or split or self._suite_options:
            raise InputError(
                f"the suite {suite.name} is made in Python: path, split and options are its own"
            )
        return suite

    def _variants(self) -> list[Variant]:
        options, experiment = self.options, self.experiment
        if options.budgets and experiment.name != "budget":
            raise InputError("several budgets are for the experiment budget; give one --budget")
        names = method_names() if experiment.own is None else []
        every = experiment.variants(names, self.model.dialect, options.budgets)
        wanted = options.methods
        if isinstance(wanted, str):
            wanted = [name.strip() for name in wanted.split(",") if name.strip()]
        if not wanted:
            return every
        chosen: list[Variant] = []
        for name in wanted:
            found = [one for one in every if name in _names(one)]
            if not found and experiment.name == "main":
                # A method that is understood and not listed, such as best-of-8; or a mistake.
                found = [Variant(name, open_method(name, options.settings).name)]
            if not found:
                known = ", ".join(dict.fromkeys(one.name for one in every))
                raise InputError(
                    f"--methods {name}: not in the experiment {experiment.name}, which has: {known}"
                )
            chosen += [one for one in found if one not in chosen]
        if not any(one.method == BASE for one in chosen):
            # Costs are reported as multiples of Base.
            chosen = [one for one in every if one.method == BASE] + chosen
        return chosen

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run is a run of, as plain JSON."""
        from ecoalign._version import __version__

        options = self.options
        return {
            "experiment": self.experiment.name,
            "suite": self.plan.suite.name,
            "split": self.split,
            "path": None if options.path is None else str(options.path),
            "options": self._suite_options,
            "model": self.model.name,
            "weights": scope_of("embedded") if self.model.name == "embedded" else None,
            "judges": list(options.judges),
            "judge_base_url": options.judge_base_url,
            "repeats": options.repeats,
            "settings": options.settings.to_json(),
            "budgets": list(options.budgets),
            "samples": len(self.plan.samples),
            "data": self._data(),
            "variants": [asdict(variant) for variant in self.plan.variants],
            "command": options.command,
            "version": __version__,
        }

    def _data(self) -> dict[str, str]:
        """What each sample of one's own file is, so that a run goes on with the same one only."""
        digests: Mapping[str, str] = getattr(self.plan.suite, "digests", {})
        return {one.id: digests[one.id] for one in self.plan.samples if one.id in digests}

    def _check_data(self) -> None:
        """See that what was answered is what is asked now; what is new may have come to it.

        Raises:
            InputError: a sample that was asked has been changed since.
        """
        now, before = self._data(), read_manifest(self.out).get("data")
        if not isinstance(before, dict):
            return
        changed = [key for key in now if before.get(key, now[key]) != now[key]]
        if changed:
            shown = ", ".join(short(key, 30) for key in changed[:5])
            raise InputError(
                f"{self.out} holds answers to {len(changed)} questions that were changed since "
                f"({shown}{', ...' * (len(changed) > 5)}): give another --out, or remove the folder"
            )

    def _kept_manifest(self) -> dict[str, Any]:
        """The manifest, with what earlier runs here said of samples that are not asked now."""
        before = read_manifest(self.out).get("data")
        data = (before if isinstance(before, dict) else {}) | self._data()
        return self.manifest | {"data": data}

    def run(
        self,
        begun: Callable[[BenchProgress], None] | None = None,
        watch: Callable[[Row], None] | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> BenchProgress:
        """Ask what has no row yet, then write the report.

        The first Ctrl-C lets what is under way finish; the second one ends it at once.

        Args:
            begun: called once; `before` says how much is there already.
            watch: called with every new row.
            stopping: called at the first Ctrl-C.

        Raises:
            InputError: the folder holds another run, or cannot be written.
            KeyboardInterrupt: it was ended at once; every finished sample is kept.
        """
        self._check_data()
        check_manifest(self.out, self._kept_manifest(), _FIXED)
        try:
            progress = asyncio.run(self._run(begun, watch, stopping))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        if self.rows():
            check_manifest(self.out, self._kept_manifest() | {"totals": self.totals()}, _FIXED)
            from ecoalign.bench.report import write_report

            write_report(self.out)
            if self.options.xlsx:
                self._write_predictions()
        return progress

    async def _run(
        self,
        begun: Callable[[BenchProgress], None] | None,
        watch: Callable[[Row], None] | None,
        stopping: Callable[[], None] | None,
    ) -> BenchProgress:
        options, settings = self.options, self.options.settings
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.model.aclose)
            judges = self._open_judges()
            if judges is not None:
                stack.push_async_callback(judges.aclose)
            cache = self._open_cache()
            if cache is not None:
                stack.callback(cache.close)
            stop = stack.enter_context(_interruptible(stopping))
            store = stack.enter_context(Store(self.out, sync=self.experiment.own is None))
            return await run(
                self.plan,
                self.model,
                store,
                self._open_method,
                price=settings.price_book(),
                judges=None if judges is None else judges.paid_by,
                cache=cache,
                concurrency=options.concurrency or self.experiment.concurrency,
                retry_failed=options.retry_failed,
                begun=begun,
                watch=watch,
                stop=stop,
            )

    def _open_cache(self) -> ResponseCache | None:
        path = self.options.cache
        if path is False:
            return None
        if path is True:
            from platformdirs import user_cache_path

            path = user_cache_path("ecoalign") / "responses.sqlite"
        settings = self.options.settings
        return ResponseCache(
            path, scope_of(self.model.name, settings.reach(settings.model).base_url)
        )

    def _open_judges(self) -> Judges | None:
        options, settings = self.options, self.options.settings
        if not options.judges:
            return None
        models = [
            settings.open_model(name, role="judge", base_url=options.judge_base_url)
            for name in options.judges
        ]
        return Judges(models, retries=settings.retries)

    def rows(self) -> list[Row]:
        """The rows of these options that are there; others may be in the folder, too."""
        names = [variant.name for variant in self.plan.variants]
        ids = {sample.id for sample in self.plan.samples}
        there = [
            row for row in read_rows(self.out) if row.key.variant in names and row.key.sample in ids
        ]
        return in_order(there, names)

    def totals(self) -> dict[str, dict[str, float]]:
        """The official figures of each variant, from what is scored so far of the first repeat.
        Failed samples are not in them."""
        samples = {sample.id: sample for sample in self.plan.samples}
        found: dict[str, list[Any]] = {}
        for row in self.rows():
            if row.key.repeat == 0 and row.score is not None and row.score.label != FAILED:
                scored = found.setdefault(row.key.variant, [])
                scored.append((samples[row.key.sample], row.score))
        return {variant: self.plan.suite.totals(scored) for variant, scored in found.items()}

    def table(self) -> OwnTable | None:
        """The table of the experiment's own, if it has one."""
        if self.experiment.table is None:
            return None
        given = {variant.name: variant.given for variant in self.plan.variants}
        return self.experiment.table(self.rows(), given)

    def summaries(self) -> list[Summary]:
        """The figures of each variant."""
        return summarise(self.rows(), self.experiment.reference)

    def _write_predictions(self) -> None:
        from ecoalign.bench._spreadsheet import prediction_rows, write_predictions

        plan, rows = self.plan, {row.key: row for row in self.rows()}
        for variant in plan.variants:
            keys = {plan.key(variant, sample): sample for sample in plan.samples}
            answered = [
                (sample, rows[key].question, rows[key].answer)
                for key, sample in keys.items()
                if key in rows
            ]
            if answered:
                path = self.out / f"{plan.suite.name}-{_file_name(variant.name)}.xlsx"
                write_predictions(path, prediction_rows(answered))


def _open_method(variant: Variant, settings: Settings) -> Method:
    return open_method(variant.method, settings)


def _names(variant: Variant) -> set[object]:
    return {variant.name, variant.method, variant.given.get("method")}


def _file_name(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-._" else "-" for char in text)


def _pairs(options: Mapping[str, object] | Sequence[str]) -> dict[str, object]:
    """Options by name, from a mapping or from texts "name=value"."""
    if isinstance(options, Mapping):
        return dict(options)
    found: dict[str, object] = {}
    for pair in options:
        name, equals, value = pair.partition("=")
        if not (equals and name.strip()):
            raise InputError(f"--suite-option takes name=value, as in tiny=true, not {pair!r}")
        found[name.strip()] = value
    return found


@contextmanager
def _interruptible(stopping: Callable[[], None] | None) -> Iterator[asyncio.Event]:
    """The first Ctrl-C sets the event, the second one cancels this task. Where signals cannot be
    handled so, Ctrl-C stays what it is."""
    stop, loop, task = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()

    def interrupted() -> None:
        if stop.is_set():
            if task is not None:
                task.cancel()
            return
        stop.set()
        if stopping is not None:
            stopping()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, RuntimeError, ValueError):
        yield stop
        return
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)
