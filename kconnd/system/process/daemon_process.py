"""Prove by cgroup and pidfd that a process belongs to the daemon of its user.

systemd puts the daemon of a uid and the daemon's own child programs into one cgroup
(`kconnd.core.paths.daemon_cgroup`). Only root can move a process into this cgroup. The front door
creates units and scopes only for a process of exactly this cgroup and this uid. Other processes of
the user are refused. A command that root runs is refused as well, so nothing is created for uid 0.

A pid can be reused. A pidfd is therefore opened before the cgroup is read, and the process must be
alive afterwards. If the process is alive, the cgroup that was read is its own. The pidfd of a peer
comes from the socket (SO_PEERPIDFD, Linux 6.5). With an older Linux, this module opens a pidfd of
the process that has the peer's pid now. If the pid has been reused, the checks apply to this
process and not to the peer.
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

SO_PEERPIDFD = 77  # defined in asm-generic/socket.h; the socket module does not define it


def check_peer_is_daemon(connection: socket.socket, peer: Peer) -> None:
    """Refuse a peer that does not belong to the daemon of the user that the peer runs as.

    Parameters
    ----------
    connection : socket.socket
        A connected Unix socket.
    peer : Peer
        The peer, as `kconnd.system.http.peer.read_peer` returns it.

    Raises
    ------
    RefusedError
        If the peer does not belong to the daemon, has ended, or cannot be examined.
    """
    try:
        pidfd = _open_peer(connection, peer.pid)
    except OSError:
        raise _refusal(peer.pid, peer.uid) from None
    try:
        _check_is_daemon(pidfd, peer.pid, peer.uid)
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def daemon_process(pid: int, uid: int) -> Iterator[Callable[[], None]]:
    """Check that a process belongs to the daemon of ``uid``, and yield a second check.

    The second check is a function that refuses the process if it has ended. systemd 252 accepts
    only pids, and a pid can be reused during any wait. The caller therefore calls this function
    immediately before it sends the pid. The context manager also calls the function on exit.

    Raises
    ------
    RefusedError
        If the process does not belong to the daemon of ``uid``, or has ended.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        raise _refusal(pid, uid) from None
    check = partial(check_is_alive, pidfd, pid, uid)
    try:
        _check_is_daemon(pidfd, pid, uid)
        yield check
        check()
    finally:
        os.close(pidfd)


def check_is_alive(pidfd: int, pid: int, uid: int) -> None:
    """Refuse a process that has ended, because its pid may have been reused.

    Raises
    ------
    RefusedError
        If the process has ended.
    """
    poll = select.poll()  # select(2) does not support descriptors above 1023
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0):
        raise _refusal(pid, uid)


def _check_is_daemon(pidfd: int, pid: int, uid: int) -> None:
    if user_of(pid) != uid or system_cgroup_of(pid) != daemon_cgroup(uid):
        raise _refusal(pid, uid)
    # The process is alive, so the uid and cgroup that were read are its own.
    check_is_alive(pidfd, pid, uid)


def _open_peer(connection: socket.socket, pid: int) -> int:
    """Open a pidfd of the process that connected.

    Raises
    ------
    OSError
        If the process has ended.
    """
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return os.pidfd_open(pid)
    if not _is_pidfd_of(pidfd, pid):
        os.close(pidfd)
        raise ProcessLookupError
    return pidfd


def _is_pidfd_of(descriptor: int, pid: int) -> bool:
    """Check whether a descriptor is a pidfd of the live process ``pid`` (proc_pid_fdinfo(5))."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    return f"Pid:\t{pid}" in lines


def _refusal(pid: int, uid: int) -> RefusedError:
    return RefusedError(
        f"process {pid} does not belong to the daemon of uid {uid}",
        hint="only a daemon that kconnd@UID.service runs may send this request",
    )
