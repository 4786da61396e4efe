"""Identify, watch, signal and list processes.

A pid can be reused, so a process is identified by its pid and start time. A signal is sent through
a pidfd (pidfd_open(2)). `open_pidfd` opens the pidfd first and checks the start time afterwards, so
a signal never reaches another process.
"""

import asyncio
import contextlib
import errno
import logging
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

DEAD_STATES = frozenset({b"Z", b"X", b"x"})  # in proc_pid_stat(5)
RETRY_DELAY_S = 1.0

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class ProcessId:
    """A process, identified by its pid and its start time in ticks since boot (proc(5))."""

    pid: int
    started: int


def boot_id() -> str:
    """Read the id of the current boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def pid_namespace(pid: int | str = "self") -> str:
    """Read the id of a process's pid namespace (pid_namespaces(7)); "" if unknown.

    Containers of one machine have the same boot id and different pid namespaces.
    """
    return _namespace(pid, "pid")


def shares_host_name(process: ProcessId) -> bool:
    """Check whether a process is alive and in the UTS namespace of this process.

    Two processes in one UTS namespace have the same host name, even after it is changed.
    """
    uts_namespace = _namespace(process.pid, "uts")
    is_shared = bool(uts_namespace) and uts_namespace == _namespace("self", "uts")
    return is_shared and _has_start_time(process)


def _namespace(pid: int | str, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115  # the link's text is no path
    except OSError:
        return ""


def read_stat(pid: int) -> tuple[int, int, int]:
    """Read a process's parent, process group and start time from proc_pid_stat(5).

    Raises
    ------
    OSError
        If there is no such process.
    """
    fields = read_stat_fields(pid)
    return int(fields[1]), int(fields[2]), int(fields[19])


def read_stat_fields(pid: int) -> list[bytes]:
    """Read the fields of proc_pid_stat(5) from the third field, the state, onwards."""
    return _read_proc(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read_proc(path: str) -> bytes:
    """Read a file of /proc."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # half of Path's time
        return file.read()


def started_at(process: ProcessId) -> float:
    """Return the start time of a process in seconds since the epoch."""
    return psutil.boot_time() + process.started / os.sysconf("SC_CLK_TCK")


def age_of(process: ProcessId) -> float:
    """Return the seconds since a process started, by the monotonic clock."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now - process.started / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def open_pidfd(process: ProcessId) -> Iterator[int | None]:
    """Open a pidfd for a process; None if the process is gone or its pid has been reused.

    A pidfd of a zombie can be opened.

    Raises
    ------
    OSError
        If the pidfd cannot be opened for another reason, such as a lack of file descriptors. The
        process may then be alive.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    except OSError as error:
        # EINVAL means that the number now belongs to a thread. A newer Linux returns ENOENT.
        if error.errno not in {errno.EINVAL, errno.ENOENT} or _has_start_time(process):
            raise
        yield None
        return
    try:
        yield pidfd if _has_start_time(process) else None
    finally:
        os.close(pidfd)


def _has_start_time(process: ProcessId) -> bool:
    try:
        return read_stat(process.pid)[2] == process.started
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_alive(process: ProcessId) -> bool:
    """Check whether a process is running. A pidfd becomes readable when its process ends."""
    with open_pidfd(process) as pidfd:
        if pidfd is None:
            return False
        poll = select.poll()  # select(2) does not support descriptors above 1023
        poll.register(pidfd, select.POLLIN)
        return not poll.poll(0)


def send_signal(process: ProcessId, number: int) -> bool:
    """Send a signal to a process, and return whether the process existed."""
    with open_pidfd(process) as pidfd:
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        return True


async def wait_for_end(process: ProcessId, *, reap: bool = True) -> None:
    """Wait until a process has ended, without polling; a zombie counts as ended.

    Parameters
    ----------
    process : ProcessId
        The process to watch. If watching fails, for example for lack of file descriptors, the
        function tries again.
    reap : bool
        Whether to collect the exit status if the process is a child of this process. False if the
        caller needs the status.
    """
    while True:
        try:
            await _watch_pidfd(process, reap=reap)
        except OSError as error:
            log.warning("watching process %d: %s; retrying", process.pid, error)
            await asyncio.sleep(RETRY_DELAY_S)
        else:
            return


