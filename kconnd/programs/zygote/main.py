"""The zygote: a process that has imported ipykernel and forks kernels.

The command is ``PYTHON [FLAGS] main.py DESCRIPTOR [MODULE...]``. PYTHON is the kernels' own
interpreter, and the zygote has the kernels' exec-time environment: the variables that are read when
a process starts (see `kconnd.core.launch.forking`). Besides ipykernel, the zygote imports each
MODULE. kconnd need not be installed for PYTHON: this folder and `kconnd.programs.shim` import only
the standard library and run on Python 3.9.

How it works. The zygote imports everything, freezes its heap (gc.freeze), reports that it is ready,
and then forks one shim per request. The shim forks the kernel, so kernels keep running when the
zygote exits. Between requests, the zygote forks a spare shim for the next kernel, and the spare
shim forks the child that will become the next kernel. The spare shim and its child exit when the
zygote exits. The zygote exits when its daemon exits, and calls `os._exit` for this. An ordinary
exit of the interpreter would wait for threads, which could hang, and would remove temporary files
that kernels may use.

Rules. A forked kernel equals a kernel that ``PYTHON [FLAGS] -m ipykernel_launcher`` starts, except
for the differences that ``tests/end_to_end/test_fork.py`` lists. The zygote therefore has one
thread, no ZMQ context and no event loop. The zygote runs no part of a kernel's start except the two
steps in `precompute`. The module contains the code of all three processes, zygote, shim and kernel,
because the exception that ends the shim's part of a kernel's stack passes through all of this code.

Protocol. DESCRIPTOR is a SEQPACKET socket, and each message is a JSON object. The zygote's first
message is ``{"ready": ipykernel's version, "skipped": [each skipped optimization with the
reason]}`` or ``{"refused": reason, "seen": {path: signature}}``. A refusal is valid as long as each
path in ``seen`` has this signature. A ready zygote then gets requests of two kinds from the daemon:

- ``{"asked": nanoseconds of time.monotonic_ns(), "confines": bool}`` with three descriptors: the
  shim reads its plan from the first descriptor, writes its facts to the second, and holds the
  kernel's lock by the third. ``asked`` is the time at which the kernel was requested. ``confines``
  states whether the daemon moves the shim into a cgroup before it sends the plan. The zygote
  answers ``{"shim": pid}``, ``{"stale": changed path}`` or ``{"failed": reason}``.
- ``{"ahead": true, "asked": nanoseconds}`` without descriptors announces a request of the first
  kind: the zygote checks for changed files while the daemon makes the plan. The zygote sends no
  reply to an announcement.

`kconnd.programs.shim` documents the plan. The plan's ``arg`` records are the command that would
start the kernel without a fork, ``PYTHON [FLAGS] -m KERNEL_MODULE ...``; the record ``module_at``
contains the index of KERNEL_MODULE among the ``arg`` records.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
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
from functools import partial

TYPE_CHECKING = False  # importing typing would add a module to every kernel
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any, BinaryIO

    # These classes are in the shim and in other modules of this folder. A type checker cannot see
    # them, because these modules are loaded by path.
    Plan = Any
    Child = Any
    Precomputed = Any
    DiskSnapshot = Any
    CopiedPages = Any

# The process titles of a shim with a kernel, of a spare shim, and of a spare shim's child.
SHIM_TITLE, SPARE_TITLE, CHILD_TITLE = b"kconnd-shim %s", b"kconnd-shim", b"kconnd-kernel"
# A spare shim is forked after this time without a request. Concurrent forks are slow, so a
# spare shim is not forked during a series of requests.
SPARE_DELAY_MS = 100
MAX_MESSAGE_BYTES = 65536
MAX_REASON_CHARS = 1000
MAX_REFUSAL_PATHS = 200  # a refusal with more paths would not fit into a message
MAX_PID_CHARS = 20
TITLE_BYTES = 2048  # the padding of the command line, which makes room for the titles of children

FORK = ctypes.PyDLL(None, use_errno=True).fork  # fork(2) without the handlers of os.fork
HERE = os.path.dirname(os.path.abspath(__file__))


def load(name: str, folder: str = HERE) -> ModuleType:
    """Load a module from its file without adding the module to ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, f"{name}.py"))
    assert spec is not None and spec.loader is not None  # noqa: PT018, S101  # for the type checker
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


