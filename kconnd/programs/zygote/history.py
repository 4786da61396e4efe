"""A history that begins late: a kernel's start does not wait for a database.

Rules. Standard library only, as for `kconnd.programs.zygote.main`. The history is IPython's own,
made by its own constructor; all that is ours is when. Who asks it for anything sees it begun. Where
IPython's is not as it is known to be, it begins at the start, as in any other kernel.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref

TYPE_CHECKING = False  # nothing of these is needed at run time
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

EMPTY = {"input_hist_parsed", "output_hist", "dir_hist"}  # what a shell hands on at its start
REST = 2.0  # seconds after its start until a kernel's history begins on its own


class LateHistory:
    """IPython's history, which begins when somebody needs it, or once the kernel has come to rest.

    To open its database, to enter a session there and to start a thread is a good part of a
    start, and until something is run nobody needs more of it than lists that are empty.
    """

    def __init__(self) -> None:
        history: Any = sys.modules["IPython.core.history"]
        self.module: Any = sys.modules["IPython.core.interactiveshell"]
        self.kind: Any = self.module.HistoryManager
        steps = {"new_session", "using_thread", "save_thread"}
        if self.kind.__mro__[1] is not history.HistoryAccessor:
            raise LookupError("IPython's history is not of the kind that it was")
        if not steps <= {*self.kind.__init__.__code__.co_names}:
            raise LookupError("IPython's history does not begin as it used to")
        self.before: Any = super(history.HistoryAccessor, self.kind).__init__  # what opens nothing
        self.app: Any = sys.modules["ipykernel.kernelapp"].IPKernelApp
        self.late = self.make_late()
        self.lock = threading.RLock()  # whoever begins it comes by here again
        self.due: tuple[Any, dict[str, Any]] | None = None

    def make_late(self) -> type:
        """Make the class of one that has not begun: by whatever else is asked of it, it does."""
        work = self

        class HistoryManager(self.kind):  # type: ignore[misc,name-defined]
            def __getattribute__(self, name: str) -> Any:
                if name in EMPTY:
                    return object.__getattribute__(self, "_trait_values")[name]
                work.begin()
                return object.__getattribute__(self, name)  # which is of the other class by now

        HistoryManager.__module__ = self.kind.__module__
        HistoryManager.__qualname__ = self.kind.__qualname__
        return HistoryManager

    def lay_out(self) -> None:
        """Have IPython's shell take such a one, once, and begin it at the kernel's end at last.

        That is before the interpreter's own end, at which there can be no new threads.
        """
        self.module.HistoryManager = self.give
        kind, stock = self.app, self.app.start

        def start(app: Any) -> None:
            kind.start = stock
            try:
                stock(app)
            finally:
                self.begin()

        kind.start = start

    def give(self, **how: Any) -> Any:
        """Be what makes a history for a shell."""
        self.module.HistoryManager = self.kind
        kernel = getattr(how.get("shell"), "kernel", None)
        if how.keys() != {"shell", "parent"} or not hasattr(kernel, "start"):
            return self.kind(**how)
        manager = self.kind.__new__(self.kind, **how)
        self.before(manager, **how)
        for name in EMPTY:
            getattr(manager, name)
        self.due = manager, how
        if not can_wait(manager):
            self.begin()
            return manager
        manager.__class__ = self.late
        # Databases are closed at the end after what was registered from here on has had its turn.
        weakref.finalize(manager, int).detach()
        os.register_at_fork(before=self.begin)  # else a child would begin one of its own
        self.begin_after_start(kernel)
        return manager

    def begin_after_start(self, kernel: Any) -> None:
        """Have the kernel's own loop see to it, some time after its start."""

        def start(*args: Any, **how: Any) -> Any:
            del kernel.start
            result = kernel.start(*args, **how)
            if (loop := getattr(kernel, "io_loop", None)) is not None:
                loop.call_later(REST, self.begin)
            return result

        kernel.start = start

    def begin(self) -> None:
        """Do what IPython does at a kernel's start, unless it was done."""
        with uninterrupted(), self.lock:
            due, self.due = self.due, None
            if due:
                manager, how = due
                try:
                    self.kind.__init__(manager, **how)
                finally:
                    manager.__class__ = self.kind


def can_wait(manager: Any) -> bool:
    """Tell whether a history comes out the same later, in another thread and folder even."""
    file = str(manager._trait_values.get("hist_file") or manager._get_hist_file_name())
    is_told = file == ":memory:" or os.path.isabs(file)
    return is_told and not manager.connection_options.get("check_same_thread", True)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Have an interrupt come after what is done here, and not into the middle of it."""
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(before):  # which no interrupt comes to
        yield
        return
    heard: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda *what: heard.append(what))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            before(*heard[0])
