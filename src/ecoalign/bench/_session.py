"""One run of an experiment from its order to its report: what `ecoalign bench run` calls."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoalign.bench._experiments import BASE, Experiment, Variant, experiment_named
from ecoalign.bench._orders import DEFAULT_LIMIT, SUITES, method_names
from ecoalign.bench._rows import FAILED, Row, RowKey
from ecoalign.bench._store import Store, check_manifest, in_order, read_rows
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.bench._cache import ResponseCache
    from ecoalign.bench._judges import Judges
    from ecoalign.bench._metrics import Summary
    from ecoalign.bench._orders import Order
    from ecoalign.bench._runner import BenchProgress, OpenMethod
    from ecoalign.bench.report import ReportFiles
    from ecoalign.bench.suites._base import Suite
    from ecoalign.methods._base import Method
    from ecoalign.models import ChatModel
    from ecoalign.settings import Settings

__all__ = ["Session", "on_interrupt"]


def on_interrupt(stop: asyncio.Event, told: Callable[[], None] | None) -> Callable[[], None]:
    """Let the first Ctrl-C set `stop` and the second one cancel this task; returns what undoes
    that. Where signals cannot be handled so, Ctrl-C stays what it is."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupted() -> None:
        if stop.is_set():
            if task is not None:
                task.cancel()
            return
        stop.set()
        if told is not None:
            told()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, RuntimeError, ValueError):
        return lambda: None

    def release() -> None:
        loop.remove_signal_handler(signal.SIGINT)

    return release


DEFAULT_CONCURRENCY = 4

# A run of the same name with another of these is another run.
_FIXED = (
    *("experiment", "suite", "split", "path", "options", "model", "weights", "judges"),
    *("judge_base_url", "repeats", "settings", "budgets"),
)


