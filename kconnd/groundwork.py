"""Groundwork: what comes out the same in each kernel of a parent, worked out before the fork.

A forked kernel shares the parent's memory until one of them writes to it, and to look at an
object writes to it (its count of references). So what goes through everything once, such as
listing the files of all modules, costs a kernel more memory than what it keeps. It is done by
the parent, for three such things of ipykernel's and IPython's, which are found under names that
are not public. Besides, what a kernel does first is rehearsed: what stock code compiles and keeps
on its way is there then. The parent's memory is put in order: a kernel copies pages, however
little of each it writes to. And what a start can do without is left: a look for a configuration
that is not there; and the history begins when somebody needs it.

Rules. Standard library only, as for `kconnd.zygote`, which loads it. What is laid out for a
kernel is taken up by the stock code in the place where that would have worked it out, gives
the same, and is gone from there once it was used; a rehearsal leaves nothing that a kernel could
see. Where ipykernel, IPython or traitlets are not as they are known to be, nothing is laid out, and
the kernel works it out as any other does.
"""

from __future__ import annotations

import _thread
import atexit
import builtins
import contextlib
import contextvars
import ctypes
import fnmatch
import gc
import itertools
import logging
import os
import signal
import sys
import threading
import types
import warnings
import weakref

TYPE_CHECKING = False  # nothing of these is needed at run time
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

OUTSIDE = (  # steps of making a shell that change the process or need a folder
    "init_ipython_dir",
    "init_profile_dir",
    "init_environment",
    "init_virtualenv",
    "init_sys_modules",
    "init_prompts",
)
LOADING = ("traits", "section_names", "_load_config", "_find_my_config")  # of traitlets
EMPTY = {"input_hist_parsed", "output_hist", "dir_hist"}  # what a shell hands on at its start
REST = 2.0  # seconds after its start until a kernel's history begins on its own
MOMENT = 1.0  # seconds in which a message comes that was sent
STARTUP_FILES = ("*.py", "*.ipy")
SMALL, APART = 1032, 7  # bytes up to which glibc keeps what is freed apart, and how many of a size
GAPS = (*range(124 * 1024, SMALL, -512), *range(SMALL, 8, -16))  # bytes; larger ones piece by piece


class Groundwork:
    """All that a parent has worked out, to be laid out in each kernel before ipykernel runs."""

    def __init__(self) -> None:
        self.parts: list[CommandLine | ModuleFiles | Prefilter | Unconfigured | LateHistory] = []
        for kind in (CommandLine, ModuleFiles, Prefilter, Unconfigured, LateHistory):
            # Any other version's insides may be different in any way.
            with contextlib.suppress(Exception):
                self.parts.append(kind())
        self.rehearse()

    def put_in_order(self) -> None:
        """Have memory that kernels write to side by side, as the last thing before the forks."""
        for step in (gather_names, fill_gaps):
            # A name that is no text; another C library, which does not tell of its heap.
            with contextlib.suppress(AttributeError):
                step()

    def rehearse(self, *, wire: bool = False) -> None:
        """Go through what all kernels do first, for what stock code compiles and keeps on its way.

        The parent does, for all of them; and a child that waits for its plan, which has then
        copied most of the memory that a kernel writes to. That has to do with sockets, too
        (``wire``), which have threads for a moment, as nothing may have that is to fork.
        """
        for step in (make_shell, *([exchange_message] if wire else [])):
            with contextlib.suppress(Exception, SystemExit):  # as above; argparse ends what fails
                step()
        gc.collect()

    def lay_out(self) -> None:
        """In a kernel: put everything where ipykernel comes across it."""
        for part in self.parts:
            part.lay_out()


class CommandLine:
    """The parser of ipykernel's command line, which takes longer to make than to use.

    It depends on nothing but what the application's class knows as options. Nor does it look
    for argcomplete, which only a shell that completes a line has a use for.
    """

    def __init__(self) -> None:
        self.app: Any = sys.modules["ipykernel.kernelapp"].IPKernelApp
        one = self.app()
        one.log = logging.getLogger()  # its own would be made, and be left
        self.flags = one.flatten_flags()
        self.classes = list(one._classes_with_config_traits())
        flags, aliases = self.flags
        self.loader = one._create_loader([], aliases, flags, classes=self.classes)
        self.loader._create_parser()

    def lay_out(self) -> None:
        """Have the application's class give this one instead of making one, once."""
        app, loader = self.app, self.loader

        def give(self: Any, argv: Sequence[str], *_: object, **__: object) -> Any:
            del app._create_loader, app.flatten_flags, app._classes_with_config_traits
            loader.argv, loader.log = argv, self.log
            loader.parser.prog = os.path.basename(sys.argv[0])
            loader._create_parser = lambda: None
            if "_ARGCOMPLETE" not in os.environ:  # then it does nothing, if it is installed
                loader._argcomplete = lambda *_: None
            return loader

        app.flatten_flags = lambda _: self.flags
        app._classes_with_config_traits = lambda _: self.classes
        app._create_loader = give


