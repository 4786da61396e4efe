"""Who is on the other end of a Unix socket, as the operating system says.

Rules. The uid and pid are those at the time of connecting, and cost nothing to read. Name and
groups come from the system's database, which may be a server far away: it is asked in threads
of its own, few at once and for a limited time, and again once what it said is old. Without an
answer the peer is refused. Who may do anything anyhow is never looked up.
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

FRESH = 10.0  # seconds that a look-up is good for
PATIENCE = 5.0  # seconds that a look-up may take
LOOKUPS = 4  # at once, by uid and by name each; the rest waits
MAX_NAMES = 64  # that are looked up or wait for it, of all who ask

_CREDENTIALS = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid

Identity = tuple[str, frozenset[str]]  # name and groups


def read_peer(connection: socket.socket) -> Peer:
    """Read the peer's uid and pid (SO_PEERCRED), those at the time it connected.

    Raises
    ------
    OSError
        If the socket has none; such a peer gets no answer.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(uid=uid, pid=pid)


def look_up(uid: int) -> Identity:
    """Look up a user's name and groups, as long as it takes; nothing for a uid without a name."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return "", frozenset()
    found = []
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        with contextlib.suppress(KeyError):  # one without a name cannot be granted anything
            found.append(grp.getgrgid(gid).gr_name)
    return user.pw_name, frozenset(found)


def _find_uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # the latter for what cannot be a name
        return None


def user_as_peer(uid: int, pid: int = 0) -> Peer:
    """Give a user with name and groups, looked up here and now."""
    return Peer(uid, pid, *look_up(uid))


class Directory:
    """The system's database of users and groups, bounded in time and threads.

    Parameters
    ----------
    look_up : callable
        Gives a uid's name and groups, or raises OSError.
    patience : float
        Seconds that it has for it.
    fresh : float
        Seconds that what it said is good for.
    find_uid : callable
        Gives the uid of a name, None where there is no such user, or raises OSError.
    """

    def __init__(
        self,
        look_up: Callable[[int], Identity] = look_up,
        patience: float = PATIENCE,
        fresh: float = FRESH,
        find_uid: Callable[[str], int | None] = _find_uid,
    ) -> None:
        self.fresh = fresh
        self._look_up, self._find_uid, self._patience = look_up, find_uid, patience
        self._slots = asyncio.Semaphore(LOOKUPS)
        self._name_slots = asyncio.Semaphore(LOOKUPS)  # names that anybody thinks up
        self._threads = ThreadPerCallExecutor()  # nothing waits for one that hangs
        self._asked: dict[int, asyncio.Task[Identity]] = {}  # one at once for each user
        # One at once for each name, until it ends: long after who asked has gone, maybe.
        self._finding: dict[str, asyncio.Task[int | None]] = {}

    async def complete(self, peer: Peer) -> Peer:
        """Add name and groups to what is known of a peer.

        Raises
        ------
        RefusedError
            If they cannot be looked up in time.
        """
        try:
            async with asyncio.timeout(self._patience):
                name, groups = await asyncio.shield(self._ask(peer.uid))
        except (TimeoutError, OSError) as error:
            raise RefusedError(
                f"nobody can tell now who uid {peer.uid} is: looking it up failed",
                hint=f"ask again in a moment; 'id {peer.uid}' shows whether the system can tell",
            ) from error
        return replace(peer, name=name, groups=groups)

    async def uid_of(self, name: str) -> int | None:
        """Look up the uid of a user; None where there is no such user.

        Raises
        ------
        RefusedError
            If it cannot be looked up in time, or too many names wait for that.
        """
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(self._ask_for_name(name))
        except (TimeoutError, OSError) as error:
            raise RefusedError(
                f"nobody can tell now who {name[:100]!a} is: looking it up failed",
                hint="ask again in a moment",
            ) from error

    def _ask_for_name(self, name: str) -> "asyncio.Task[int | None]":
        if name not in self._finding:
            if len(self._finding) >= MAX_NAMES:
                raise RefusedError(
                    f"nobody can tell now who {name[:100]!a} is: {MAX_NAMES} names of users are "
                    "being looked up already",
                    hint="ask again in a moment, or by uid, as 'id -u NAME' prints it",
                )
            task = asyncio.get_running_loop().create_task(self._find(name))
            task.add_done_callback(lambda done: self._forget_name(name, done))
            self._finding[name] = task
        return self._finding[name]

    def _forget_name(self, name: str, task: "asyncio.Task[int | None]") -> None:
        del self._finding[name]
        if not task.cancelled():
            task.exception()  # whoever waited has been told

    async def _find(self, name: str) -> int | None:
        async with self._name_slots:
            return await asyncio.wrap_future(self._threads.submit(self._find_uid, name))

    def _ask(self, uid: int) -> "asyncio.Task[Identity]":
        if uid not in self._asked:
            task = asyncio.get_running_loop().create_task(self._answer(uid))
            task.add_done_callback(lambda done: self._forget(uid, done))
            self._asked[uid] = task
        return self._asked[uid]

    def _forget(self, uid: int, task: "asyncio.Task[Identity]") -> None:
        del self._asked[uid]
        if not task.cancelled():
            task.exception()  # whoever waited has been told

    async def _answer(self, uid: int) -> Identity:
        async with self._slots:
            return await asyncio.wrap_future(self._threads.submit(self._look_up, uid))


class Caller:
    """The peer of one connection, looked up when it asks something and again in a while.

    Parameters
    ----------
    peer : Peer
        As `read_peer` gives it.
    """

    def __init__(self, peer: Peer, directory: Directory) -> None:
        self.peer = peer
        self.is_pipelining = False  # it sent a request before it had the answer to the last
        self._directory = directory
        # The owner and root may do anything: they do not depend on a database.
        self._good_until = float("inf") if peer.uid in {0, os.geteuid()} else 0.0

    @property
    def known(self) -> Peer | None:
        """Who it is, where the last look-up is not old; else None."""
        return self.peer if time.monotonic() < self._good_until else None

    async def identify(self) -> Peer:
        """Tell who it is, by a look-up that is not old.

        Raises
        ------
        RefusedError
            If it cannot be looked up.
        """
        if self.known is None:
            self.peer = await self._directory.complete(self.peer)
            self._good_until = time.monotonic() + self._directory.fresh
        return self.peer
