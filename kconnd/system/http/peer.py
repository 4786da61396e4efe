"""Identify the peer of a Unix socket: uid and pid from Linux, name and groups from NSS.

Rules. The uid and pid are those at the time of the connection, and reading them is cheap. Names and
groups come from the system's user database, which may be a remote server. Each look-up runs in a
thread of its own. The number of threads and the waiting time are limited, and results expire. A
peer whose look-up fails is refused. The owner and root have all rights, so their names and groups
are not looked up.
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
from typing import Generic, TypeVar

from kconnd.core.access import Peer
from kconnd.errors import RefusedError
from kconnd.system.hung_calls import ThreadPerCallExecutor

EXPIRY_S = 10.0  # the lifetime of a look-up's result
LOOKUP_LIMIT_S = 5.0
MAX_LOOKUPS = 4  # concurrent look-ups by uid, and as many by name; further look-ups wait
MAX_NAMES = 64  # for all peers together: names that are being looked up or wait for a look-up
MAX_SHOWN_CHARACTERS = 100  # an error truncates a name to this length

_CREDENTIALS = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid

Identity = tuple[str, frozenset[str]]  # name and groups
Key = TypeVar("Key", bound=int | str)
Value = TypeVar("Value")


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
    """Look up a user's name and groups without a time limit; both are empty for an unknown uid.

    Raises
    ------
    OSError
        If the name is not UTF-8: it could not be sent to clients, nor looked up.
    """
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return "", frozenset()
    if not is_utf8(user.pw_name):
        raise OSError(
            f"the login name of uid {uid} is not UTF-8: {user.pw_name!a}; rename the account "
            "(usermod -l)"
        )
    groups = []
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        with contextlib.suppress(KeyError):  # a group without a name has no grants
            groups.append(grp.getgrgid(gid).gr_name)
    return user.pw_name, frozenset(groups)


def is_utf8(name: str) -> bool:
    """Return whether a name from the user database was UTF-8 there (PEP 383)."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _find_uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError means that the text is not a valid name
        return None


def user_as_peer(uid: int, pid: int = 0) -> Peer:
    """Look up a user's name and groups without a time limit, and return the user as a peer."""
    return Peer(uid, pid, *look_up_user(uid))


class Lookups(Generic[Key, Value]):
    """Look-ups in threads, a few at a time. All callers with the same key share one look-up.

    A look-up can continue long after the clients that wait for it have disconnected.

    Parameters
    ----------
    look_up : callable
        A function that returns the value of a key, or raises OSError.
    """

    def __init__(self, look_up: Callable[[Key], Value]) -> None:
        self._look_up = look_up
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)
        self._threads = ThreadPerCallExecutor()  # the exit of the process does not wait for them
        self.tasks: dict[Key, asyncio.Task[Value]] = {}

    def task(self, key: Key) -> "asyncio.Task[Value]":
        """Return the task that looks up a key; create the task if there is none for this key."""
        if key not in self.tasks:
            task = asyncio.get_running_loop().create_task(self._run(key))
            task.add_done_callback(lambda done: self._remove(key, done))
            self.tasks[key] = task
        return self.tasks[key]

    def _remove(self, key: Key, task: "asyncio.Task[Value]") -> None:
        del self.tasks[key]
        if not task.cancelled():
            task.exception()  # the waiting clients have received it

    async def _run(self, key: Key) -> Value:
        async with self._slots:
            return await asyncio.wrap_future(self._threads.submit(self._look_up, key))


class UserDirectory:
    """The system's database of users and groups, with limits on time and threads.

    Parameters
    ----------
    look_up : callable
        A function that returns a uid's name and groups, or raises OSError.
    limit_s : float
        The time limit of a look-up, in seconds.
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
        self._limit_s = limit_s
        # A client can send any number of names. Look-ups of names therefore have their own slots,
        # so that look-ups of uids do not wait for them.
        self._identities, self._uids = Lookups(look_up), Lookups(find_uid)

    async def complete(self, peer: Peer) -> Peer:
        """Return a copy of a peer with its name and groups.

        Raises
        ------
        RefusedError
            If the look-up fails or times out.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                name, groups = await asyncio.shield(self._identities.task(peer.uid))
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
            If the look-up fails or times out, or if too many other names are being looked up.
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
        if name not in self._uids.tasks and len(self._uids.tasks) >= MAX_NAMES:
            raise RefusedError(
                f"looking up the user {name[:MAX_SHOWN_CHARACTERS]!a} failed: {MAX_NAMES} "
                "names are being looked up already",
                hint="try again in a moment, or use the uid, as 'id -u NAME' prints it",
            )
        return self._uids.task(name)


class Caller:
    """The peer of one connection.

    Its name and groups are looked up at the first request; if they have expired, the next request
    looks them up again.

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
        # The owner and root have all rights, so their names and groups are not looked up.
        self._valid_until = float("inf") if peer.uid in {0, os.geteuid()} else 0.0

    @property
    def known(self) -> Peer | None:
        """The peer with its name and groups; None if they have expired."""
        return self.peer if time.monotonic() < self._valid_until else None

    async def identify(self) -> Peer:
        """Return the peer with its name and groups; look them up if they have expired.

        Raises
        ------
        RefusedError
            If the look-up fails.
        """
        if self.known is None:
            self.peer = await self._directory.complete(self.peer)
            self._valid_until = time.monotonic() + self._directory.expiry_s
        return self.peer
