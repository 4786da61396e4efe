"""Run calls that may hang for ever, each in a thread that does not delay the daemon's exit.

A user's path can be on a file server that does not answer. A thread that accesses such a path is
blocked in a system call and cannot be interrupted. The pool of `asyncio.to_thread` is unsuitable
for such calls. On a machine with two processors, the pool has six threads, so six blocked calls
would stop all other work of the daemon. Python also waits for all threads of the pool at exit, so
one blocked call would prevent the daemon's exit. The daemon therefore uses `ThreadPerCallExecutor`
as its event loop's executor. The caller waits for its thread with a time limit, and nothing else
waits for the thread. `MAX_THREADS` limits the number of blocked threads. With `PathSteps`, no
second thread accesses a path on which a thread is blocked.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, cast

from kconnd.errors import TimedOutError

MAX_THREADS = 256
STEP_LIMIT_S = 5.0  # the limit of a step; most disks spin up in less time
# The limit of a step while another step hangs. All paths on a file server hang together, so this
# step will probably hang too.
NEXT_LIMIT_S = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPerCallExecutor(ThreadPoolExecutor):
    """An executor that runs each call in a new thread.

    It derives from `ThreadPoolExecutor` because asyncio requires this of an event loop's executor.

    Parameters
    ----------
    max_threads : int
        The maximum number of concurrent calls.
    """

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        super().__init__(1, "call")
        self._free_threads = threading.BoundedSemaphore(max_threads)
        self._max_threads = max_threads

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run a call in a new thread.

        Raises
        ------
        TimedOutError
            If the maximum number of calls is already running.
        """
        if not self._free_threads.acquire(blocking=False):
            raise TimedOutError(
                f"{self._max_threads} calls of the daemon wait for a disk, a file server, or a "
                "program that it started",
                hint="repeat the request once they end; kconnd-ctl doctor and 'mount' may show "
                "what hangs",
            )
        future: Future[T] = Future()

        def run() -> None:
            try:
                if future.set_running_or_notify_cancel():
                    _settle(future, fn, *args, **kwargs)
            finally:
                self._free_threads.release()

        try:
            threading.Thread(target=run, name=_name_of(fn), daemon=True).start()
        except BaseException:
            self._free_threads.release()
            raise
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # the base's
        """Do nothing: waiting for a blocked call would delay the exit of the daemon."""


def _settle(future: "Future[T]", fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001  # it is raised where the future is awaited
        future.set_exception(error)
    else:
        future.set_result(result)


def _name_of(fn: Callable[..., object]) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


class StuckError(OSError):
    """A step hangs; ``step`` is the description of the step."""

    def __init__(self, step: str) -> None:
        super().__init__(f"{step}: the disk or file server does not answer")
        self.strerror = "the disk or file server does not answer"
        self.step = step


BeginStep = Callable[[str], None]  # receives the description of the next step; may raise StuckError


def ignore_step(_step: str) -> None:
    """Do nothing; used by programs that a user can interrupt while a step hangs."""


class PathSteps:
    """Runs work in threads. The work has steps, and each step accesses a path that may hang.

    Parameters
    ----------
    limit_s, next_limit_s : float
        The time limit of a step in seconds, and the time limit that replaces it while another step
        hangs.
    """

    def __init__(self, limit_s: float = STEP_LIMIT_S, next_limit_s: float = NEXT_LIMIT_S) -> None:
        self._limit_s, self._next_limit_s = limit_s, next_limit_s
        self._threads = ThreadPerCallExecutor()
        # The present and the next run of shared work, by key.
        self._present: dict[Hashable, asyncio.Task[Any]] = {}
        self._next: dict[Hashable, asyncio.Task[Any]] = {}
        self._stuck: Counter[str] = Counter()
        self._lock = threading.Lock()

    async def run(self, work: Callable[[BeginStep], T]) -> T:
        """Run work in a thread, and return its result; give up if a step hangs.

        Parameters
        ----------
        work : callable
            A function with one argument, a `BeginStep`. Before each access to a path, the function
            calls this argument with a description of the step.

        Raises
        ------
        StuckError
            If a step exceeds its time limit, or if another thread already hangs at this step.
        """
        progress = _Progress(self)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, progress.follow, work)
        try:
            while True:
                limit_s = self._next_limit_s if self._stuck else self._limit_s
                remaining_s = max(0.0, progress.began_at + limit_s - time.monotonic())
                done, _ = await asyncio.wait({running}, timeout=remaining_s)
                if done:
                    return running.result()
                if step := progress.give_up(limit_s):
                    raise StuckError(step)
        finally:
            running.cancel()  # the thread continues, and its result is ignored

    async def run_shared(self, key: Hashable, work: Callable[[BeginStep], T]) -> T:
        """Run work as `run` does; calls with an equal key that wait for a run share the next one.

        A call never gets the result of a run that began before the call. If fifty kernels of one
        profile start at once, the files of the profile are therefore read twice, and not fifty
        times.

        Parameters
        ----------
        key : hashable
            The identity of the work: work with equal keys has equal results.
        work : callable
            The argument of `run`.
        """
        if key not in self._next:
            before = self._present.get(key)
            loop = asyncio.get_running_loop()
            self._next[key] = loop.create_task(self._run_next(key, work, before))
        # A caller that is cancelled must not cancel the run for other callers.
        return cast("T", await asyncio.shield(self._next[key]))

    async def _run_next(
        self, key: Hashable, work: Callable[[BeginStep], T], before: "asyncio.Task[Any] | None"
    ) -> T:
        if before is not None:
            await asyncio.wait({before})
        self._present[key] = self._next.pop(key)
        try:
            return await self.run(work)
        finally:
            del self._present[key]

    def check(self, step: str) -> None:
        """Raise StuckError if another thread hangs at a step."""
        with self._lock:
            if self._stuck[step]:
                raise StuckError(step)

    def note(self, step: str, change: int) -> None:
        """Add ``change`` to the number of threads that hang at a step."""
        with self._lock:
            self._stuck[step] += change
            if not self._stuck[step]:
                del self._stuck[step]

    @property
    def stuck(self) -> list[str]:
        """The steps at which threads hang now."""
        with self._lock:
            return sorted(self._stuck)


class _Progress:
    """The current step of one thread."""

    def __init__(self, steps: PathSteps) -> None:
        self.began_at = time.monotonic()  # the start of the current step
        self._steps, self._step = steps, "waiting for a thread"
        self._stuck_step = ""
        self._has_continued = self._has_ended = False
        self._lock = threading.Lock()

    def follow(self, work: Callable[[BeginStep], T]) -> T:
        with self._noting_end():
            return work(self.begin)

    def begin(self, step: str) -> None:
        self._steps.check(step)
        with self._lock:
            self._note_progress()
            if self._stuck_step:
                raise StuckError(self._stuck_step)  # the caller no longer waits for the result
            self._step, self.began_at = step, time.monotonic()

    def give_up(self, limit_s: float) -> str:
        """If the step exceeds the limit, abandon the thread and return the step; else ``""``."""
        with self._lock:
            if self._has_ended or time.monotonic() < self.began_at + limit_s:
                return ""
            self._stuck_step = self._step
            self._steps.note(self._step, 1)
            return self._step

    @contextlib.contextmanager
    def _noting_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._has_ended = True
                self._note_progress()

    def _note_progress(self) -> None:
        """If the thread was hanging at a step, note that this step has ended."""
        if self._stuck_step and not self._has_continued:
            self._has_continued = True
            self._steps.note(self._stuck_step, -1)
