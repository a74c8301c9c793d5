"""A file of questions under one budget: read, answered, written; what `ecoalign batch` calls."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from ecoalign import errors
from ecoalign.aligner import run_blocking
from ecoalign.batch._desk import PATIENCE, Desk, Outcome, Stop
from ecoalign.batch._items import Item, items_of
from ecoalign.batch._journal import SUFFIX, Journal
from ecoalign.batch._output import carried, check_format, write_lines, write_output
from ecoalign.batch._preferences import line, pairs, traced_branches
from ecoalign.batch._progress import BatchProgress
from ecoalign.batch._rows import STDIN, Source, read_source
from ecoalign.batch._work import UNASKED, Worker, not_asked
from ecoalign.budget import Budget, BudgetLike
from ecoalign.budget.pacing import Sum
from ecoalign.errors import BudgetTooSmall, EcoAlignError, InputError, UnpricedModelError
from ecoalign.methods import Answerer, open_method
from ecoalign.models import ChatModel, Usage
from ecoalign.settings import Settings

Engine = Literal["local", "ray"]

_ENDED = {"interrupted": 130, "terminated": 143}
"""The exit codes of what the user has ended."""

_FREE = frozenset(
    {"base_url", "endpoints", "prices", "timeout", "retries", "max_concurrency", "history"}
)
"""Settings that no answer depends on: where the model is, what it costs, how it is waited for."""

GRACE = 20.0
"""Seconds in which items under way may end after SIGTERM, before their calls are cut off."""

Watch = Callable[[BatchProgress], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: what is asked, under which settings, and where the answers go.

        result = Batch("questions.jsonl", "answers.jsonl", total_budget="2000k").run()

    What was done is kept in OUTPUT.journal. The same batch run again goes on where it was, also
    after kill -9: no finished item is lost or paid twice.

    Attributes:
        input: a .jsonl, .json, .csv, .tsv or .parquet file, a folder of images, "-" for JSON lines
            on standard input, or rows as mappings.
        output: a .jsonl, .csv or .parquet file. It is there once every row has an outcome.
        settings: of every answer, `budget` included; `Settings.load()` if None.
        question, system, method: for rows without one of their own.
        columns: the column of a role, where it is not called so: question, image, budget, method,
            system, context.
        total_budget: what all answers may spend together, earlier runs included, as `Budget.of`
            reads it ("2000k", "$5", a Budget); None for no bound. Its time is that of one run.
        concurrency: items at once, >= 1.
        traces: a folder for a trace of each item.
        preferences: a file of JSON lines for preference data.
        max_failures: failed items after which a run stops; None for any number.
        retry_failed: ask again all that failed in an earlier run, and not only what the model
            failed.
        fresh: set the journal of an earlier run aside and begin anew.
        engine: "local", or "ray" for Ray Data.
        workers: processes of Ray, >= 1.
        gpus: of each process of Ray, for models that run in it.
        model: who answers, in place of the settings' model; with the local engine only.
    """

    input: str | Path | Sequence[Mapping[str, Any]]
    output: str | Path
    settings: Settings | None = None
    question: str | None = None
    system: str = ""
    method: str = "ecoalign"
    columns: Mapping[str, str] = field(default_factory=dict)
    total_budget: BudgetLike | None = None
    concurrency: int = 4
    traces: str | Path | None = None
    preferences: str | Path | None = None
    max_failures: int | None = None
    retry_failed: bool = False
    fresh: bool = False
    engine: Engine = "local"
    workers: int = 2
    gpus: float = 0.0
    model: ChatModel | None = None

    def run(
        self,
        watch: Watch | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> BatchResult:
        """Ask what has no row yet, then write the output.

        The first Ctrl-C lets what is under way finish, the second one ends it; SIGTERM ends it
        after `GRACE` seconds. Either way the result says so, and the journal is as it should be.

        Args:
            watch: told whenever an item has ended, and once before any is begun.
            tell: told what the user should know, a sentence at a time.

        Raises:
            InputError: something is wrong with the input, the options or the journal, or a file
                cannot be written.
        """
        run = _Run(self, watch or (lambda progress: None), tell or (lambda text: None))
        return run.run()


class BatchOptions(TypedDict, total=False):
    """The options of `Batch`, for `run`."""

    settings: Settings | None
    question: str | None
    system: str
    method: str
    columns: Mapping[str, str]
    total_budget: BudgetLike | None
    concurrency: int
    traces: str | Path | None
    preferences: str | Path | None
    max_failures: int | None
    retry_failed: bool
    fresh: bool
    engine: Engine
    workers: int
    gpus: float
    model: ChatModel | None


def run(
    input: str | Path | Sequence[Mapping[str, Any]],  # noqa: A002 - as the attribute of `Batch`
    output: str | Path,
    **options: Unpack[BatchOptions],
) -> BatchResult:
    """Run a batch; see `Batch` and `Batch.run`."""
    return Batch(input, output, **options).run()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a run of a batch went.

    Attributes:
        output: the file; None if it was not written, as not every row has an outcome.
        journal: where everything is kept.
        rows: of the input.
        statuses: how many rows are "answered", "refused", "error" and "budget" (not asked, for
            lack of money).
        fresh: rows that were asked now.
        charged: what all attempts of all runs cost together, in tokens and dollars; lost ones are
            counted at their bounds.
        usd: dollars as the rows say; None where a price is unknown.
        lost: items that had been under way when an earlier run was killed.
        seconds: that this run took.
        stopped: why it ended before every row had an outcome; "" if it did not, "budget" where
            money was short.
        short: what was lacking where money was short, in words.
        error: the last failure of an item, or the first where not one was answered.
        preferences: lines of preference data that were written.
        limit: the budget of the batch.
    """

    output: Path | None
    journal: Path
    rows: int
    statuses: Mapping[str, int]
    fresh: int
    charged: Sum
    usd: float | None
    lost: int
    seconds: float
    stopped: Stop
    short: str
    error: str
    preferences: int
    limit: Budget

    @property
    def exit_code(self) -> int:
        """What the command line ends with: 0 every row has its answer or its error, 3 the model
        failed, 4 the money was short, 130 interrupted, 143 ended by SIGTERM; where too many items
        failed, or all of them, the code of their error."""
        if self.stopped in _ENDED:
            return _ENDED[self.stopped]
        if self.stopped == "model":
            return errors.ModelError.exit_code
        failed = self.statuses.get("error", 0)
        if self.stopped == "failures" or (failed and failed == self.rows):
            return _exit_code(self.error)
        return BudgetTooSmall.exit_code if self.stopped == "budget" else 0

    def to_json(self) -> dict[str, object]:
        """The object that `ecoalign batch --json` prints."""
        return {
            "output": None if self.output is None else str(self.output),
            "journal": str(self.journal),
            "rows": self.rows,
            **{name: self.statuses.get(name, 0) for name in ("answered", "refused")},
            "failed": self.statuses.get("error", 0),
            "unasked": self.rows - sum(self.statuses.get(name, 0) for name in _DONE),
            "fresh": self.fresh,
            "charged": {"tokens": self.charged.tokens, "usd": self.usd},
            "budget": {"tokens": self.limit.tokens, "usd": self.limit.usd},
            "lost": self.lost,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "short": self.short,
            "error": self.error,
            "preferences": self.preferences,
            "exit_code": self.exit_code,
        }


_DONE = ("answered", "refused", "error")


def _exit_code(error: str) -> int:
    """The exit code of the error that a row tells of, by its type."""
    kind = getattr(errors, error.partition(":")[0], None)
    if isinstance(kind, type) and issubclass(kind, EcoAlignError):
        return kind.exit_code
    return 1


class _Run:
    """One run of a batch."""

    def __init__(self, batch: Batch, watch: Watch, tell: Callable[[str], None]) -> None:
        self.batch = batch
        self.watch = watch
        self.tell = tell
        self.settings = batch.settings or Settings.load()
        total = batch.total_budget
        self.limit = Budget() if total is None else Budget.of(total)
        self.output = Path(batch.output)
        self.journal_path = self.output.with_name(self.output.name + SUFFIX)
        self.traces = None if batch.traces is None else Path(batch.traces)
        self.preferences = None if batch.preferences is None else Path(batch.preferences)

    def run(self) -> BatchResult:
        """See `Batch.run`."""
        batch = self.batch
        begun = time.monotonic()
        self._check()
        source = read_source(batch.input, batch.columns.get("image"))
        items = items_of(source, batch.question, batch.method, batch.system, batch.columns)
        self._say(source)
        self._prepare()
        header = {
            "version": _version(),
            "settings": self._identity(),
            "question": batch.question,
            "system": batch.system,
            "method": batch.method,
        }
        with Journal(self.journal_path, header, fresh=batch.fresh) as journal:
            todo = self._todo(items, journal)
            progress = self._progress(items, journal, len(items) - len(todo))
            self.watch(progress)
            desk = self._desk(journal, len(todo))
            fresh = 0

            def ended(outcome: Outcome | None) -> None:
                nonlocal fresh
                if outcome is not None:
                    fresh += 1
                    progress.statuses[str(outcome.row["status"])] += 1
                account = desk.account
                progress.charged, progress.held = account.spent, account.held
                progress.price, progress.seconds = desk.price, time.monotonic() - begun
                self.watch(progress)

            if todo:
                run_blocking(self._asked(todo, desk, journal, ended))
            return self._finish(source, items, journal, desk, fresh, begun)

    def _check(self) -> None:
        """Raise InputError where something is wrong that need not wait for the input."""
        batch, output = self.batch, self.output
        for name, number, least in (
            ("concurrency", batch.concurrency, 1),
            ("workers", batch.workers, 1),
            ("max_failures", batch.max_failures or 1, 1),
        ):
            if number < least:
                raise InputError(f"{name} must be {least} or more, not {number}")
        if batch.engine not in {"local", "ray"}:
            raise InputError(f"there is no engine {batch.engine!r}; there are local and ray")
        check_format(output)
        if isinstance(batch.input, str | Path) and str(batch.input) != STDIN:
            for other in (output, self.preferences):
                if other is not None and other.exists() and other.samefile(batch.input):
                    raise InputError(f"{other} is the input; name another file")
        if output.exists() and not self.journal_path.exists() and not batch.fresh:
            raise InputError(
                f"{output} exists and has no journal beside it, so it is not this batch's: name "
                "another output, or give --fresh to replace it"
            )
        self._check_preferences()

    def _check_preferences(self) -> None:
        path = self.preferences
        if path is None:
            return
        if path == self.output or path.is_dir() or not path.parent.is_dir():
            raise InputError(f"preference data cannot be written to {path}")
        if path.exists() and not self.batch.fresh:
            try:
                with path.open(encoding="utf-8") as file:
                    ours = "chosen" in json.loads(file.readline() or '{"chosen": 0}')
            except (OSError, ValueError, TypeError):
                ours = False
            if not ours:
                raise InputError(f"{path} exists and is no preference data; name another file")

    def _say(self, source: Source) -> None:
        for note in source.notes:
            self.tell(note)
        renamed = [f"{name} is {new}" for name, new in carried(source).items() if name != new]
        if renamed:
            self.tell(f"columns of the input that are called as ours: {', '.join(renamed)}")
        left_out = [name for name in source.columns if name not in carried(source)]
        if left_out and self.output.suffix.lower() != ".parquet":
            self.tell(f"not carried over, as they hold bytes: {', '.join(left_out)}")

    def _prepare(self) -> None:
        """See that the model can be opened, and the price of a budget in dollars is known."""
        if self.batch.engine == "ray":
            from ecoalign.batch._ray import check

            if self.batch.model is not None:
                raise InputError("with the engine ray a model is named in the settings")
            check()
        open_method(self.batch.method, self.settings)
        book, model = self.settings.price_book(), self.settings.model
        if self.batch.model is not None:
            model = self.batch.model.name
        if self.limit.usd is not None and book(model, Usage(1, 1)) is None:
            raise UnpricedModelError(model)
        if self.traces is not None:
            try:
                self.traces.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"cannot make the folder {self.traces}: {error.strerror}"
                ) from None

    def _identity(self) -> dict[str, object]:
        """What every answer depends on, beside its row."""
        model = self.batch.model
        known = {name: v for name, v in self.settings.to_json().items() if name not in _FREE}
        return known | ({} if model is None else {"model": model.name})

    def _todo(self, items: Sequence[Item], journal: Journal) -> list[Item]:
        """What has no row, or one that does not count any more."""
        if journal.lost:
            cost = sum(journal.lost.values(), Sum())
            self.tell(
                f"{_count(len(journal.lost), 'item was', 'items were')} under way when the last "
                f"run ended; {cost.tokens:,} tokens are charged for them, and they are asked again"
            )
        known = {item.id: item for item in items}
        changed = [
            id_
            for id_, done in journal.done.items()
            if id_ in known and not known[id_].same_files(done.files)
        ]
        if changed:
            self.tell(
                f"{_count(len(changed), 'row is', 'rows are')} asked again: the image is not the "
                "one that was asked about"
            )
        failed = [
            id_
            for id_, done in journal.done.items()
            if id_ in known and (done.fault or (self.batch.retry_failed and done.status == "error"))
        ]
        if failed:
            self.tell(
                f"{_count(len(failed), 'row that failed is', 'rows that failed are')} asked again"
            )
        again = {*changed, *failed}
        if again:
            journal.again(sorted(again))
        stale = len(journal.done.keys() - known.keys())
        todo = [item for item in items if item.id not in journal.done]
        if journal.found:
            said = f"{len(items) - len(todo):,} of {len(items):,} rows are there already"
            if stale:
                said += (
                    f"; {_count(stale, 'answer', 'answers')} in {journal.path} "
                    f"{'is' if stale == 1 else 'are'} of no row of this input: rows were changed "
                    "or taken out, and what was changed is asked anew"
                )
            self.tell(said)
        return todo

    def _progress(self, items: Sequence[Item], journal: Journal, before: int) -> BatchProgress:
        statuses = Counter(journal.done[one.id].status for one in items if one.id in journal.done)
        price = journal.pace.price
        return BatchProgress(len(items), self.limit, before, statuses, journal.spent, price=price)

    def _desk(self, journal: Journal, waiting: int) -> Desk:
        patience = max(PATIENCE, 2 * self.batch.concurrency)
        return Desk(
            journal,
            self.limit,
            waiting,
            patience=patience,
            max_failures=self.batch.max_failures,
        )

    async def _asked(
        self,
        todo: Sequence[Item],
        desk: Desk,
        journal: Journal,
        ended: Callable[[Outcome | None], None],
    ) -> None:
        if self.batch.engine == "ray":
            from ecoalign.batch._ray import Processes, asked_on_ray

            workers = self.batch.workers
            at_once = -(-self.batch.concurrency // workers)
            traces = None if self.traces is None else self.traces.absolute()
            keep = self.preferences is not None
            processes = Processes(workers, at_once, self.batch.gpus, traces, keep)
            with _interruptible(desk, self.tell) as cut:
                await asked_on_ray(processes, self.settings, todo, desk, ended, cut)
            return
        async with Answerer(self.settings, self.batch.model) as answerer:
            keep = self.preferences is not None
            worker = Worker(answerer, desk, journal.cost, self.traces, keep)
            queue = iter(todo)

            async def work() -> None:
                for item in queue:
                    if desk.stopped:
                        return
                    if desk.short and item.budget is None:
                        continue
                    ended(await worker.do(item))

            with _interruptible(desk, self.tell) as cut:
                await together([work() for _ in range(self.batch.concurrency)], cut)

    def _finish(
        self,
        source: Source,
        items: Sequence[Item],
        journal: Journal,
        desk: Desk,
        fresh: int,
        begun: float,
    ) -> BatchResult:
        left = [item for item in items if item.id not in journal.done]
        stopped: Stop = desk.stopped if left else ""
        if left and not stopped:
            stopped = "budget"
        written = not left or stopped == "budget"
        preferences = 0
        if written:
            rows = (
                journal.read(item.id)["row"] if item.id in journal.done else not_asked(item)
                for item in items
            )
            write_output(self.output, source, rows)
            preferences = self._write_preferences(items, journal)
        statuses = Counter(journal.done[one.id].status for one in items if one.id in journal.done)
        if written and left:
            statuses[UNASKED] = len(left)
        prices = [done.usd for done in journal.done.values()]
        usd = None if None in prices else journal.spent.usd
        error = desk.error
        if not error and statuses["error"] == len(items):
            error = str(journal.read(items[0].id)["row"]["error"])
        return BatchResult(
            output=self.output if written else None,
            journal=self.journal_path,
            rows=len(items),
            statuses=dict(statuses),
            fresh=fresh,
            charged=journal.spent,
            usd=usd,
            lost=len(journal.lost),
            seconds=time.monotonic() - begun,
            stopped=stopped,
            short=desk.short,
            error=error,
            preferences=preferences,
            limit=self.limit,
        )

    def _write_preferences(self, items: Sequence[Item], journal: Journal) -> int:
        path = self.preferences
        if path is None:
            return 0

        unknown = 0

        def told() -> Iterator[tuple[Item, Mapping[str, Any], Sequence[Mapping[str, Any]]]]:
            nonlocal unknown
            for item in items:
                if item.id in journal.done and journal.done[item.id].status in _DONE[:2]:
                    kept = journal.read(item.id)
                    branches = kept.get("branches")
                    if branches is None:
                        branches = traced_branches(kept["row"]["trace"])
                    if branches is None:
                        unknown += 1
                    yield item, kept["row"], branches or ()

        images = any(item.images or item.stored is not None for item in items)
        folder = path.with_name(f"{path.stem}-images")
        count = write_lines(path, map(line, pairs(told(), folder, images=images)))
        if unknown:
            self.tell(
                f"{_count(unknown, 'row was', 'rows were')} answered without --preferences and "
                "--traces: what else was written for them is not known"
            )
        return count


async def together(work: Iterable[Coroutine[Any, Any, None]], cut: asyncio.Event) -> None:
    """Do all of it, until one fails or `cut` is set, which ends the others.

    Raises:
        Exception: the first failure.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    everything = asyncio.gather(*tasks)
    ending = asyncio.ensure_future(cut.wait())
    ending.add_done_callback(lambda _: everything.cancel())
    try:
        await everything
    except asyncio.CancelledError:
        if not cut.is_set():
            raise
    finally:
        ending.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, ending, return_exceptions=True)


@contextmanager
def _interruptible(desk: Desk, tell: Callable[[str], None]) -> Iterator[asyncio.Event]:
    """The first Ctrl-C stops the desk and the second one sets the event; SIGTERM does both, with
    `GRACE` seconds in between. Where signals cannot be handled so, they stay what they are."""
    cut, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupted() -> None:
        if desk.stopped in _ENDED:
            cut.set()
            return
        desk.stop("interrupted")
        tell("finishing what has begun; press Ctrl-C again to stop at once")

    def terminated() -> None:
        if desk.stopped not in _ENDED:
            desk.stop("terminated")
            tell(f"told to end: what has begun may take {GRACE:g} more seconds")
        loop.call_later(GRACE, cut.set)

    before: dict[signal.Signals, Any] = {}
    try:
        for number, handler in ((signal.SIGINT, interrupted), (signal.SIGTERM, terminated)):
            known = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, handler)
            except (NotImplementedError, RuntimeError, ValueError):
                continue
            before[number] = known
        yield cut
    finally:
        for number, known in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, known)


def _version() -> str:
    from ecoalign._version import __version__

    return __version__


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
