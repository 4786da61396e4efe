"""Starts a daemon for a user who has none; the daemon outlives the terminal and the login.

The daemon gets its own session, / as its working directory, and the home folder of the caller
(`kconnd.core.paths.home_dir`). From the caller's environment, the daemon gets the variables in
`KEPT` and the locale (``LC_*``), and no others. The daemon therefore
does not depend on the terminal or on the folder in which it is started. If several clients need a
daemon at the same time, one client starts the daemon and all of them use it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from kconnd.client import Client, find_socket, listens
from kconnd.core.job_cgroups import Kind, cure_for_enclosure
from kconnd.core.logout import cure_for_logout
from kconnd.core.paths import state_dir
from kconnd.errors import UnreachableError
from kconnd.system.files.hidden_daemon import CURE, describe_hidden_daemon, find_hidden_daemon
from kconnd.system.files.private import ensure_private_dir, read_tail
from kconnd.system.files.unwritable import explain_unwritable
from kconnd.system.machine import kills_user_processes, lingers, machine_id, own_user
from kconnd.system.surrounding_unit import enclosure_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# With -P, a package in the daemon's working directory, /, cannot replace kconnd's package.
DAEMON = (sys.executable, "-P", "-m", "kconnd.daemon.main")
START_TIMEOUT_S = 15.0  # the limit until the daemon answers
NO_DISK = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT})
POLL_INTERVAL_S = 0.02
KEPT = (
    *("USER", "LOGNAME", "PATH", "LANG", "LANGUAGE", "TZ", "XDG_CONFIG_HOME"),
    *("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "JUPYTER_PATH", "JUPYTER_DATA_DIR"),
    "JUPYTER_RUNTIME_DIR",
)


def client_or_start(socket: str, command: Sequence[str] = DAEMON) -> Client:
    """Return a client of the user's daemon; first start a daemon if none answers.

    Parameters
    ----------
    socket : str
        The path in ``--socket``; ``""`` without this option.
    command : sequence of str
        The command that runs the daemon.

    Raises
    ------
    UnreachableError
        If the daemon does not answer in time; the error contains the end of its log.
    """
    socket = socket or os.environ.get("KCONND_SOCKET", "")
    client = Client(find_socket(os.environ, socket))
    try:
        client.get("/v1/health")
    except UnreachableError:
        if listens(client.path):  # a daemon already listens, so a second would not help
            client.get("/v1/health")
            return client
        start_daemon(socket, command)
        return Client(find_socket(os.environ, socket))
    return client


def start_daemon(socket: str, command: Sequence[str] = DAEMON) -> None:
    """Start a daemon, unless another client has just started one; wait until it answers."""
    user = own_user()
    _warn_of_logout(user.name)
    _warn_of_session()
    folder = Path(state_dir(os.environ, user.home, machine_id()))
    log = folder / "daemon.log"
    if socket:
        command = (*command, "--socket", str(Path(socket).absolute()))
    with explain_unwritable("starting a daemon", user.home, UnreachableError):
        ensure_private_dir(folder)
        _refuse_beside_hidden(folder)
        with _one_at_a_time(folder / "start.lock"):
            if not _answers(socket):
                process = _launch(command, log, user.home)
                _wait_until_it_answers(process, socket, log)


def _warn_of_logout(user: str) -> None:
    cgroup = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    cure = cure_for_logout(cgroup, kills=kills_user_processes(user), lingers=lingers(user))
    if cure:
        print(
            "kconnd-ctl: a logout will end the daemon that is started now, and its kernels\n"
            f"  to keep them running: {cure}",
            file=sys.stderr,
        )


def _warn_of_session() -> None:
    """Print with what the new daemon will end, and the limit of processor time that it inherits."""
    enclosure = enclosure_of("self")
    if enclosure is not None and enclosure.kind is not Kind.CONTAINER:
        _print_warning(
            f"the daemon that is started now ends with {enclosure.name}, and its kernels",
            cure_for_enclosure(enclosure),
        )
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if seconds != resource.RLIM_INFINITY:
        _print_warning(
            f"this session limits each process to {seconds} s of processor time, and so limits the "
            "daemon that is started now and its kernels",
            "start the daemon from a session in which 'ulimit -Ht' prints unlimited",
        )


def _print_warning(message: str, cure: str) -> None:
    print(f"kconnd-ctl: {message}\n  {cure}", file=sys.stderr)


def _refuse_beside_hidden(state: Path) -> None:
    """Refuse to start a second daemon that could not take the lock of the first.

    Raises
    ------
    UnreachableError
        If the user's daemon runs, and has another /tmp.
    """
    if (pid := find_hidden_daemon(state)) is not None:
        message = f"starting a daemon: {describe_hidden_daemon(pid)}"
        raise UnreachableError(message, hint=CURE.format(pid=pid))


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Take a lock, so that a client waits while another client starts a daemon.

    If the disk is full or read-only, so that the lock file cannot be created, the folder is locked
    instead.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno not in NO_DISK:
            raise
        file = os.open(path.parent, os.O_RDONLY | flags)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _launch(command: Sequence[str], log: Path, home: str) -> subprocess.Popen[bytes]:
    env = {key: os.environ[key] for key in os.environ if key in KEPT or key.startswith("LC_")}
    env["HOME"] = home
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    try:
        output = os.open(log, flags, 0o600)
    except OSError as error:
        if error.errno not in NO_DISK:
            raise
        output = os.open(os.devnull, os.O_WRONLY)
    try:
        return subprocess.Popen(  # the command is kconnd's own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=env,
            start_new_session=True,
        )
    finally:
        os.close(output)


def _answers(socket: str) -> bool:
    try:
        Client(find_socket(os.environ, socket)).get("/v1/health")
    except UnreachableError:
        return False
    return True


def _wait_until_it_answers(process: subprocess.Popen[bytes], socket: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(socket):
            process.returncode = 0  # prevents Popen from waiting for the running daemon
            return
        time.sleep(POLL_INTERVAL_S)  # there is no event for a daemon that begins to answer
    if _answers(socket):  # the new daemon has exited, because another one runs
        return
    state = "it ended"
    if process.poll() is None:
        state = f"no answer within {START_TIMEOUT_S:g} s from pid {process.pid}"
        process.returncode = 0  # the daemon may still become ready, so it is not terminated
    raise UnreachableError(
        f"starting a daemon: {state}",
        hint=f"run kconnd in a terminal to see why; its log is {log}",
        output="\n".join(read_tail(log, 2000).splitlines()[-5:]),
    )