class Session:
    """An order made ready. Nothing is asked and nothing written before `run`.

    Raises:
        InputError: something in the order is wrong; files of a suite are read here.
    """

    def __init__(self, order: Order) -> None:
        from ecoalign.bench._runner import Plan, pick

        self.order = order
        self.experiment: Experiment = experiment_named(order.experiment)
        self.suite: Suite = self._open_suite()
        self.model: ChatModel = self._open_model()
        self.variants = self._variants()
        if order.limit is not None and order.limit < 0:
            raise InputError(f"--limit must be 0 (all) or more, not {order.limit}")
        own = self.experiment.suite is not None
        limit = (0 if own else DEFAULT_LIMIT) if order.limit is None else order.limit
        samples = pick(self.suite.samples(), limit or None)
        if not samples:
            raise InputError(f"the suite {self.suite.name} has no samples")
        self.plan = Plan(
            self.experiment.name, self.variants, self.suite, samples, order.settings, order.repeats
        )
        self.out = order.out or Path("ecoalign-bench") / self._slug()

    # -- opening -----------------------------------------------------------------------------------

    def _open_suite(self) -> Suite:
        order, own = self.order, self.experiment.suite
        if own is not None:
            suite = own()
            if order.suite not in {None, suite.name}:
                raise InputError(
                    f"the experiment {self.experiment.name} has a suite of its own, {suite.name}; "
                    f"it cannot be run on {order.suite}"
                )
            return suite
        name = order.suite or "world"
        if name == "world":
            from ecoalign.bench.suites.world import WorldSuite

            if order.path is not None or order.options:
                raise InputError("the suite world has no files and no options")
            split = order.split or "test"
            if split not in {"dev", "test"}:
                raise InputError(f"the suite world has the splits dev and test, not {split!r}")
            return WorldSuite("dev" if split == "dev" else "test")
        if name not in SUITES:
            raise InputError(f"unknown suite {name!r}; there are: {', '.join(SUITES)}")
        if order.split is not None:
            raise InputError(f"the suite {name} has no --split: its files say what is in it")
        if order.path is None:
            raise InputError(
                f"the suite {name} is read from the files of its authors: say where they are, "
                "--path DIR. Nothing is downloaded"
            )
        from ecoalign.bench.suites._catalogue import open_suite

        return open_suite(name, order.path, **order.options)

    def _open_model(self) -> ChatModel:
        settings = self.order.settings
        if self.experiment.method is not None:
            from ecoalign.models.fake import FakeModel

            return FakeModel(lambda request: "", name="none")
        from ecoalign.models import open_model

        return open_model(settings.model, settings.base_url, settings.timeout)

    def _variants(self) -> list[Variant]:
        order, experiment = self.order, self.experiment
        if order.budgets and experiment.name != "budget":
            raise InputError("several budgets are for the experiment budget; give one --budget")
        names = method_names() if experiment.method is None else []
        every = experiment.variants(names, self.model.dialect, order.budgets)
        if not order.methods:
            return every
        chosen: list[Variant] = []
        for name in order.methods:
            found = [one for one in every if name in {one.name, one.method}]
            if not found and experiment.name == "main":
                # A method that is understood and not listed, such as best-of-8; or a mistake.
                from ecoalign.methods import open_method

                found = [Variant(name, open_method(name, order.settings).name)]
            if not found:
                known = ", ".join(dict.fromkeys(one.name for one in every))
                raise InputError(
                    f"--methods {name}: not in the experiment {experiment.name}, which has: {known}"
                )
            chosen += [one for one in found if one not in chosen]
        if not any(one.method == BASE for one in chosen):
            # Costs are told as multiples of Base.
            chosen = [one for one in every if one.method == BASE] + chosen
        return chosen

    def _slug(self) -> str:
        """A folder for the run: the same order, the same folder."""
        split = getattr(self.suite, "split", "")
        parts = [self.experiment.name, self.suite.name, str(split), self.model.name]
        text = "-".join(part for part in parts if part)
        return "".join(char if char.isalnum() or char in "-._" else "-" for char in text)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run is a run of, as plain JSON."""
        from ecoalign._version import __version__
        from ecoalign.bench._cache import scope_of

        order = self.order
        return {
            "experiment": self.experiment.name,
            "suite": self.suite.name,
            "split": str(getattr(self.suite, "split", "")),
            "path": None if order.path is None else str(order.path),
            "options": dict(order.options),
            "model": self.model.name,
            "weights": scope_of("embedded") if self.model.name == "embedded" else None,
            "judges": list(order.judges),
            "judge_base_url": order.judge_base_url,
            "repeats": order.repeats,
            "settings": order.settings.to_json(),
            "budgets": list(order.budgets),
            "samples": len(self.plan.samples),
            "variants": [asdict(variant) for variant in self.variants],
            "command": order.command,
            "version": __version__,
        }

    # -- running -----------------------------------------------------------------------------------

    def run(
        self,
        begun: Callable[[BenchProgress], None] | None = None,
        watch: Callable[[Row], None] | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> BenchProgress:
        """Ask what has no row yet, then write the report.

        The first Ctrl-C lets what is under way finish; the second one ends it at once.

        Args:
            begun: told how much is there already.
            watch: told of every new row.
            stopping: told of the first Ctrl-C.

        Raises:
            InputError: the folder holds another run, or cannot be written.
            KeyboardInterrupt: it was ended at once; every finished sample is kept.
        """
        check_manifest(self.out, self.manifest, _FIXED)
        try:
            outcome = asyncio.run(self._run(begun, watch, stopping))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        self._conclude()
        return outcome

    async def _run(
        self,
        begun: Callable[[BenchProgress], None] | None,
        watch: Callable[[Row], None] | None,
        stopping: Callable[[], None] | None,
    ) -> BenchProgress:
        from ecoalign.bench import _runner as runner

        order = self.order
        stop = asyncio.Event()
        release = on_interrupt(stop, stopping)
        cache = self._open_cache()
        judges = self._open_judges()
        try:
            with Store(self.out) as store:
                return await runner.run(
                    self.plan,
                    self.model,
                    store,
                    self._opener(),
                    price=order.settings.price_book(),
                    ask=judges,
                    cache=cache,
                    concurrency=order.concurrency
                    or self.experiment.concurrency
                    or DEFAULT_CONCURRENCY,
                    retry_failed=order.retry_failed,
                    begun=begun,
                    watch=watch,
                    stop=stop,
                )
        finally:
            release()
            if cache is not None:
                cache.close()
            if judges is not None:
                await judges.aclose()
            await self.model.aclose()

    def _opener(self) -> OpenMethod:
        own = self.experiment.method
        if own is not None:
            return lambda variant, settings: own(variant)
        from ecoalign.methods import open_method

        def opened(variant: Variant, settings: Settings) -> Method:
            return open_method(variant.method, settings)

        return opened

    def _open_cache(self) -> ResponseCache | None:
        if self.order.cache is None:
            return None
        from ecoalign.bench._cache import ResponseCache, scope_of

        scope = scope_of(self.model.name, self.order.settings.base_url)
        return ResponseCache(self.order.cache, scope)

    def _open_judges(self) -> Judges | None:
        order = self.order
        if not order.judges:
            return None
        from ecoalign.bench._judges import Judges
        from ecoalign.bench._runner import note_judge_call
        from ecoalign.budget import Budget, Ledger
        from ecoalign.models import open_model

        models = [
            open_model(name, order.judge_base_url, order.settings.timeout) for name in order.judges
        ]
        # Not a bound: judges are booked row by row, and a verdict that is missing helps nobody.
        ledger = Ledger(Budget(tokens=10**15), order.settings.price_book())
        return Judges(models, ledger, retries=order.settings.retries, on_call=note_judge_call)

    # -- afterwards --------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """The rows of this order that are there; others may be in the folder, too."""
        names = [variant.name for variant in self.variants]
        ids = {sample.id for sample in self.plan.samples}
        there = [
            row for row in read_rows(self.out) if row.key.variant in names and row.key.sample in ids
        ]
        return in_order(there, names)

    def totals(self) -> dict[str, dict[str, float]]:
        """The official figures of each variant, from what is scored so far of the first repeat.
        Failed samples are not in them."""
        samples = {sample.id: sample for sample in self.plan.samples}
        found = {}
        rows = self.rows()
        for variant in self.variants:
            scored = [
                (samples[row.key.sample], row.score)
                for row in rows
                if row.key.variant == variant.name
                and row.key.repeat == 0
                and row.score is not None
                and row.score.label != FAILED
            ]
            if scored:
                found[variant.name] = self.suite.totals(scored)
        return found

    def summaries(self) -> list[Summary]:
        """The figures of each variant."""
        from ecoalign.bench._metrics import summarise

        return summarise(self.rows(), self.experiment.reference)

    def report(self) -> ReportFiles:
        """Write the report again.

        Raises:
            InputError: nothing is finished yet, or it cannot be written.
        """
        from ecoalign.bench.report import write_report

        return write_report(self.out)

    def _conclude(self) -> None:
        if not self.rows():
            return
        check_manifest(self.out, self.manifest | {"totals": self.totals()}, _FIXED)
        self.report()
        if self.order.xlsx:
            self._write_predictions()

    def _write_predictions(self) -> None:
        from ecoalign.bench._spreadsheet import prediction_rows, write_predictions

        said = {row.key: row for row in self.rows()}
        for variant in self.variants:
            answered = []
            for sample in self.plan.samples:
                key = RowKey(
                    self.experiment.name,
                    variant.name,
                    variant.method,
                    self.suite.name,
                    sample.id,
                    0,
                )
                if key in said:
                    answered.append((sample, said[key].question, said[key].answer))
            if answered:
                name = "".join(c if c.isalnum() or c in "-._" else "-" for c in variant.name)
                path = self.out / f"{self.suite.name}-{name}.xlsx"
                write_predictions(path, prediction_rows(answered))
