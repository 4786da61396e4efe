"""Sees to it that what is kept for a uid belongs to the account that has the uid now.

The front door asks before it opens an owner's socket or starts a daemon, when ``/etc/passwd``
changes, and once a minute, since not every account is in that file. Where the uid has gone to
another account, ``kconnd-aside@UID.service`` stops the daemon, which ends no kernel, and moves
what is there (see `kconnd.system.account_files`). The front door itself has no rights for that.

A uid without an account changes nothing: a database of users that is not reachable for a while
looks the same.
"""

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kconnd.core.access import Peer
from kconnd.core.accounts import ROOT_UID, Account, is_usable, number_in
from kconnd.core.places import KERNEL_UNIT
from kconnd.errors import KconndError, RefusedError
from kconnd.system.account_files import AccountFiles, Aside
from kconnd.system.folders import Folders
from kconnd.system.peer import Directory
from kconnd.system.processes import processes_of
from kconnd.system.systemd import Systemd

CHECK_INTERVAL_S = 60.0
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

    async def name_of(self, uid: int) -> str:
        """Look up the name that a uid has now; empty where it has none.

        Raises
        ------
        RefusedError
            If the database does not answer in time.
        """
        return (await self._directory.complete(Peer(uid, 0))).name

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
            self.files.write(uid, account)
            return account

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
            self.files.write(uid, account)
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
        at = datetime.fromisoformat(aside.at).timestamp()
        pids = await asyncio.to_thread(processes_of, aside.uid, at)
        return Remains(aside, units, pids)

    async def settle_all(self) -> None:
        """Do it for every uid that something is kept for."""
        for uid in self.files.uids():
            try:
                await self.settle(uid)
            except RefusedError:
                continue  # who it is cannot be told now
            except KconndError as error:
                log.warning("checking whose uid %d is: %s", uid, error)

    async def watch(self) -> None:
        """Do it whenever the accounts of this machine have changed, and once a minute."""
        with Folders([PASSWD.parent], lambda name: name == PASSWD.name) as folders:
            while True:
                folders.look()
                await self.settle_all()
                await folders.changed(CHECK_INTERVAL_S)
