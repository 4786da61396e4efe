"""Identify the peer of a Unix socket: uid and pid from the kernel, name and groups from NSS.

Rules. The uid and pid are those at the time of the connection, and reading them is cheap. Names and
groups come from the system's user database, which may be a remote server. Look-ups run in threads
of their own, a few at a time and with a time limit, and their results expire. A peer whose look-up
fails is refused. The owner and root have all rights, so they are not looked up.
"""

import asyncio
import contextlib
import grp
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace

from kconnd.core.access import Peer
from kconnd.errors import RefusedError
from kconnd.system.hung_calls import ThreadPerCallExecutor

EXPIRY_S = 10.0  # the lifetime of a look-up's result
LOOKUP_LIMIT_S = 5.0
MAX_LOOKUPS = 4  # concurrent look-ups by uid, and by name; further look-ups wait
MAX_NAMES = 64  # the maximum of names that are being looked up or wait, of all peers together
MAX_SHOWN_CHARACTERS = 100  # an error truncates a name to this length

_CREDENTIALS = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid

Identity = tuple[str, frozenset[str]]  # name and groups


def read_peer(connection: socket.socket) -> Peer:
    """Read the peer's uid and pid (SO_PEERCRED), which are those at the time of the connection.

    Raises
    ------
    OSError
        If the socket has no credentials. The peer then gets no reply.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return Peer(uid=uid, pid=pid)


def look_up_user(uid: int) -> Identity:
    """Look up a user's name and groups without a time limit; both are empty for an unknown uid."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return "", frozenset()
    groups = []
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        with contextlib.suppress(KeyError):  # a group without a name has no grants
            groups.append(grp.getgrgid(gid).gr_name)
    return user.pw_name, frozenset(groups)


def _find_uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError means that the text is not a valid name
        return None


def user_as_peer(uid: int, pid: int = 0) -> Peer:
    """Return a user with name and groups, looked up without a time limit."""
    return Peer(uid, pid, *look_up_user(uid))


class UserDirectory:
    """The system's database of users and groups, with limits on time and threads.

    Parameters
    ----------
    look_up : callable
        A function that returns a uid's name and groups, or raises OSError.
    limit_s : float
        The time limit of a look-up.
    expiry_s : float
        The seconds after which a result is looked up again.
    find_uid : callable
        A function that returns the uid of a name, or None for an unknown name, or raises OSError.
    """

    def __init__(
        self,
        look_up: Callable[[int], Identity] = look_up_user,
        limit_s: float = LOOKUP_LIMIT_S,
        expiry_s: float = EXPIRY_S,
        find_uid: Callable[[str], int | None] = _find_uid,
    ) -> None:
        self.expiry_s = expiry_s
        self._look_up, self._find_uid, self._limit_s = look_up, find_uid, limit_s
        self._uid_slots = asyncio.Semaphore(MAX_LOOKUPS)
        # Limited, because a client can send any number of names.
        self._name_slots = asyncio.Semaphore(MAX_LOOKUPS)
        # The exit of the process does not wait for a hanging look-up.
        self._threads = ThreadPerCallExecutor()
        self._uid_tasks: dict[int, asyncio.Task[Identity]] = {}  # at most one look-up per uid
        # At most one look-up per name. A look-up can continue long after its client has
        # disconnected.
        self._name_tasks: dict[str, asyncio.Task[int | None]] = {}

    async def complete(self, peer: Peer) -> Peer:
        """Add the name and groups to a peer.

        Raises
        ------
        RefusedError
            If the look-up fails or times out.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                name, groups = await asyncio.shield(self._uid_task(peer.uid))
        except (TimeoutError, OSError) as error:
            raise RefusedError(
                f"looking up the user of uid {peer.uid} failed",
                hint=f"try again in a moment; 'id {peer.uid}' shows whether the system knows it",
            ) from error
        return replace(peer, name=name, groups=groups)

    async def uid_of(self, name: str) -> int | None:
        """Look up the uid of a user; None if there is no such user.

        Raises
        ------
        RefusedError
            If the look-up fails or times out, or if too many names are waiting.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.shield(self._name_task(name))
        except (TimeoutError, OSError) as error:
            raise RefusedError(
                f"looking up the user {name[:MAX_SHOWN_CHARACTERS]!a} failed",
                hint="try again in a moment",
            ) from error

    def _name_task(self, name: str) -> "asyncio.Task[int | None]":
        if name not in self._name_tasks:
            if len(self._name_tasks) >= MAX_NAMES:
                raise RefusedError(
                    f"looking up the user {name[:MAX_SHOWN_CHARACTERS]!a} failed: {MAX_NAMES} "
                    "names are being looked up already",
                    hint="try again in a moment, or use the uid, as 'id -u NAME' prints it",
                )
            task = asyncio.get_running_loop().create_task(self._run_find(name))
            task.add_done_callback(lambda done: self._remove_name_task(name, done))
            self._name_tasks[name] = task
        return self._name_tasks[name]

    def _remove_name_task(self, name: str, task: "asyncio.Task[int | None]") -> None:
        del self._name_tasks[name]
        if not task.cancelled():
            task.exception()  # the waiting clients have received the exception

    async def _run_find(self, name: str) -> int | None:
        async with self._name_slots:
            return await asyncio.wrap_future(self._threads.submit(self._find_uid, name))

    def _uid_task(self, uid: int) -> "asyncio.Task[Identity]":
        if uid not in self._uid_tasks:
            task = asyncio.get_running_loop().create_task(self._run_look_up(uid))
            task.add_done_callback(lambda done: self._remove_uid_task(uid, done))
            self._uid_tasks[uid] = task
        return self._uid_tasks[uid]

    def _remove_uid_task(self, uid: int, task: "asyncio.Task[Identity]") -> None:
        del self._uid_tasks[uid]
        if not task.cancelled():
            task.exception()  # the waiting clients have received the exception

    async def _run_look_up(self, uid: int) -> Identity:
        async with self._uid_slots:
            return await asyncio.wrap_future(self._threads.submit(self._look_up, uid))


class Caller:
    """The peer of one connection, looked up at its first request and again after the expiry.

    Parameters
    ----------
    peer : Peer
        The peer, as `read_peer` returns it.
    directory : UserDirectory
        The database of names and groups.
    """

    def __init__(self, peer: Peer, directory: UserDirectory) -> None:
        self.peer = peer
        # Whether the peer sent a request before the reply to its previous request.
        self.is_pipelining = False
        self._directory = directory
        # The owner and root have all rights, so they are not looked up.
        self._valid_until = float("inf") if peer.uid in {0, os.geteuid()} else 0.0

    @property
    def known(self) -> Peer | None:
        """The peer; None if the last look-up has expired."""
        return self.peer if time.monotonic() < self._valid_until else None

    async def identify(self) -> Peer:
        """Return the peer, looked up if the last result has expired.

        Raises
        ------
        RefusedError
            If the look-up fails.
        """
        if self.known is None:
            self.peer = await self._directory.complete(self.peer)
            self._valid_until = time.monotonic() + self._directory.expiry_s
        return self.peer