async def _watch_pidfd(process: ProcessId, *, reap: bool) -> None:
    with open_pidfd(process) as pidfd:
        if pidfd is None:
            return
        is_readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, is_readable.set)
        try:
            await is_readable.wait()
        finally:
            loop.remove_reader(pidfd)
        if reap:
            _reap(pidfd)


def _reap(pidfd: int) -> None:
    """Collect the exit status of an ended process if it was a child of this process."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def signal_group(leader: ProcessId, number: int) -> None:
    """Send a signal to all processes of a process group; the leader has to be alive."""
    send_signal(leader, number)
    for process, group in _all_processes():
        if group == leader.pid and process != leader:
            with contextlib.suppress(PermissionError):  # a set-uid program of another user
                send_signal(process, number)


def _all_processes() -> Iterator[tuple[ProcessId, int]]:
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            _, group, started = read_stat(pid)
            yield ProcessId(pid, started), group


def descendants(root: ProcessId) -> list[ProcessId]:
    """List all processes below a process, including those in other sessions."""
    processes: list[ProcessId] = []
    parents = [root.pid]
    for parent in parents:
        for pid in _children(parent):
            with contextlib.suppress(OSError):
                processes.append(ProcessId(pid, read_stat(pid)[2]))
                parents.append(pid)
    return processes


def _children(pid: int) -> list[int]:
    """List a process's children, from the file ``children`` of each thread (proc_pid_task(5)).

    A Linux without this file requires psutil, which is slower because it reads all of /proc.
    """
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  # faster than creating a Path each
        texts = [_read_proc(f"/proc/{pid}/task/{task}/children") for task in tasks]
        return [int(child) for text in texts for child in text.split()]
    except FileNotFoundError:
        pass
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def in_group(leader: int, processes: Iterable[ProcessId]) -> list[ProcessId]:
    """Select the processes in the process group of ``leader``; zombies are included."""
    members = []
    for process in processes:
        with contextlib.suppress(OSError):
            if read_stat(process.pid)[1:] == (leader, process.started):
                members.append(process)
    return members


def split_zombies(processes: Iterable[ProcessId]) -> tuple[list[ProcessId], int]:
    """Return the live processes and the number of zombies; processes that are gone are ignored."""
    live, zombie_count = [], 0
    for process in processes:
        with contextlib.suppress(OSError):
            fields = read_stat_fields(process.pid)
            if int(fields[19]) != process.started:
                continue
            if fields[0] in DEAD_STATES:
                zombie_count += 1
            else:
                live.append(process)
    return live, zombie_count


def state_of(process: ProcessId) -> str:
    """Return the letter for a process's state (proc_pid_stat(5)); empty if the process is gone."""
    with contextlib.suppress(OSError):
        fields = read_stat_fields(process.pid)
        if int(fields[19]) == process.started:
            return fields[0].decode()
    return ""


def user_of(pid: int) -> int | None:
    """Return the uid of a process; None if the process is gone or its uids are not all equal."""
    try:
        uids = set(psutil.Process(pid).uids())
    except psutil.Error:
        return None
    return uids.pop() if len(uids) == 1 else None


def user_processes(uid: int, before: float) -> list[int]:
    """List the pids of a user's processes that started before ``before`` (seconds since the epoch).

    Start times are compared in ticks since boot, so that no further file of /proc has to be read.
    """
    uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    limit_ticks = (uptime_s - (time.time() - before)) * os.sysconf("SC_CLK_TCK")
    pids = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if user_of(pid) == uid and read_stat(pid)[2] < limit_ticks:
                pids.append(pid)
    return pids


def program_of(pid: int) -> str:
    """Return the name of a process's program without arguments, which may contain secrets."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "ended"


def program_name(pid: int) -> str:
    """Return the name of a process's program (proc(5)); ``""`` if the process has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().decode(errors="replace").strip()
    except OSError:
        return ""


def command_of(pid: int) -> str:
    """Return text for a message: a process's command line, or that the process has ended."""
    try:
        return " ".join(psutil.Process(pid).cmdline()) or psutil.Process(pid).name()
    except psutil.Error:
        return "a process that has ended"
