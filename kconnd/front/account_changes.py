"""Detects that a uid was reassigned to another account, and puts the earlier account's files aside.

kconnd names the files of a user by uid, and a uid can be reassigned after its account is deleted.
`Accounts.settle` compares the account of the files with the present account of the uid. If the
accounts differ, `Accounts.settle` starts ``kconnd-aside@UID.service``. This service stops the uid's
daemon and moves the files (see `kconnd.system.files.account_files`); kernels keep running. The
front door itself has no right to move the files.

The front door calls `Accounts.settle` for a uid before it starts the uid's daemon or returns the
path of the daemon's socket. It also calls `Accounts.settle` for all uids after each change of
``/etc/passwd``, and once a minute, because some accounts are not in this file.

If a uid has no account at present, its files stay: the account may be deleted, or the user database
may be unreachable.
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
from kconnd.core.account_history import ROOT_UID, Account, account_number, is_usable_uid
from kconnd.core.paths import KERNEL_UNIT_PREFIX
from kconnd.errors import KconndError, RefusedError
from kconnd.system.files.account_files import AccountFiles, Aside
from kconnd.system.files.watcher import FolderWatcher
from kconnd.system.http.peer import UserDirectory
from kconnd.system.process.processes import user_processes
from kconnd.system.systemd.unit_control import Systemd

CHECK_INTERVAL_S = 60.0
START_TIMEOUT_S = 20.0  # for all uids together, before the front door is ready
MIN_SCAN_INTERVAL_S = 5.0  # between two scans of /proc for an earlier account
MAX_UID_DIGITS = 10
PASSWD = Path("/etc/passwd")

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class EarlierAccount:
    """The files of an earlier account of a uid, and the account's running processes.

    Parameters
    ----------
    aside : Aside
        The description of the files that were put aside.
    units : list of str
        The active units of the account's kernels.
    pids : list of int
        All processes of the uid that were started before the files were moved.
    """

    aside: Aside
    units: list[str]
    pids: list[int]


class Accounts:
    """Maps each uid to the account that owns the uid's files.

    Parameters
    ----------
    systemd : Systemd
        The service manager, which starts the service that puts files aside.
    files : AccountFiles
        The files that record the account of each uid.
    directory : Directory, optional
        The system's user database.
    """

    def __init__(
        self, systemd: Systemd, files: AccountFiles, directory: UserDirectory | None = None
    ) -> None:
        self._systemd, self.files = systemd, files
        self._directory = directory or UserDirectory()
        self._uid_locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._scan_lock = asyncio.Lock()
        # The time of the last scan, and the pids that it found.
        self._scans: dict[Aside, tuple[float, list[int]]] = {}

    async def look_up(self, uid: int) -> Peer:
        """Look up the user who has a uid now; if there is no such user, the result's name is empty.

        Raises
        ------
        RefusedError
            If the user database does not answer in time.
        """
        return await self._directory.complete(Peer(uid, 0))

    async def name_of(self, uid: int) -> str:
        """Look up the name of the user who has a uid now; see `look_up`."""
        return (await self.look_up(uid)).name

    async def find(self, name: str) -> int | None:
        """Find the uid of a user by name or number; None if there is no such user.

        Raises
        ------
        RefusedError
            If the user database does not answer in time.
        """
        if not (name.isascii() and name.isdecimal()):
            return await self._directory.uid_of(name)
        uid = int(name) if len(name) <= MAX_UID_DIGITS else -1
        return uid if is_usable_uid(uid) and await self.name_of(uid) else None

    async def settle(self, uid: int, name: str = "") -> Account:
        """Put aside the files of an earlier account of a uid, and return the present account.

        Parameters
        ----------
        uid : int
            The uid of the owner whose daemon the front door is about to start or to make reachable.
        name : str
            The account's name, if the caller has just looked it up; ``""`` to look it up here.

        Raises
        ------
        KconndError
            If the files cannot be put aside. The caller must then give nobody access to the files.
        """
        if uid == ROOT_UID:
            return Account("root")
        name = name or await self.name_of(uid)
        async with self._uid_locks[uid]:
            recorded = self.files.read(uid)
            if not name:
                return recorded or Account(str(uid))
            account = self.files.current(uid, name)
            if account == recorded:
                return recorded
            if recorded is not None:
                await self._put_aside(uid, recorded, account)
            self._record(uid, account, recorded)
            return account

    def _record(self, uid: int, account: Account, recorded: Account | None) -> None:
        """Write the account of a uid to disk.

        If the write fails for the first account of a uid, the error is logged and not raised,
        because this account can be served without the record.

        Raises
        ------
        KconndError
            If a later account cannot be recorded. The files of the later account would then be
            treated as files of the earlier account.
        """
        try:
            self.files.write(uid, account)
        except OSError as error:
            message = f"recording that uid {uid} belongs to {account.name}: {error.strerror}"
            if recorded is not None:
                hint = "check whether the disk is full or read-only"
                raise KconndError(message, hint=hint) from error
            log.warning("%s", message)

    def expect(self, uid: int, name: str) -> Account:
        """Return the account of a uid whose daemon is running.

        Raises
        ------
        RefusedError
            If the daemon belongs to an earlier account of this uid.
        """
        if uid == ROOT_UID:
            return Account("root")
        account, recorded = self.files.current(uid, name), self.files.read(uid)
        if recorded is None:
            self._record(uid, account, recorded)
        elif account != recorded:
            raise RefusedError(
                f"the daemon of uid {uid} belongs to the deleted account {recorded.name}",
                hint=f"uid {uid} is {name} now; kconnd-ctl list starts a daemon for {name}",
            )
        return account

    async def _put_aside(self, uid: int, earlier: Account, account: Account) -> None:
        await self._systemd.run_to_completion(f"kconnd-aside@{uid}.service")
        kernels = await self.live_kernels(uid, earlier.number)
        pids = await asyncio.to_thread(user_processes, uid, time.time())
        log.warning(
            "uid %d was the account %s and is %s now: the files of %s are put aside in %s; "
            "%d processes still run as uid %d; kernel units among them: %s",
            *(uid, earlier.name, account.name, earlier.name, self.files.aside),
            *(len(pids), uid, ", ".join(kernels) or "none"),
            extra={"KCONND_EVENT": "put-aside", "KCONND_UID": uid, "KCONND_OWNER": earlier.name},
        )

    async def live_kernels(self, uid: int, number: int) -> list[str]:
        """List the units of the running kernels of one account of a uid."""
        units = await self._systemd.list_up(f"{KERNEL_UNIT_PREFIX}{uid}-*")
        return sorted(unit for unit in units if account_number(unit) == number)

    async def list_earlier(self, uid: int | None = None) -> list[EarlierAccount]:
        """List the earlier accounts of one uid, or of all uids."""
        asides = [aside for aside in self.files.list_aside() if uid in {None, aside.uid}]
        return [await self._earlier_account(aside) for aside in asides]

    async def _earlier_account(self, aside: Aside) -> EarlierAccount:
        units = await self.live_kernels(aside.uid, aside.number)
        return EarlierAccount(aside, units, await self._older_processes(aside))

    async def _older_processes(self, aside: Aside) -> list[int]:
        """List the uid's processes that were started before the files were moved.

        A scan reads all of /proc. Scans therefore run one at a time, and results are cached.
        """
        clock = asyncio.get_running_loop().time
        async with self._scan_lock:
            scanned_at, pids = self._scans.get(aside, (-math.inf, []))
            if clock() - scanned_at >= MIN_SCAN_INTERVAL_S:
                moved_at = datetime.fromisoformat(aside.at).timestamp()
                pids = await asyncio.to_thread(user_processes, aside.uid, moved_at)
                self._scans[aside] = clock(), pids
            return pids

    async def settle_all(self) -> None:
        """Call `settle` for every uid that has files; log failures."""
        try:
            uids = self.files.uids()
        except OSError as error:
            log.warning("listing the uids for which files exist: %s", error)
            return
        await asyncio.gather(*(self._settle_if_possible(uid) for uid in uids))

    async def _settle_if_possible(self, uid: int) -> None:
        try:
            await self.settle(uid)
        except RefusedError:
            pass  # the user database does not answer; the next round tries again
        except (KconndError, OSError) as error:
            log.warning("checking which account uid %d belongs to: %s", uid, error)

    async def settle_at_start(self) -> None:
        """Call `settle` for all uids before any daemon starts; give up after `START_TIMEOUT_S`.

        The time limit lets the front door start even if the user database does not answer.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT_S):
                await self.settle_all()

    async def watch(self) -> None:
        """Call `settle` for all uids after each change of ``/etc/passwd``, and periodically."""
        with FolderWatcher([PASSWD.parent], lambda name: name == PASSWD.name) as folders:
            while True:
                folders.refresh()
                await self.settle_all()
                await folders.wait_for_change(CHECK_INTERVAL_S)
