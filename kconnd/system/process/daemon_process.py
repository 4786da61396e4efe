"""Proof that a process belongs to an owner's daemon: its control group, read under a pidfd.

systemd puts the daemon of a uid, and all that the daemon runs itself, into one control group
(`kconnd.core.paths.daemon_cgroup`). Nobody but root can move a process there. So the front door
makes units and scopes for a process of exactly that group and of exactly that uid, and for no
other process of the user. In particular nothing is made for uid 0 on the word of a command that
root runs.

A pid is a number that is used again. The process is therefore held by a pidfd while its group is
read, and must live afterwards: so the group was that process's own. The pidfd of a peer comes
from the socket (SO_PEERPIDFD, Linux 6.5). Where there is none, the process that has the pid by
now is held; what that can prove of another process of the same uid is the same.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kconnd.core.access import Peer
from kconnd.core.paths import daemon_cgroup
from kconnd.errors import RefusedError
from kconnd.system.process.cgroups import system_cgroup_of
from kconnd.system.process.processes import user_of

SO_PEERPIDFD = 77  # asm-generic/socket.h; Python has no name for it


def check_peer_is_daemon(connection: socket.socket, peer: Peer) -> None:
    """Refuse a peer that is not its owner's daemon.

    Parameters
    ----------
    connection : socket.socket
        A connected Unix socket.
    peer : Peer
        As `kconnd.system.http.peer.read_peer` gives it.

    Raises
    ------
    RefusedError
        If the peer's process is another one, has ended, or cannot be looked at.
    """
    try:
        process = _open_peer(connection, peer.pid)
    except OSError:
        raise _not_its(peer.pid, peer.uid) from None
    try:
        _check_belongs(process, peer.pid, peer.uid)
    finally:
        os.close(process)


@contextlib.contextmanager
def its_own_process(pid: int, uid: int) -> Iterator[Callable[[], None]]:
    """Check that a pid is a process of an owner's daemon; give what checks that it still lives.

    The manager of systemd 252 takes numbers, and a number can be another process's after any
    wait. So this is checked once more as the last thing before the number is sent, and at the end.

    Raises
    ------
    RefusedError
        If it is not.
    """
    try:
        process = os.pidfd_open(pid)
    except OSError:
        raise _not_its(pid, uid) from None
    check = partial(check_lives, process, pid, uid)
    try:
        _check_belongs(process, pid, uid)
        yield check
        check()
    finally:
        os.close(process)


def check_lives(process: int, pid: int, uid: int) -> None:
    """Refuse a process that has ended: its number can be another's. ``process`` is its pidfd.

    Raises
    ------
    RefusedError
        If so.
    """
    poll = select.poll()  # select() would end at descriptor 1023
    poll.register(process, select.POLLIN)
    if poll.poll(0):
        raise _not_its(pid, uid)


def _check_belongs(process: int, pid: int, uid: int) -> None:
    if user_of(pid) != uid or system_cgroup_of(pid) != daemon_cgroup(uid):
        raise _not_its(pid, uid)
    check_lives(process, pid, uid)  # so the group and the uid were those of this process


def _open_peer(connection: socket.socket, pid: int) -> int:
    """Open a pidfd of the process that connected.

    Raises
    ------
    OSError
        If that process is gone.
    """
    try:
        process = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return os.pidfd_open(pid)
    if not _is_pidfd_of(process, pid):
        os.close(process)
        raise ProcessLookupError
    return process


def _is_pidfd_of(process: int, pid: int) -> bool:
    """Tell whether a descriptor is a pidfd of a process that lives (proc_pid_fdinfo(5))."""
    lines = Path(f"/proc/self/fdinfo/{process}").read_text(encoding="ascii").splitlines()
    return f"Pid:\t{pid}" in lines


def _not_its(pid: int, uid: int) -> RefusedError:
    return RefusedError(
        f"process {pid} is not one of the daemon of uid {uid}",
        hint="only a daemon that kconnd@UID.service runs asks for this",
    )