class ModuleFiles:
    """The files of all modules that are imported, of which ipykernel's debugger wants to know."""

    def __init__(self) -> None:
        self.ipkernel: Any = sys.modules["ipykernel.ipkernel"]
        names = self.ipkernel.IPythonKernel.__init__.__code__.co_names
        if not {"sys", "modules", "copy", "_kernel_modules"} <= set(names):
            raise LookupError("ipykernel does not list them as it used to")
        self.count = len(sys.modules)
        main = sys.modules["__main__"]  # a kernel's is another
        found = [getattr(one, "__file__", None) for one in sys.modules.values() if one is not main]
        self.files = "\0".join(file for file in found if file)  # one piece of memory

    def lay_out(self) -> None:
        """Have ipykernel's module find them in place of the modules, once."""
        self.ipkernel.sys = SysOnce(self)

    def copy(self) -> dict[str, Any]:
        """Be what ipykernel takes for ``sys.modules``: give all that has a file."""
        self.ipkernel.sys = sys
        since = max(0, len(sys.modules) - self.count)
        own = [sys.modules["__main__"], *itertools.islice(reversed(sys.modules.values()), since)]
        shared = [types.SimpleNamespace(__file__=file) for file in self.files.split("\0")]
        return {str(number): one for number, one in enumerate([*own, *shared])}


class Prefilter:
    """What IPython passes each line through: some twenty objects, which only know their shell.

    They are made for a shell that never comes to be; which places refer to that, and to its
    configuration, the garbage collector tells.
    """

    def __init__(self) -> None:
        self.module: Any = sys.modules["IPython.core.interactiveshell"]
        self.kind = self.module.PrefilterManager
        shell_class = sys.modules["ipykernel.zmqshell"].ZMQInteractiveShell
        shell = shell_class.__new__(shell_class)
        self.manager = self.kind(shell=shell, parent=shell)
        config = shell.config
        del shell._trait_values["config"]
        gc.collect()  # what is left of making them refers to the shell, too
        self.places = [(place, False) for place in places_of(shell)]
        self.places += [(place, True) for place in places_of(config)]

    def lay_out(self) -> None:
        """Have IPython's shell take these in place of new ones, once."""
        self.module.PrefilterManager = self.give

    def give(self, **how: Any) -> Any:
        """Be what makes such objects for a shell."""
        self.module.PrefilterManager = self.kind
        if how.keys() != {"shell", "parent"} or not is_without_sections(how["parent"].config):
            return self.kind(**how)
        config = how["parent"].config
        for (holder, name), is_config in self.places:
            holder[name] = config if is_config else how["shell"]
        return self.manager


class Unconfigured:
    """What a configuration without sections sets in the parts of a shell: nothing.

    To find that out, each of them goes through all that it can be told, and its parents' sections.
    """

    def __init__(self) -> None:
        kind: Any = sys.modules["traitlets.config.configurable"].Configurable
        self.app: Any = sys.modules["ipykernel.kernelapp"].IPKernelApp
        self.handler = vars(kind)["_config_changed"]
        self.stock = self.handler.func
        (cell,) = self.stock.__closure__  # of what takes care of an older way to be told
        if cell.cell_contents.__code__.co_names != (*LOADING[:3], "new"):
            raise LookupError("traitlets does not load a configuration as it used to")
        self.ways = ways_of(kind)

    def lay_out(self) -> None:
        """Have parts not look, until all is made and the application starts."""
        kind, stock = self.app, self.app.start

        def start(app: Any) -> None:
            kind.start, self.handler.func = stock, self.stock
            stock(app)

        kind.start, self.handler.func = start, self.changed

    def changed(self, part: Any, change: Any, *more: Any) -> None:
        """Be told that a part has got a configuration."""
        told = change["new"] if isinstance(change, dict) else None
        if told is None or not is_without_sections(told) or not self.is_plain(part):
            self.stock(part, change, *more)

    def is_plain(self, part: Any) -> bool:
        """Tell whether a part finds its sections as traitlets has it, and its parents do.

        The application itself has one.
        """
        if isinstance(part, self.app) or ways_of(type(part)) != self.ways:
            return False
        while (part := part.parent) is not None:
            if type(part)._find_my_config is not self.ways[-1]:
                return False
        return True


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


def places_of(one: object) -> list[tuple[dict[str, Any], str]]:
    """Tell by which dictionaries, and which names in them, an object is referred to."""
    found: list[tuple[dict[str, Any], str]] = []
    for holder in gc.get_referrers(one):
        if not isinstance(holder, dict):
            raise LookupError(f"a {type(holder).__name__} refers to it")  # noqa: TRY004  # no fault
        for name, value in holder.items():
            if value is one:  # a comprehension here would be something that refers to it
                found.append((holder, name))
    return found


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


def ways_of(kind: Any) -> list[Any]:
    """Tell how a class loads a configuration, which one may do in a way of its own."""
    return [getattr(getattr(kind, name), "__func__", getattr(kind, name)) for name in LOADING]


