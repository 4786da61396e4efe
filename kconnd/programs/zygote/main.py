"""The zygote: a process with ipykernel imported, which forks kernels that are ready at once.

Run as ``PYTHON [FLAGS] main.py DESCRIPTOR [MODULE...]`` by the interpreter of the kernels, in their
exec-time environment; the modules are imported as well. Nothing of kconnd need be installed there:
all that is in this folder, and `kconnd.programs.shim` beside it, is standard library only, and runs
on Python 3.9.

Rules. A forked kernel is what ``PYTHON [FLAGS] -m ipykernel_launcher`` gives, but for what
``tests/end_to_end/test_fork.py`` lists. So the zygote has one thread, no ZMQ context and no
event loop, runs no kernel itself and builds nothing of one but its groundwork. It forks
a shim, which forks the kernel: the zygote's end takes no kernel with it. A spare shim waits for
the next kernel, with a child that is to become that. Both end with the zygote. It ends when its
daemon does, and always at once: what an interpreter does at its end (wait for threads, remove
temporary files) would hang, or take from kernels what they share.

Protocol, over the SEQPACKET socket that DESCRIPTOR is; each message is a JSON object. From here
first ``{"ready": ipykernel's version}``, or ``{"refused": why, "seen": {path: signature}}``, which
holds no longer than what was seen on disk. Then for each message, which is ``{"asked": nanoseconds
of time.monotonic_ns(), "confines": whether the shim is put into a control group before it has its
plan}`` and comes with three descriptors - where the shim reads its plan, where it writes its facts,
and the kernel's lock - ``{"shim": pid}``, ``{"stale": what has changed on disk}`` or ``{"failed":
why}``. One that is sent ahead, ``{"ahead": true, "asked": as above}``, comes with no descriptors
and has no answer: the disk is looked at while the plan is made. The plan is the one that
`kconnd.programs.shim` documents, with ``arg`` the command that a cold start would run and
``module_at`` the index of the module in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import random
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import time
import warnings
from functools import partial

TYPE_CHECKING = False  # typing is not needed at run time
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

    # Of kconnd.programs.shim and of what is in this folder, which is loaded from its files.
    Plan = Any
    Groundwork = Any
    Watch = Any

OLDEST = (6, 29)  # of ipykernel: what the comparison with cold kernels was made with, and newer
MODULES = (
    # What a kernel imports between its start and its first reply, besides kernelapp.
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "ipykernel.displayhook",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.magics",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "IPython.utils.wildcard",
    "encodings.idna",
    "faulthandler",
    "pdb",
    "sqlite3",
    "tornado.platform.asyncio",
)
SHIM = b"kconnd-shim %s"  # what a shim is called in a list of processes
SPARE = b"kconnd-shim"  # and one that has no kernel yet
EARLY = b"kconnd-kernel"  # and the child of such a one
QUIET = 100  # milliseconds without a message until a spare is forked: two forks hold each other up
MESSAGE = 65536
WORDS = 1000  # characters of a reason
PLACES = 200  # that a refusal names; with more it would not fit into a message
PADDING = 2048  # bytes of command line, of which each child makes its own

FORK = ctypes.PyDLL(None, use_errno=True).fork  # fork(2); no other thread runs meanwhile
HERE = os.path.dirname(os.path.abspath(__file__))


def load(name: str, folder: str = HERE) -> ModuleType:
    """Load a program without leaving a name for it among the modules."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, f"{name}.py"))
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101  # for the checker
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


class RefusedError(Exception):
    """Why nothing can be forked here."""


class Kernel(BaseException):
    """Raised in a kernel's process, to leave all that the zygote was doing."""

    def __init__(self, plan: Plan, zygote: Zygote) -> None:
        super().__init__()
        self.plan, self.zygote = plan, zygote


def import_all(modules: Iterable[str]) -> str:
    """Import ipykernel, and what the profile names; give ipykernel's version."""
    try:
        ipykernel = importlib.import_module("ipykernel")
    except BaseException as error:
        raise RefusedError(f"importing ipykernel: {str(error) or repr(error)}") from error
    if ipykernel.version_info[:2] < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RefusedError(f"ipykernel {ipykernel.__version__} is older than {oldest}")
    for name in MODULES:
        # One of another version's: a kernel that needs it imports it, or tells.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:
            raise RefusedError(f"preloading {name}: {error!r}") from error
    return str(ipykernel.__version__)


