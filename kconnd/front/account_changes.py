"""Sees to it that what is kept for a uid belongs to the account that has the uid now.

The front door asks before it opens an owner's socket or starts a daemon, when ``/etc/passwd``
changes, and once a minute, since not every account is in that file. Where the uid has gone to
another account, ``kconnd-aside@UID.service`` stops the daemon, which ends no kernel, and moves what
is there (see `kconnd.system.files.account_files`). The front door itself has no rights for that.

A uid without an account changes nothing: a database of users that is not reachable for a while
looks the same.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kconnd.core.access import Peer
from kconnd.core.account_history import ROOT_UID, Account, is_usable, number_in
from kconnd.core.paths import KERNEL_UNIT
from kconnd.errors import KconndError, RefusedError
from kconnd.system.files.account_files import AccountFiles, Aside
from kconnd.system.files.watcher import Folders
from kconnd.system.http.peer import Directory
from kconnd.system.process.processes import processes_of
from kconnd.system.systemd.unit_control import Systemd

CHECK_INTERVAL_S = 60.0
START_LIMIT_S = 20.0  # for all uids, before the front door is ready
COUNT_INTERVAL_S = 5.0
MAX_UID_DIGITS = 10
PASSWD = Path("/etc/passwd")

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class Remains:
    """What there is of an earlier account.

    Parameters
    ----------
    aside : Aside
        What was put aside.
    units : list of str
        Its kernels' units that run.
    pids : list of int
        All processes of its uid that are older than that.
    """

    aside: Aside
    units: list[str]
    pids: list[int]


class Accounts:
    """The accounts that what is kept by uid belongs to.

    Parameters
    ----------
    systemd : Systemd
        Runs what puts things aside.
    files : AccountFiles
        What is remembered.
    directory : Directory, optional
        The system's database of users.
    """

    def __init__(
        self, systemd: Systemd, files: AccountFiles, directory: Directory | None = None
    ) -> None:
        self._systemd, self.files = systemd, files
        self._directory = directory or Directory()
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._counting = asyncio.Lock()
        self._counted: dict[Aside, tuple[float, list[int]]] = {}

    async def look_up(self, uid: int) -> Peer:
        """Look up the user that has a uid now; without a name where there is none.

        Raises
        ------
        RefusedError
            If the database does not answer in time.
        """
        return await self._directory.complete(Peer(uid, 0))

    async def name_of(self, uid: int) -> str:
        """Look up the name alone; see `look_up`."""
        return (await self.look_up(uid)).name

    async def find(self, name: str) -> int | None:
        """Find the uid of a user by name or number; None where there is no such user.

        Raises
        ------
        RefusedError
            If the database does not answer in time.
        """
        if not (name.isascii() and name.isdecimal()):
            return await self._directory.uid_of(name)
        uid = int(name) if len(name) <= MAX_UID_DIGITS else -1
        return uid if is_usable(uid) and await self.name_of(uid) else None

    async def settle(self, uid: int, name: str = "") -> Account:
        """Put aside what an earlier account of a uid left, and give the one that has it now.

        Parameters
        ----------
        uid : int
            Whose daemon is about to be reached.
        name : str
            The name that the system's database has for it, where that was asked just now.

        Raises
        ------
        KconndError
            If that failed: nobody is to reach what is there.
        """
        if uid == ROOT_UID:
            return Account("root")
        name = name or await self.name_of(uid)
        async with self._turns[uid]:
            known = self.files.read(uid)
            if not name:
                return known or Account(str(uid))
            account = self.files.follow(uid, name)
            if account == known:
                return known
            if known is not None:
                await self._put_aside(uid, known, account)
            self._remember(uid, account, known)
            return account

    def _remember(self, uid: int, account: Account, known: Account | None) -> None:
        """Write whose a uid is; of the first account that is not needed to serve it.

        Raises
        ------
        KconndError
            If that of a later one cannot be written: it would be put aside as the first one's.
        """
        try:
            self.files.write(uid, account)
        except OSError as error:
            what = f"writing down that uid {uid} is {account.name}: {error.strerror}"
            if known is not None:
                raise KconndError(what, hint="see whether the disk is full or read-only") from error
            log.warning("%s", what)

    def expect(self, uid: int, name: str) -> Account:
        """Give the account of a uid whose daemon runs.

        Raises
        ------
        RefusedError
            If the daemon was an earlier account's.
        """
        if uid == ROOT_UID:
            return Account("root")
        account, known = self.files.follow(uid, name), self.files.read(uid)
        if known is None:
            self._remember(uid, account, known)
        elif account != known:
            raise RefusedError(
                f"the daemon of uid {uid} is of the account {known.name}, which has gone",
                hint=f"uid {uid} is {name} now; kconnd-ctl list starts {name}'s own daemon",
            )
        return account

    async def _put_aside(self, uid: int, known: Account, account: Account) -> None:
        await self._systemd.complete(f"kconnd-aside@{uid}.service")
        kernels = await self.live_kernels(uid, known.number)
        pids = await asyncio.to_thread(processes_of, uid, time.time())
        log.warning(
            "uid %d was the account %s and is %s now: what was kept for %s is put aside in %s; "
            "%d processes run on as uid %d, kernels among them: %s",
            *(uid, known.name, account.name, known.name, self.files.aside),
            *(len(pids), uid, ", ".join(kernels) or "none in a unit"),
            extra={"KCONND_EVENT": "put-aside", "KCONND_UID": uid, "KCONND_OWNER": known.name},
        )

    async def live_kernels(self, uid: int, number: int) -> list[str]:
        """List the units of one account's kernels that run."""
        units = await self._systemd.taken(f"{KERNEL_UNIT}{uid}-*")
        return sorted(unit for unit in units if number_in(unit) == number)

    async def asides(self, uid: int | None = None) -> list[Remains]:
        """List what is put aside, of one uid or of all, with what of it still runs."""
        found = [aside for aside in self.files.list_aside() if uid in {None, aside.uid}]
        return [await self._remains(aside) for aside in found]

    async def _remains(self, aside: Aside) -> Remains:
        units = await self.live_kernels(aside.uid, aside.number)
        return Remains(aside, units, await self._older_processes(aside))

    async def _older_processes(self, aside: Aside) -> list[int]:
        """List processes, one list at a time and not often: it takes a look at all there are."""
        clock = asyncio.get_running_loop().time
        async with self._counting:
            at, pids = self._counted.get(aside, (-math.inf, []))
            if clock() - at >= COUNT_INTERVAL_S:
                before = datetime.fromisoformat(aside.at).timestamp()
                pids = await asyncio.to_thread(processes_of, aside.uid, before)
                self._counted[aside] = clock(), pids
            return pids

    async def settle_all(self) -> None:
        """Do it for every uid that something is kept for."""
        try:
            uids = self.files.uids()
        except OSError as error:
            log.warning("listing whose uids are known: %s", error)
            return
        await asyncio.gather(*(self._settle_if_known(uid) for uid in uids))

    async def _settle_if_known(self, uid: int) -> None:
        try:
            await self.settle(uid)
        except RefusedError:
            pass  # who it is cannot be told now
        except (KconndError, OSError) as error:
            log.warning("checking whose uid %d is: %s", uid, error)

    async def settle_first(self) -> None:
        """Do it before anything starts, but not for ever: a database of users may not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT_S):
                await self.settle_all()

    async def watch(self) -> None:
        """Do it whenever the accounts of this machine have changed, and once a minute."""
        with Folders([PASSWD.parent], lambda name: name == PASSWD.name) as folders:
            while True:
                folders.look()
                await self.settle_all()
                await folders.changed(CHECK_INTERVAL_S)