class BecomeKernel(BaseException):
    """Raised in a kernel's process, to unwind the stack of the zygote and the shim."""

    def __init__(self, plan: Plan, server: ForkServer) -> None:
        super().__init__()
        self.plan, self.server = plan, server


def open_descriptors() -> set[int]:
    """List the open file descriptors, except the descriptor of the listing itself."""
    descriptors = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue
        descriptors.add(int(name))
    return descriptors


def fork_without_handlers() -> int:
    """Fork a shim without the handlers of `os.fork`.

    The handlers renew the random state and the locks, and thereby write to 200 pages. A shim uses
    no random numbers. It needs no new locks, because there is no other thread that could hold a
    lock during the fork.
    """
    pid: int = FORK()
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


class ProcessTitle:
    """The command line that ``ps`` prints: memory that the process may overwrite (proc(5))."""

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self.start, self.end = int(fields[45]), int(fields[46])

    def set(self, args: list[bytes]) -> None:
        """Overwrite the command line with these arguments, truncated to the original size."""
        room = self.end - self.start
        text = b"".join(arg + b"\0" for arg in args)[: room - 1]
        ctypes.memmove(self.start, text.ljust(room, b"\0"), room)


class WaitingShim:
    """A forked shim that waits on its own socket for the descriptors of a request.

    Parameters
    ----------
    run_shim : callable
        A function that runs the shim and returns the shim's exit status. Its arguments are the
        shim's socket and a pipe. A shim that forks its child early writes the child's pid to the
        pipe.
    """

    def __init__(self, run_shim: Callable[[socket.socket, BinaryIO], int]) -> None:
        self.connection, shim_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipe = os.pipe()
        os.set_blocking(pipe[0], False)
        self.child_pipe, child_pipe = os.fdopen(pipe[0], "rb", 0), os.fdopen(pipe[1], "wb", 0)
        with shim_end, child_pipe:
            try:
                self.pid = fork_without_handlers()
            except OSError:
                self.connection.close()
                self.child_pipe.close()
                raise
            if self.pid == 0:
                self.connection.close()
                self.child_pipe.close()
                run_and_exit(partial(run_shim, shim_end, child_pipe))

    def send(self, descriptors: list[int]) -> bool:
        """Send the descriptors to the waiting shim; return False if the shim has died."""
        with self.connection:
            try:
                socket.send_fds(self.connection, [b"!"], descriptors)
            except OSError:
                return False
        return True

    def read_child(self) -> int:
        """Return the pid of the child that the shim forked early, or 0; close the pipe."""
        with self.child_pipe:
            return int(self.child_pipe.read(MAX_PID_CHARS) or 0)


def run_and_exit(run_shim: Callable[[], int]) -> None:
    """Run a shim, then exit: the zygote's code must not continue in the shim's process.

    `BecomeKernel` is not caught, because the kernel's process continues in `main`.
    """
    status = 1
    try:
        status = run_shim()
    except BecomeKernel:
        raise
    except BaseException:  # noqa: BLE001  # any exception ends this process
        os._exit(status)
    os._exit(status)