def check_threads() -> None:
    """Refuse where a module has started threads that a fork would tear from their work.

    Pools that know fork (OpenBLAS has handlers for it) end their threads before one, and make
    new ones when they compute next; so after a first fork, what is left does not know it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the very threads that this looks for
        try:
            child = os.fork()
        except OSError as error:
            raise RefusedError(f"forking: {error.strerror}") from error
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        many = len(threads) - 1
        raise RefusedError(f"preloading has started {many} threads, which a fork would not have")


def open_descriptors() -> set[int]:
    """List what is open, but for the folder that lists it."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue
        found.add(int(name))
    return found


def fork_plainly() -> int:
    """Fork, and no more: for a shim, which needs no new chance and no new locks.

    What `os.fork` does after it, it does by writing to 200 pages. Nobody else can hold a lock of
    the interpreter's, since there is one thread.
    """
    pid: int = FORK()
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


class CommandLine:
    """The memory that ``ps`` shows, of which a child may make what it is (proc(5))."""

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self.start, self.end = int(fields[45]), int(fields[46])

    def become(self, args: list[bytes]) -> None:
        """Show these words, or as many as there is room for."""
        room = self.end - self.start
        text = b"".join(word + b"\0" for word in args)[: room - 1]
        ctypes.memmove(self.start, text.ljust(room, b"\0"), room)


class Waiting:
    """A shim that waits for its descriptors, over a socket of its own.

    Parameters
    ----------
    be_shim : callable
        What it does there, given the socket: gives its exit code.
    """

    def __init__(self, be_shim: Callable[[socket.socket], int]) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.pid = fork_plainly()
            except OSError:
                self.link.close()
                raise
            if self.pid == 0:
                self.link.close()
                run_to_end(partial(be_shim, theirs))

    def take(self, descriptors: list[int]) -> bool:
        """Let it begin; false if it was gone already."""
        with self.link:
            try:
                socket.send_fds(self.link, [b"!"], descriptors)
            except OSError:
                return False
        return True


def run_to_end(be_shim: Callable[[], int]) -> None:
    """In a shim: end with it, whatever happens: the zygote must not go on in here."""
    status = 1
    try:
        status = be_shim()
    except Kernel:
        raise
    except BaseException:  # noqa: BLE001  # whatever it is
        os._exit(status)
    os._exit(status)


