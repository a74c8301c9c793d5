"""The processes that read large requests and decode pictures: started, shared out, ended, replaced.

Half of them do large jobs and the others small ones, so that a small picture never waits for a
large one, and the memory of the large ones is known. Keys take turns.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

if sys.platform == "linux":
    import fcntl

from ecoalign.gateway._admission import Admission, Overloaded
from ecoalign.gateway._errors import SERVER, ApiError
from ecoalign.gateway._work import Head, receive, send

Result = TypeVar("Result")

LARGE = 1024 * 1024
"""Bytes of a payload, or pixels of a picture, from which on a job is a large one."""

_QUEUE = 1024
"""Jobs that wait, of each kind."""

_GRACE = 0.25
"""Seconds that a job has to end which nobody waits for any more."""

_KEPT = frozenset(
    {"PATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT"}
    | {"TMPDIR", "TEMP", "TMP"}
)
"""What a worker gets of the environment: no key is in it."""

_PROF = 27
"""The number of SIGPROF."""

_WAITS = 4

_PIPE = 1024 * 1024

_PACKAGE = Path(__file__).parents[2]


class Worker:
    """One process, which starts with its first job and again after it has died.

    Args:
        memory: that it may take, in bytes.
        seconds: of processor time that a job may take.
    """

    def __init__(self, memory: int, seconds: float) -> None:
        self._memory = memory
        self._seconds = seconds
        self._lock = threading.Lock()
        # One at a time works with its lines, the one who waits for its start included.
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = False
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process; None where there is none."""
        return None if self._process is None else self._process.pid

    def do(
        self,
        head: Mapping[str, object],
        payload: list[Any],
        result: Callable[[Head, IO[bytes]], Result],
    ) -> Result:
        """Do one job; blocks until it is done.

        Args:
            head: of the job.
            payload: its bytes; it is emptied once they are sent.
            result: takes the result from the line, given its head.

        Raises:
            TimeoutError: the job has taken too long.
            OSError, EOFError: the process has died.
        """
        with self._started() as process:
            try:
                send(_line(process.stdin), head, payload)
                payload.clear()
                said = receive(_line(process.stdout))
                if said is None:
                    raise EOFError
                return result(said, _line(process.stdout))
            except (OSError, EOFError):
                if _ended_by(process) == -_PROF:
                    raise TimeoutError from None
                raise

    def start(self) -> None:
        """Start the process; blocks until it can work.

        Raises:
            OSError, EOFError: it does not start.
        """
        with self._started():
            pass

    def kill(self, *, close: bool = False) -> None:
        """End the process at once; the next job starts another one, unless this is the end."""
        with self._lock:
            self._closed = self._closed or close
            process, self._process = self._process, None
            busy = self._busy
        if process is not None:
            process.kill()
            process.wait()
            if not busy:  # Who works with it reads the end of its lines, and then closes them.
                _close(process)

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        with self._turn, self._alone() as process:
            yield process

    @contextmanager
    def _alone(self) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            if self._closed:
                raise OSError("the pool of workers is closed")
            process = self._process
            if process is not None and process.poll() is not None:
                _close(process)
                process = None
            fresh = process is None
            if process is None:
                process = self._process = _spawned(self._memory, self._seconds)
            self._busy = True
        try:
            if fresh and receive(_line(process.stdout)) is None:
                raise EOFError
            yield process
        finally:
            with self._lock:
                self._busy = False
                gone = self._process is not process
            if gone:
                _close(process)


def _spawned(memory: int, seconds: float) -> subprocess.Popen[bytes]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    paths = [str(_PACKAGE), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "ecoalign.gateway._work", str(memory), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={
            **kept,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OPENBLAS_NUM_THREADS": "1",
            # What is freed goes back to the system at once.
            "MALLOC_ARENA_MAX": "1",
            "MALLOC_MMAP_THRESHOLD_": "262144",
            "MALLOC_TRIM_THRESHOLD_": "1048576",
        },
    )
    if sys.platform == "linux":
        for line in (process.stdin, process.stdout):
            # Fewer turns with the event loop for each picture.
            with suppress(OSError):
                fcntl.fcntl(_line(line), fcntl.F_SETPIPE_SZ, _PIPE)
    return process


def _ended_by(process: subprocess.Popen[bytes]) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(_GRACE)
    return None


def _line(line: IO[bytes] | None) -> IO[bytes]:
    return cast("IO[bytes]", line)


