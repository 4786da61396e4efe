"""Runs each call in a daemon thread of its own, since any call may hang for good.

A path that somebody names can be on a file server that does not answer. A thread that touches it
then waits in the kernel, and nothing can end that wait. The pool of `asyncio.to_thread` has six
threads on a machine with two processors, and Python waits for all of them when it exits: six such
calls would stop the daemon's other work, and one would keep it from ending. So the daemon makes
`OwnThreads` its loop's executor. A thread of it is waited for by nobody but its caller, who sets a
time limit. `MAX_THREADS` bounds how many can hang; `PathSteps` keeps a second thread away from the
path where one hangs already, so that in practice it is one for each such path.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from kconnd.errors import TimedOutError

MAX_THREADS = 256
STEP_LIMIT_S = 5.0  # without progress; most disks that spin up take less
NEXT_LIMIT_S = 2.0  # while another step hangs: it is mostly one server that does not answer

P = ParamSpec("P")
T = TypeVar("T")


class OwnThreads(ThreadPoolExecutor):
    """An executor without a pool; asyncio accepts only a subclass of `ThreadPoolExecutor`.

    Parameters
    ----------
    most : int
        How many calls may run at once.
    """

    def __init__(self, most: int = MAX_THREADS) -> None:
        super().__init__(1, "call")
        self._free = threading.BoundedSemaphore(most)
        self._most = most

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run a call in a new thread.

        Raises
        ------
        TimedOutError
            If as many calls as there may be hang already.
        """
        if not self._free.acquire(blocking=False):
            raise TimedOutError(
                f"{self._most} calls of the daemon wait for an answer: of a disk, a file server, "
                "or a program that it started",
                hint="the request can be repeated once they end; kconnd-ctl doctor and 'mount' may "
                "show what hangs",
            )
        future: Future[T] = Future()

        def work() -> None:
            try:
                if future.set_running_or_notify_cancel():
                    _settle(future, fn, *args, **kwargs)
            finally:
                self._free.release()

        try:
            threading.Thread(target=work, name=_name_of(fn), daemon=True).start()
        except BaseException:
            self._free.release()
            raise
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # the base's
        """Wait for nothing: what hangs would hold up the end of the daemon."""


def _settle(future: "Future[T]", fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001  # it is raised where the result is awaited
        future.set_exception(error)
    else:
        future.set_result(result)


def _name_of(fn: Callable[..., object]) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


class StuckError(OSError):
    """A step does not answer; ``step`` says which."""

    def __init__(self, step: str) -> None:
        super().__init__(f"{step}: the disk or file server does not answer")
        self.strerror = "the disk or file server does not answer"
        self.step = step


Begin = Callable[[str], None]  # tells which step begins; raises StuckError where one hangs


def begin_nothing(_step: str) -> None:
    """Take no note of steps: for a program that its user can interrupt."""


class PathSteps:
    """Runs work in threads step by step, each of which touches one path that may hang.

    Parameters
    ----------
    limit_s, next_limit_s : float
        Seconds that a step may take, and that one may take while another hangs.
    """

    def __init__(self, limit_s: float = STEP_LIMIT_S, next_limit_s: float = NEXT_LIMIT_S) -> None:
        self._limit_s, self._next_limit_s = limit_s, next_limit_s
        self._threads = OwnThreads()
        self._stuck: Counter[str] = Counter()
        self._lock = threading.Lock()

    async def run(self, work: Callable[[Begin], T]) -> T:
        """Run work in a thread, for as long as it makes progress.

        Parameters
        ----------
        work : callable
            Calls what it gets with a text that names the path before it touches one.

        Raises
        ------
        StuckError
            If a step takes longer than it may, or hangs in another thread already.
        """
        progress = _Progress(self)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, progress.follow, work)
        try:
            while True:
                limit_s = self._next_limit_s if self._stuck else self._limit_s
                rest_s = max(0.0, progress.began_at + limit_s - time.monotonic())
                done, _ = await asyncio.wait({running}, timeout=rest_s)
                if done:
                    return running.result()
                if step := progress.give_up(limit_s):
                    raise StuckError(step)
        finally:
            running.cancel()  # the thread goes on, and nobody awaits what becomes of it

    def check(self, step: str) -> None:
        """Raise StuckError where another thread hangs at the same step."""
        with self._lock:
            if self._stuck[step]:
                raise StuckError(step)

    def note(self, step: str, change: int) -> None:
        """Count the threads that hang at a step."""
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
    """How far one thread has come."""

    def __init__(self, steps: PathSteps) -> None:
        self.began_at = time.monotonic()  # the step that it is at
        self._steps, self._step = steps, "waiting for a thread"
        self._given_up = ""
        self._moved_on = self._ended = False
        self._lock = threading.Lock()

    def follow(self, work: Callable[[Begin], T]) -> T:
        with self._ending():
            return work(self.begin)

    def begin(self, step: str) -> None:
        self._steps.check(step)
        with self._lock:
            self._move_on()
            if self._given_up:
                raise StuckError(self._given_up)  # nobody waits for the rest
            self._step, self.began_at = step, time.monotonic()

    def give_up(self, limit_s: float) -> str:
        """Leave the thread alone; give the step that it hangs at, ``""`` if it does not."""
        with self._lock:
            if self._ended or time.monotonic() < self.began_at + limit_s:
                return ""
            self._given_up = self._step
            self._steps.note(self._step, 1)
            return self._step

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._ended = True
                self._move_on()

    def _move_on(self) -> None:
        """Note that the step at which the thread hung is over."""
        if self._given_up and not self._moved_on:
            self._moved_on = True
            self._steps.note(self._given_up, -1)