class Zygote:
    """Forks shims as it is asked to.

    Parameters
    ----------
    link : socket
        To the daemon.
    """

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.shim = load("shim", os.path.dirname(HERE))
        self.command_line = CommandLine()
        self.freshness = load("staleness")
        self.heap = load("heap_layout")
        self.watch: Watch = None
        self.kept: set[int] = set()
        self.changed: dict[bytes, bytes] = {}
        self.groundwork: Groundwork = None
        self.spare: Waiting | None = None
        self.confines = False  # whether kernels are put into control groups, by way of their shims

    def tell(self, **message: object) -> None:
        """Send a message."""
        self.link.send(json.dumps(message).encode())

    def live(self, modules: list[str]) -> int:
        """Be ready, or say why not; then fork until the daemon is gone. Gives the exit code."""
        try:
            self.prepare(modules)
        except RefusedError as error:
            modules = ["ipykernel", *modules]
            places = {*self.freshness.watched_folders(), *self.freshness.concerned(modules, error)}
            seen = {place: self.freshness.signature(place) for place in sorted(places)[:PLACES]}
            self.tell(refused=str(error)[:WORDS], seen=seen)
            return 1
        self.serve()
        return 0

    def prepare(self, modules: Iterable[str]) -> None:
        """Import everything, and have its memory shared for good."""
        before = dict(os.environb)
        missing = self.freshness.Missing()
        with missing.noting():
            version = import_all(modules)
        set_since = dict(os.environb).items() - before.items()
        self.changed = dict(set_since)  # ipykernel's debugger sets a variable
        self.groundwork = load("precompute").Groundwork()
        check_threads()
        places, folders = self.freshness.watched()
        own = self.freshness.OwnFolders(folders, {*sys.modules, *missing.names})
        self.watch = self.freshness.Watch(places, own)
        self.kept = open_descriptors()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no shim stays as a zombie
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.collect()
        self.heap.put_in_order()
        gc.freeze()
        self.tell(ready=version)

    def serve(self) -> None:
        """Give a shim for each message, until the daemon is gone."""
        asked = select.poll()
        asked.register(self.link, select.POLLIN)
        while True:
            if not (self.spare or asked.poll(QUIET)):
                with contextlib.suppress(OSError):  # who asks next will hear of it
                    self.spare = Waiting(self.be_shim)
            message, descriptors, _, _ = socket.recv_fds(self.link, MESSAGE, 3)
            if not message:
                return
            wish = json.loads(message)
            changed = self.watch.changed(wish["asked"])
            if wish.get("ahead"):
                continue
            self.confines = wish.get("confines", True)  # an older daemon does not say
            answer = {"stale": changed} if changed else self.give_shim(descriptors)
            for descriptor in descriptors:
                os.close(descriptor)  # before the answer: who hears it may want the lock
            self.tell(**answer)

    def give_shim(self, descriptors: list[int]) -> dict[str, object]:
        """Hand these to a shim, and give what to tell of it."""
        spare, self.spare = self.spare, None
        try:
            if spare is None or not spare.take(descriptors):
                spare = Waiting(self.be_shim)
                spare.take(descriptors)
        except OSError as error:  # processes or memory are short, which may pass
            return {"failed": error.strerror}
        return {"shim": spare.pid}

    def be_shim(self, link: socket.socket) -> int:
        """In the shim: once there is a kernel for it, do as one that was spawned would.

        It has a child for that before, unless it is put into a control group, which the child
        would not be in.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else a kernel's exit code could be lost
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDWR)
        for ours in (0, 1, 2):
            os.dup2(nothing, ours)
        self.close_others({link.fileno()})
        child = None if self.confines else self.early_child(link)
        self.command_line.become([SPARE])
        message, descriptors, _, _ = socket.recv_fds(link, 1, 3)
        link.close()
        if not message:
            return 0
        plan_file, answer, lock = descriptors
        for theirs, ours in ((0, plan_file), (1, answer)):
            os.dup2(ours, theirs)
            os.close(ours)
        plan: Plan | None = self.shim.read_plan()
        if plan is None:
            return 1
        plan.values["lock"] = b"%d" % lock
        self.command_line.become([SHIM % plan.values["name"]])
        if child and not self.is_of_use(child, plan):
            child = None
        status: int = self.shim.supervise(plan, lambda: child or self.shim.Child(self.be_kernel))
        return status

    def early_child(self, link: socket.socket) -> Any:
        """Fork a child now, since what its shim writes to from here on both would copy."""

        def prepare() -> None:
            link.close()  # else nobody would see that the shim has died
            self.command_line.become([EARLY])

        with contextlib.suppress(OSError):  # processes or memory are short, which may pass
            return self.shim.Child(self.be_kernel, prepare)
        return None

    def is_of_use(self, child: Any, plan: Plan) -> bool:
        """Have a child stand where its shim does by now, if that can be; else it is let go."""
        with contextlib.suppress(OSError):
            if "cgroup" not in plan.values and child.is_running():
                files = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.prlimit(child.pid, resource.RLIMIT_NOFILE, files)
                return True
        child.let_go()
        return False

    def be_kernel(self, plan: Plan, _trouble: int) -> None:
        """In the kernel: get rid of what is the zygote's and the shim's, then leave them."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.command_line.become(plan.args)
        self.close_others(set())
        plan.env.update(self.changed)
        raise Kernel(plan, self)

    def close_others(self, more: set[int]) -> None:
        """Close all descriptors but those that imported modules hold, and ``more``."""
        kept = (self.kept - {self.link.fileno()}) | {0, 1, 2} | more
        for one in open_descriptors() - kept:
            os.close(one)


def renew() -> None:
    """Give this process what no two should share: chance, keys made at an import, numbers."""
    set_native_id = getattr(threading.main_thread(), "_set_native_id", None)
    if set_native_id is not None:
        set_native_id()  # 3.11 does not renew it after a fork, and nothing public does
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes.current_process().authkey = os.urandom(32)


def run(plan: Plan, zygote: Zygote) -> None:
    """Be the kernel that the plan's command would be.

    What the zygote knew stays as long as the kernel does: to let go of it would write to it.
    """
    at = plan.number("module_at")
    args = [os.fsdecode(arg) for arg in plan.args]
    os.environ.clear()
    os.environb.update(plan.env)
    time.tzset()
    sys.argv = ["-m", *args[at + 1 :]]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = args
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path.insert(0, os.getcwd())
    renew()
    zygote.groundwork.lay_out()
    runpy.run_module(args[at], run_name="__main__", alter_sys=True)


def main() -> tuple[Plan, Zygote]:
    """Be the zygote, and leave at its end; in a kernel's process, give what it is to be."""
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    status = 1
    try:
        status = Zygote(link).live([word for word in sys.argv[2:] if word.strip()])
    except Kernel as kernel:
        link.detach()  # it is closed already, and its number may be another's by now
        return kernel.plan, kernel.zygote
    except BaseException:  # noqa: BLE001, S110  # whatever it is: there is nobody to tell
        pass
    os._exit(status)


if __name__ == "__main__":
    if sys.path and sys.path[0] == HERE:
        del sys.path[0]  # it would hide modules behind ours; -m puts the cwd there, later
    run(*main())
