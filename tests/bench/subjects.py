"""What all ways to start a kernel have in common, and kconnd's own.

Sockets and connection files are where they are in use, whoever makes them: on a tmpfs, as
``$XDG_RUNTIME_DIR`` and ``/run`` are (XDG Base Directory Specification, pam_systemd(8)).

A start is timed until the kernel has answered ``kernel_info_request``, whoever asked it: the
daemon, the kernel manager, or the client that is told to wait for it. Whatever is started ends
with the part that started it, also where that fails.
"""

import concurrent.futures
import contextlib
import itertools
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import psutil
import zmq
from jupyter_client.session import Session

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, DaemonError

FIRST_KERNEL_S = 0.5  # a zygote learns from the first kernel what the next ones need
RUNTIME = "/dev/shm"  # a tmpfs on every Linux; a folder of our own is made in it


def runtime_folder() -> Path:
    """Make a folder for sockets; who asked for it removes it."""
    return Path(tempfile.mkdtemp(prefix="kb-", dir=RUNTIME))


@dataclass(frozen=True)
class Started:
    """A kernel that has answered.

    Parameters
    ----------
    seconds : float
        How long that took from the request.
    find : callable
        Gives its process, and after it what else there is for this kernel alone.
    end : callable
        Ends it, and waits until it has ended.
    """

    seconds: float
    find: Callable[[], tuple[int, ...]]
    end: Callable[[], None]


Way = Callable[[], Started]


@dataclass(frozen=True)
class AtOnce:
    """What came of starting kernels at once.

    Parameters
    ----------
    seconds : float
        How long it took until the last was answered, be it with an error.
    started : list of Started
        Those that run, which are to be ended.
    failures : list of str
        Why the others do not.
    """

    seconds: float
    started: list[Started] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def at_once(way: Way, count: int) -> AtOnce:
    """Start kernels at once, each from a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        begin = time.perf_counter()
        begun = [pool.submit(way) for _ in range(count)]
        concurrent.futures.wait(begun)
        found = AtOnce(time.perf_counter() - begin)
    for one in begun:
        if (error := one.exception()) is None:
            found.started.append(one.result())
        else:
            found.failures.append(f"{type(error).__name__}: {error}")
    lost = sum(not _runs(one) for one in found.started)
    found.failures.extend(["it answered, and was gone when all had answered"] * lost)
    return found


def _runs(started: Started) -> bool:
    with contextlib.suppress(LookupError, psutil.Error):
        return psutil.Process(started.find()[0]).status() != psutil.STATUS_ZOMBIE
    return False


def end_all(found: AtOnce) -> None:
    """End them all at the same time; one that cannot be ended is a failure, too."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(found.started))) as pool:
        ended = [pool.submit(one.end) for one in found.started]
    for error in (one.exception() for one in ended):
        if error is not None:
            found.failures.append(f"when it was ended: {type(error).__name__}: {error}")


def ask_who(connection: dict[str, Any]) -> None:
    """Send ``kernel_info_request`` with a new client, and wait for the reply."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    session = Session(key=connection["key"].encode())
    with context.socket(zmq.DEALER) as dealer:
        dealer.linger, dealer.reconnect_ivl = 0, 1
        separator = "-" if connection["transport"] == "ipc" else ":"
        where = f"{connection['ip']}{separator}{connection['shell_port']}"
        dealer.connect(f"{connection['transport']}://{where}")
        session.send(dealer, "kernel_info_request")
        if not dealer.poll(60_000):
            raise TimeoutError("no reply from a kernel")
        dealer.recv_multipart()


PYTHON = f"python: {sys.executable}\n"
PROFILES = {
    "cold": "launcher: local\n",
    "fork": "launcher: fork\n",
    "warm": "launcher: fork\nwarm: 1\n",
    "again": "launcher: fork\nrestart: {backoff: 10ms, backoff_max: 10ms}\n",
}


class Kconnd:
    """A daemon with profiles to start kernels of.

    Parameters
    ----------
    kinds : str
        Which of the profiles it has. What it prepares for one that it has is prepared.
    build : Path, optional
        The folder with the commands of the build to run, if not the one that this runs with.
    """

    def __init__(self, *kinds: str, build: Path | None = None) -> None:
        self.kinds = kinds
        self.folder = Path(tempfile.mkdtemp(prefix="kb-", dir="/tmp"))
        self.runtime = runtime_folder()
        self.daemon = Daemon(self.folder, self.runtime / "r")
        self.daemon.watches = True  # as it does by default
        self.bin = build or Path(sys.executable).parent
        if build:
            self.daemon.program = (str(build / "kconnd"),)
        self.names: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        try:
            # Other kernels of this user keep their history in ~/.ipython, and wait for its lock.
            history = f"env: {{IPYTHONDIR: {self.folder}/ipython}}\n"
            for kind in self.kinds:
                self.daemon.profile(kind, PYTHON + PROFILES[kind] + history)
            self.daemon.start()
            first = [self.start(kind) for kind in self.kinds]
            time.sleep(FIRST_KERNEL_S)
            for kernel in first:
                kernel.end()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the daemon and all kernels at once: nobody waits for them to end in good order."""
        self.daemon.__exit__(None, None, None)
        for folder in (self.folder, self.runtime):
            shutil.rmtree(folder, ignore_errors=True)

    def start(self, kind: str, *, ask: bool = False) -> Started:
        """Start a kernel; where it is to be asked, until a client of its own has had a reply.

        It is the profile's first instance that is free, so that most starts are of a name that
        the daemon has seen, as they are in use.
        """
        if kind == "warm":
            self._wait_for_warm()
        name = self._take_name(kind)
        try:
            begin = time.perf_counter()
            found = self.daemon.post(name, "start")
            if ask:
                ask_who(json.loads(Path(found["connection_file"]).read_bytes()))
            taken = time.perf_counter() - begin
        except BaseException:  # its name stays taken: what runs by it, if anything, is no news
            with contextlib.suppress(DaemonError, OSError):
                self.daemon.post(name, "stop")
            raise
        return Started(taken, partial(self._find, name), partial(self._end, name))

    def _take_name(self, kind: str) -> str:
        with self._lock:
            numbered = (f"{kind}@{number}" for number in itertools.count())
            name = next(name for name in numbered if name not in self.names)
            self.names.add(name)
        return name

    def _find(self, name: str) -> tuple[int, int]:
        kernel = self.daemon.info(name)["pid"]
        if kernel is None:
            raise LookupError(f"{name} does not run")
        return kernel, self.daemon.shim_of(name).pid

    def _end(self, name: str) -> None:
        self.daemon.post(name, "stop")
        with self._lock:
            self.names.remove(name)
        if name.startswith("warm"):
            self._wait_for_warm()
            time.sleep(0.3)  # until the daemon and the kernel have nothing more to do

    def _wait_for_warm(self) -> None:
        wait_for(lambda: self.daemon.get("/v1/health")["warm"] == 1, "a warm kernel")

    def pids(self) -> list[int]:
        """List the kernels' processes."""
        kernels = self.daemon.get("/v1/kernels")["kernels"]
        return [kernel["pid"] for kernel in kernels if kernel["pid"]]