def is_without_sections(config: Any) -> bool:
    """Tell whether a configuration is of the application itself, and so of nothing in a shell."""
    return config.keys() <= {"IPKernelApp"} and not any(
        name[:1].isupper() for name in config.get("IPKernelApp", ())
    )


def make_shell() -> None:
    """Make a shell and what it needs, as far as that leaves no trace, and let it go."""
    app = sys.modules["ipykernel.kernelapp"].IPKernelApp()
    app.log = logging.getLogger()  # its own would be made, and be left
    app.parse_command_line(["-f", os.devnull])
    app.session.serialize(app.session.msg("status"))
    config = sys.modules["traitlets.config"].Config()
    config.HistoryManager.hist_file = ":memory:"  # which has no thread either
    kind = sys.modules["ipykernel.zmqshell"].ZMQInteractiveShell
    shell = kind.__new__(kind)
    shell.log = app.log
    for step in OUTSIDE:
        setattr(shell, step, lambda *_: None)
    with without_trace():
        contextvars.copy_context().run(shell.__init__, config=config)
    for pattern in STARTUP_FILES:
        fnmatch.filter([], pattern)


def exchange_message() -> None:
    """Have a request come in on sockets of its own, and let all of it go.

    Raises
    ------
    RuntimeError
        If there can be no threads: libzmq would abort the process.
    """
    _thread.start_new_thread(gc.isenabled, ())
    zmq, app = sys.modules["zmq"], sys.modules["ipykernel.kernelapp"].IPKernelApp()
    app.log = logging.getLogger()  # as above
    session = app.session
    kinds = (zmq.ROUTER, zmq.DEALER, zmq.XPUB, zmq.PAIR, zmq.REP)
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        sockets = [stack.enter_context(context.socket(kind)) for kind in kinds]
        for number, socket in enumerate(sockets):
            socket.linger = 0
            socket.bind(f"inproc://{number}")
        loop = sys.modules["tornado.ioloop"].IOLoop(make_current=False)
        stack.callback(loop.close)
        clock = loop.asyncio_loop  # which makes no handler of logs as it starts

        def hear(message: Any) -> None:
            session.deserialize(session.feed_identities(message, copy=False)[1], copy=False)
            clock.stop()

        stream = sys.modules["zmq.eventloop.zmqstream"].ZMQStream(sockets[0], loop)
        stack.callback(stream.close)
        stream.on_recv(hear, copy=False)
        sender = stack.enter_context(context.socket(zmq.DEALER))
        sender.connect("inproc://0")
        session.send(sender, "kernel_info_request")
        clock.call_later(MOMENT, clock.stop)
        clock.run_forever()


@contextlib.contextmanager
def without_trace() -> Iterator[None]:
    """Leave nothing in the process of a shell that is made here."""
    names = set(vars(builtins))
    at_exit: Any = atexit
    register = atexit.register
    finalize: Any = weakref.finalize  # a kernel's first one is to have its turn at exit
    finalizing = finalize._registered_with_atexit
    has_traits = sys.modules["traitlets"].HasTraits

    def register_others(what: Any, *args: Any, **how: Any) -> Any:
        owner = getattr(what, "__self__", None)
        ours = owner is finalize or isinstance(owner, has_traits)
        return what if ours else register(what, *args, **how)

    at_exit.register = register_others
    try:
        with warnings.catch_warnings():
            yield
    finally:
        at_exit.register = register
        finalize._registered_with_atexit = finalizing
        for name in vars(builtins).keys() - names:
            delattr(builtins, name)


def gather_names() -> None:
    """Have the names of all modules side by side, since IPython makes a set of them in each kernel.

    They are in as many places as modules were imported, and to have a name in a set writes to it.
    """
    modules = [
        (name.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"), module)
        for name, module in sys.modules.items()
    ]
    sys.modules.clear()
    sys.modules.update(modules)


class Mallinfo(ctypes.Structure):
    """What glibc tells of its heap: ``struct mallinfo2`` of mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def fill_gaps() -> None:
    """Use up what is free between what is in use, so that new memory is new pages, side by side.

    A kernel that takes memory from a gap copies the page that it is in. Whatever is behind
    ``malloc``, no more is taken than glibc calls free.
    """
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    libc.sbrk.argtypes, libc.malloc.argtypes = [ctypes.c_ssize_t], [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for size in GAPS:
        told = libc.mallinfo2()
        unused = libc.sbrk(0) - told.keepcost  # above all that is in use
        apart = APART if size <= SMALL else 0
        for _ in range((told.fordblks - told.keepcost) // size + apart):
            found = libc.malloc(size)
            if not found or found >= unused:
                if size > SMALL:
                    libc.free(found)  # a small one would stay as a gap
                break


class SysOnce(types.ModuleType):
    """What ipykernel takes for ``sys`` until it has asked for the modules."""

    def __init__(self, modules: ModuleFiles) -> None:
        super().__init__("sys")
        self.modules = modules

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)