class ForkServer:
    """Prepares the process, then forks one shim per request.

    Parameters
    ----------
    connection : socket
        The socket to the daemon.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.shim = load("shim", os.path.dirname(HERE))
        self.title = ProcessTitle()
        self.imports = load("imports")
        self.staleness = load("staleness")
        self.heap_layout = load("heap_layout")
        self.copied_pages: CopiedPages = load("prefault").CopiedPages(fork_without_handlers)
        self.snapshot: DiskSnapshot = None
        self.kept_descriptors: set[int] = set()
        self.changed_env: dict[bytes, bytes] = {}
        self.precomputed: Precomputed = None
        self.spare: WaitingShim | None = None
        self.latest: WaitingShim | None = None  # the shim of the latest kernel
        self.confines = False  # whether the daemon moves shims into cgroups

    def send(self, **message: object) -> None:
        """Send a message to the daemon."""
        self.connection.send(json.dumps(message).encode())

    def run(self, modules: list[str]) -> int:
        """Prepare this process, then serve until the daemon exits; return the exit status."""
        try:
            self.prepare(modules)
        except self.imports.PreparationError as error:
            modules = ["ipykernel", *modules]
            locations = self.staleness.import_locations()
            paths = {*locations, *self.staleness.related_files(modules, error)}
            paths_sent = sorted(paths)[:MAX_REFUSAL_PATHS]
            signatures = {path: self.staleness.signature(path) for path in paths_sent}
            self.send(refused=str(error)[:MAX_REASON_CHARS], seen=signatures)
            return 1
        self.serve()
        return 0

    def prepare(self, modules: Iterable[str]) -> None:
        """Import all modules, arrange the memory that kernels will share, and report readiness."""
        env_before = dict(os.environb)
        missing = self.staleness.MissingModules()
        with missing.recording():
            version = self.imports.import_all(modules)
        # The import of ipykernel's debugger sets an environment variable, which kernels need, too.
        self.changed_env = dict(dict(os.environb).items() - env_before.items())
        self.precomputed = load("precompute").Precomputed()
        self.imports.require_one_thread()
        paths, own_folders = self.staleness.watched_paths()
        names = {*sys.modules, *missing.names}
        own = self.staleness.OwnFolders(own_folders, names)
        self.snapshot = self.staleness.DiskSnapshot(paths, own)
        self.kept_descriptors = open_descriptors()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no shim becomes a zombie
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.collect()
        skipped = [*self.precomputed.skipped, *self.heap_layout.arrange()]
        skipped += filter(None, [self.copied_pages.unsupported()])
        gc.freeze()
        self.send(ready=version, skipped=[reason[:MAX_REASON_CHARS] for reason in skipped])

    def serve(self) -> None:
        """Fork a shim for each request, until the daemon exits."""
        requests = select.poll()
        requests.register(self.connection, select.POLLIN)
        while True:
            if not (self.spare or requests.poll(SPARE_DELAY_MS)):
                self.prepare_spare()
            message, descriptors, _, _ = socket.recv_fds(self.connection, MAX_MESSAGE_BYTES, 3)
            if not message:
                return
            request = json.loads(message)
            changed_path = self.snapshot.changed(request["asked"])
            if request.get("ahead"):
                continue
            self.confines = request.get("confines", True)  # older daemons do not send this field
            reply = {"stale": changed_path} if changed_path else self.hand_over(descriptors)
            # The descriptors are closed before the reply. Otherwise, this process would still hold
            # the kernel's lock when the daemon takes it again.
            for descriptor in descriptors:
                os.close(descriptor)
            self.send(**reply)

    def prepare_spare(self) -> None:
        """Examine the latest kernel's pages, then fork a spare shim for the next kernel."""
        if self.latest is not None:
            kernel, self.latest = self.latest.read_child(), None
            if kernel:
                self.copied_pages.learn(kernel)
        with contextlib.suppress(OSError):  # the next request will report the error
            self.spare = WaitingShim(partial(self.run_shim, copies_pages=True))

    def hand_over(self, descriptors: list[int]) -> dict[str, object]:
        """Send the descriptors to the spare shim or a new shim; return the reply for the daemon."""
        shim, self.spare = self.spare, None
        if self.latest is not None:
            self.latest.child_pipe.close()
            self.latest = None
        try:
            if shim is None or not shim.send(descriptors):
                shim = WaitingShim(self.run_shim)
                shim.send(descriptors)
        except OSError as error:  # a temporary shortage of processes or memory
            return {"failed": error.strerror}
        self.latest = shim
        return {"shim": shim.pid}

    def run_shim(
        self, connection: socket.socket, child_pipe: BinaryIO, *, copies_pages: bool = False
    ) -> int:
        """Wait in the shim's process for the descriptors, then supervise the kernel.

        Return the shim's exit status.

        The shim forks its child early, before it waits. If the daemon will move the shim into a
        cgroup, the shim forks its child after this move instead, because an early child would stay
        outside the cgroup. With ``copies_pages``, an early child copies the pages to which a kernel
        writes while it starts.
        """
        # The zygote ignores SIGCHLD. With SIGCHLD ignored, the shim could not read the kernel's
        # exit status.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        self.close_others({connection.fileno(), child_pipe.fileno()})
        child = (
            None
            if self.confines
            else self.fork_child([connection, child_pipe], copies_pages=copies_pages)
        )
        with child_pipe, contextlib.suppress(BrokenPipeError):  # the zygote reads no more
            if child:
                child_pipe.write(b"%d" % child.pid)
        self.title.set([SPARE_TITLE])
        message, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
        connection.close()
        if not message:
            return 0
        plan_file, answer, lock = descriptors
        for standard, descriptor in ((0, plan_file), (1, answer)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        plan: Plan | None = self.shim.read_plan()
        if plan is None:
            return 1
        plan.values["lock"] = b"%d" % lock
        self.title.set([SHIM_TITLE % plan.values["name"]])
        if child and not self.can_use(child, plan):
            child = None
        status: int = self.shim.supervise(plan, lambda: child or self.shim.Child(self.be_kernel))
        return status

    def fork_child(
        self, shim_ends: Iterable[socket.socket | BinaryIO], *, copies_pages: bool
    ) -> Child:
        """Fork the child before the shim waits for its plan; return None if this fails.

        A later child would also have to copy the pages to which the shim has written by then.
        """

        def prepare() -> None:
            for end in shim_ends:
                end.close()  # an open copy would hide the shim's death from the zygote
            self.title.set([CHILD_TITLE])
            if copies_pages:
                self.copied_pages.copy()

        with contextlib.suppress(OSError):  # a temporary shortage of processes or memory
            return self.shim.Child(self.be_kernel, prepare)
        return None

    def can_use(self, child: Child, plan: Plan) -> bool:
        """Give an early child the shim's limit of open files; return whether the child is usable.

        A child is not usable if it has died or if the kernel needs its own cgroup. Such a child is
        dismissed.
        """
        with contextlib.suppress(OSError):
            if "cgroup" not in plan.values and child.is_running():
                limits = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.prlimit(child.pid, resource.RLIMIT_NOFILE, limits)
                return True
        child.dismiss()
        return False

    def be_kernel(self, plan: Plan, _failure_pipe: int) -> None:
        """Undo the changes of zygote and shim in the kernel's process, then unwind the stack."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.title.set(plan.args)
        self.close_others(set())
        plan.env.update(self.changed_env)
        raise BecomeKernel(plan, self)

    def close_others(self, more: set[int]) -> None:
        """Close all descriptors but ``more``, the standard ones and those that modules hold."""
        kept = (self.kept_descriptors - {self.connection.fileno()}) | {0, 1, 2} | more
        for descriptor in open_descriptors() - kept:
            os.close(descriptor)


def renew_identity() -> None:
    """Replace state that must differ between processes: random state, keys and thread ids."""
    set_native_id = getattr(threading.main_thread(), "_set_native_id", None)
    if set_native_id is not None:
        # Python 3.11 does not renew the thread id after a fork, and has no public function for
        # this.
        set_native_id()
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes.current_process().authkey = os.urandom(32)


def run_kernel(plan: Plan, server: ForkServer) -> None:
    """Run the plan's command in this process, as a new interpreter would.

    ``server`` is an argument so that it stays referenced while the kernel runs. Freeing the server
    would write to shared pages.
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
    renew_identity()
    server.precomputed.install()
    runpy.run_module(args[at], run_name="__main__", alter_sys=True)


def main() -> tuple[Plan, ForkServer]:
    """Run the zygote and exit; in a kernel's process, return the plan and the server."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    status = 1
    try:
        status = ForkServer(connection).run([word for word in sys.argv[2:] if word.strip()])
    except BecomeKernel as kernel:
        connection.detach()  # already closed; its number may belong to another file
        return kernel.plan, kernel.server
    except BaseException:  # noqa: BLE001, S110  # nobody is there to receive it
        pass
    os._exit(status)


if __name__ == "__main__":
    if sys.path and sys.path[0] == HERE:
        # Modules in this folder could shadow modules of a kernel. `run_kernel` inserts the working
        # folder later, as -m would.
        del sys.path[0]
    run_kernel(*main())
