"""Processes: who one is, when it ends, and signals that never reach a stranger.

A pid is a number that is used again. So a process is known by pid and start time, and it is
signalled through a pidfd that was opened first and checked then (pidfd_open(2)).
"""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

DEAD = frozenset({b"Z", b"X", b"x"})  # states in proc_pid_stat(5)
AGAIN = 1.0  # seconds until what could not be watched is tried again

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class ProcessId:
    """One process for all times of this boot: pid, and start in ticks since boot (proc(5))."""

    pid: int
    started: int


def boot_id() -> str:
    """Read what tells this run of the machine from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def pid_namespace(pid: int | str = "self") -> str:
    """Read what tells in which namespace pids mean what they do (pid_namespaces(7)); "" if unknown.

    Containers of one machine have the same boot id, and each counts its own pids.
    """
    return _namespace(pid, "pid")


def shares_host_name(process: ProcessId) -> bool:
    """Tell whether a live process of this pid namespace has the host name that we have.

    It does in the same namespace of host names, also where somebody has changed the name.
    """
    theirs = _namespace(process.pid, "uts")
    return bool(theirs) and theirs == _namespace("self", "uts") and _is_still(process)


def _namespace(pid: int | str, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115  # its text, which is no path
    except OSError:
        return ""


def read_stat(pid: int) -> tuple[int, int, int]:
    """Read a process's parent, process group and start time from proc_pid_stat(5).

    Raises
    ------
    OSError
        If there is no such process.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[1]), int(fields[2]), int(fields[19])


def started_at(process: ProcessId) -> float:
    """Give when a process started, in seconds since the epoch: boot time and ticks (proc(5))."""
    return psutil.boot_time() + process.started / os.sysconf("SC_CLK_TCK")


def age_of(process: ProcessId) -> float:
    """Give the seconds since a process started, by a clock that nobody can set."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now - process.started / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def opened(process: ProcessId) -> Iterator[int | None]:
    """Open a pidfd for a process; None where it is gone, also if its number is used again.

    One that has ended and was not collected yet (a zombie) can still be opened.

    Raises
    ------
    OSError
        If that cannot be told: for want of file descriptors, say. It is no sign of an end.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    except OSError as error:
        # By now it may be the number of a thread, of any process; newer kernels say ENOENT then.
        if error.errno not in {errno.EINVAL, errno.ENOENT} or _is_still(process):
            raise
        yield None
        return
    try:
        yield handle if _is_still(process) else None
    finally:
        os.close(handle)


def _is_still(process: ProcessId) -> bool:
    try:
        return read_stat(process.pid)[2] == process.started
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_alive(process: ProcessId) -> bool:
    """Tell whether a process has not ended; a pidfd is readable once it has."""
    with opened(process) as handle:
        if handle is None:
            return False
        poll = select.poll()  # select() would end at descriptor 1023
        poll.register(handle, select.POLLIN)
        return not poll.poll(0)


def send_signal(process: ProcessId, number: int) -> bool:
    """Signal a process, and tell whether it was there."""
    with opened(process) as handle:
        if handle is None:
            return False
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        return True


async def ended(process: ProcessId, *, reap: bool = True) -> None:
    """Wait until a process has ended; a zombie has. Costs nothing while it lives.

    ``reap`` collects one that was our child, unless the caller wants its exit code. Where it
    cannot be watched just now it is tried again, since nothing is known of its end.
    """
    while True:
        try:
            await _end_of(process, reap=reap)
        except OSError as error:
            log.warning("watching process %d: %s", process.pid, error)
            await asyncio.sleep(AGAIN)
        else:
            return


async def _end_of(process: ProcessId, *, reap: bool) -> None:
    with opened(process) as handle:
        if handle is None:
            return
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, done.set)
        try:
            await done.wait()
        finally:
            loop.remove_reader(handle)
        if reap:
            _reap(handle)