def _close(process: subprocess.Popen[bytes]) -> None:
    _line(process.stdin).close()
    _line(process.stdout).close()


@dataclass(slots=True)
class _Lane:
    """The workers for jobs of one size."""

    workers: list[Worker]
    places: Admission
    idle: list[Worker]

    @classmethod
    def of(cls, count: int, memory: int, seconds: float) -> _Lane:
        workers = [Worker(memory, seconds) for _ in range(count)]
        return cls(workers, Admission(count, _QUEUE), list(workers))


class WorkerPool:
    """Workers, and the queue before them. Belongs to one event loop.

    Args:
        count: processes for large jobs, and as many for small ones, >= 1.
        memory: of one of them, in bytes, beyond its code; where the system can bound that.
        seconds: of processor time that a job may take, and a quarter of what it may take by the
            clock, the start of its process included.
    """

    def __init__(self, count: int, memory: int, seconds: float) -> None:
        self._seconds = seconds
        self._large = _Lane.of(count, memory, seconds)
        self._small = _Lane.of(count, memory, seconds)
        self._threads = ThreadPoolExecutor(2 * count, thread_name_prefix="worker")

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        every = (*self._large.workers, *self._small.workers)
        return [worker.pid for worker in every if worker.pid is not None]

    async def warm(self) -> None:
        """Start the processes for small jobs now, so that no picture has to wait for that."""
        loop = asyncio.get_running_loop()
        for worker in self._small.workers:
            with suppress(OSError, EOFError):
                await loop.run_in_executor(self._threads, worker.start)

    async def do(
        self,
        owner: str,
        head: Mapping[str, Any],
        payload: list[Any],
        result: Callable[[Head, IO[bytes]], Result],
        *,
        large: bool,
    ) -> Result:
        """Have a job done; see `Worker.do`.

        Args:
            owner: whose turn it takes.
            head, payload, result: see `Worker.do`; `result` runs in a thread.
            large: whether it may take much memory or time.

        Raises:
            ApiError: 503, the queue is full or the worker has died; 400, it takes too long.
        """
        lane = self._large if large else self._small
        async with _place(lane, owner) as worker:
            loop = asyncio.get_running_loop()
            job = loop.run_in_executor(self._threads, worker.do, head, payload, result)
            try:
                done, _ = await asyncio.wait([job], timeout=_WAITS * self._seconds)
            except asyncio.CancelledError:
                await self._ended(worker, job, _GRACE)
                raise
            if not done:
                await self._ended(worker, job, 0)
                raise _too_slow(self._seconds)
            try:
                return job.result()
            except TimeoutError:
                await self._ended(worker, job, 0)
                raise _too_slow(self._seconds) from None
            except (OSError, EOFError):
                await self._ended(worker, job, 0)
                raise _died() from None

    async def _ended(self, worker: Worker, job: asyncio.Future[Any], grace: float) -> None:
        """See to it that a job is over and its worker free, within `grace` or by force.

        However often the request is cancelled: a worker that goes on belongs to nobody.
        """

        async def end() -> None:
            await asyncio.wait([job], timeout=grace)
            if not job.done() or job.exception() is not None:
                await asyncio.to_thread(worker.kill)
                await asyncio.wait([job])
                job.exception()

        ending = asyncio.ensure_future(end())
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    def close(self) -> None:
        """End every process."""
        for worker in (*self._large.workers, *self._small.workers):
            worker.kill(close=True)
        self._threads.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def _place(lane: _Lane, owner: str) -> AsyncGenerator[Worker, None]:
    places = lane.places.slot(owner)
    try:
        await places.__aenter__()
    except Overloaded as full:
        raise ApiError(
            503,
            "too many large requests and pictures wait to be read; try again shortly",
            SERVER,
            code="overloaded",
            retry_after=full.retry_after,
        ) from None
    worker = lane.idle.pop()
    try:
        yield worker
    finally:
        lane.idle.append(worker)
        await places.__aexit__(None, None, None)


def _died() -> ApiError:
    return ApiError(
        503,
        "the process that read a part of this request has ended; try again, and if it happens "
        "again send another picture",
        SERVER,
        code="worker_failed",
        retry_after=1,
    )


def _too_slow(seconds: float) -> ApiError:
    return ApiError(
        400,
        f"a part of the request takes longer to read than the {seconds:g} s that it has: a picture "
        "that is slow to decode, or a body that is slow to unpack",
        code="too_slow_to_read",
    )