def _reap(handle: int) -> None:
    """Collect a process that has ended, where it was a child of ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)


def signal_group(leader: ProcessId, number: int) -> None:
    """Signal each process of a group, of which the leader is known to be there."""
    send_signal(leader, number)
    for process, group in _all_processes():
        if group == leader.pid and process != leader:
            with contextlib.suppress(PermissionError):  # a set-uid program, which is not ours
                send_signal(process, number)


def _all_processes() -> Iterator[tuple[ProcessId, int]]:
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            _, group, started = read_stat(pid)
            yield ProcessId(pid, started), group


def descendants(root: ProcessId) -> list[ProcessId]:
    """List all processes below one, those in other sessions too."""
    found: list[ProcessId] = []
    parents = [root.pid]
    for parent in parents:
        for pid in _children(parent):
            with contextlib.suppress(OSError):
                found.append(ProcessId(pid, read_stat(pid)[2]))
                parents.append(pid)
    return found


def in_group(leader: int, processes: Iterable[ProcessId]) -> list[ProcessId]:
    """Give the processes that are in the group of this leader; also those that have ended."""
    found = []
    for process in processes:
        with contextlib.suppress(OSError):
            if read_stat(process.pid)[1:] == (leader, process.started):
                found.append(process)
    return found


def split_ended(processes: Iterable[ProcessId]) -> tuple[list[ProcessId], int]:
    """Give the processes that live, and count those that ended and were not collected (zombies).

    A process that is gone is in neither.
    """
    live, ended_count = [], 0
    for process in processes:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[19]) != process.started:
                continue
            if fields[0] in DEAD:
                ended_count += 1
            else:
                live.append(process)
    return live, ended_count


def _children(pid: int) -> list[int]:
    """List a process's children, from proc_pid_task(5) or, where that is not built in, psutil.

    psutil reads all of /proc for it, which on a busy machine takes most of a look-up's time.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except FileNotFoundError:
        pass
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def tree_memory(root: ProcessId) -> int:
    """Sum the memory of a process and all below it, shared pages by share (PSS), in bytes."""
    return sum(_memory(process.pid) for process in (root, *descendants(root)))


def tree_use(*roots: ProcessId) -> dict[tuple[int, int], float]:
    """Read the processor time that processes and all below them have used, in seconds each.

    Time of children that have ended is in that of the parent that waited for them.
    """
    found: dict[tuple[int, int], float] = {}
    for root in roots:
        for process in (root, *descendants(root)):
            with contextlib.suppress(OSError):
                started, used = _read_use(process.pid)
                if started == process.started:
                    found[process.pid, started] = used
    return found


def _read_use(pid: int) -> tuple[int, float]:
    """Read when a process started, and the seconds that it and its ended children have used."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    """Read a process's PSS from the summary that Linux makes of it (proc_pid_smaps(5))."""
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open("rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has ended, or is not ours to look into
    return 0


def user_of(pid: int) -> int | None:
    """Give the uid that a process has in all respects; None where it is gone or has several."""
    try:
        uids = set(psutil.Process(pid).uids())
    except psutil.Error:
        return None
    return uids.pop() if len(uids) == 1 else None


def processes_of(uid: int, before: float) -> list[int]:
    """List the pids of a user's processes that started before a time, in seconds since the epoch.

    It goes by how long each has run, so it needs no more of /proc than the processes themselves.
    """
    running_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    least_ticks = (running_s - (time.time() - before)) * os.sysconf("SC_CLK_TCK")
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if user_of(pid) == uid and read_stat(pid)[2] < least_ticks:
                found.append(pid)
    return found


def sockets_of(pid: int) -> Iterator[int]:
    """List the inodes of a process's sockets (proc_pid_fd(5))."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):  # noqa: PTH208  # a Path of each takes longer than to read it
        try:
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115  # the same
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            yield int(target[8:-1])


def descriptors() -> tuple[int, int]:
    """Count this process's file descriptors, and give how many it may have (getrlimit(2))."""
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a tenth of the time, at each start
    return used, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def program_of(pid: int) -> str:
    """Give the name of a process's program, without its arguments, in which secrets may be."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "ended"


def command_of(pid: int) -> str:
    """Give a process's command line for messages."""
    try:
        return " ".join(psutil.Process(pid).cmdline()) or psutil.Process(pid).name()
    except psutil.Error:
        return "a process that has ended"
