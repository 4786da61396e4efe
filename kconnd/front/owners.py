"""Whose daemons the front door starts: systemd makes their sockets and runs them as them.

Rules. Nothing here reads a file of a user or follows a path of theirs. A uid comes from the
system's user database or from the peer of a connection, and a unit's name is made of it alone.
"""

import asyncio
import logging
import os
import pwd
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from kconnd.core.access import Peer, Right, may
from kconnd.core.account_history import is_usable, number_in
from kconnd.core.paths import owner_socket
from kconnd.core.profile.settings import admits
from kconnd.errors import KconndError, NoSuchKernelError, RefusedError
from kconnd.front.account_changes import Accounts
from kconnd.front.machine_config import Machine
from kconnd.front.memory_quota import Slices
from kconnd.system.files.private import write_private
from kconnd.system.systemd.systemd_version import read_version
from kconnd.system.systemd.unit_control import Systemd

log = logging.getLogger("kconnd")


class Owners:
    """The users of this machine, as owners of kernels.

    Parameters
    ----------
    systemd : Systemd
        Starts their daemons.
    boot : Path
        Has an empty file for each uid whose daemon starts with the machine.
    machine : Machine
        What root has written for all.
    slices : Slices
        Hold what each may use of memory.
    accounts : Accounts
        Who each uid is.
    """

    def __init__(
        self, systemd: Systemd, boot: Path, machine: Machine, slices: Slices, accounts: Accounts
    ) -> None:
        self.systemd = systemd
        self.accounts = accounts
        self.machine = machine
        self._boot = boot
        self._slices = slices
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._version = 0

    async def systemd_version(self) -> int:
        """Give the version of the manager that runs; 0 as long as it does not say."""
        self._version = self._version or await read_version()
        return self._version

    async def find(self, name: str) -> int:
        """Find a user's uid by name or number.

        Raises
        ------
        NoSuchKernelError
            If there is no such user.
        RefusedError
            If the system's database does not answer in time.
        """
        uid = await self.accounts.find(name)
        if uid is None:
            raise NoSuchKernelError(
                f"there is no user {name!r} on this machine", hint="kernels are named OWNER/NAME"
            )
        return uid

    async def open(self, uid: int, peer: Peer) -> str:
        """Make sure that a user's daemon can be reached, and give its socket.

        Raises
        ------
        RefusedError
            If the peer asks for somebody else's who shares nothing, or systemd runs nothing as
            this uid.
        """
        if not is_usable(uid):
            raise RefusedError(
                f"uid {uid} cannot have a daemon: systemd takes that number for no user",
                hint="give the account another one (usermod -u)",
            )
        unit = f"kconnd@{uid}.socket"
        theirs = may(peer, Right.MANAGE, owner=uid) or uid in await self._sharing()
        if not theirs and not await self.systemd.is_active(unit):
            raise RefusedError(
                f"uid {peer.uid} may not start the daemon of uid {uid}",
                hint="its owner has to start it first",
            )
        await self.accounts.settle(uid, peer.name if peer.uid == uid else "")
        if not os.path.exists(owner_socket(uid)):  # noqa: ASYNC240, PTH110  # a stat of /run
            await self.limit_memory([uid])
            await self.systemd.start(unit)
            log.info("opened the socket of uid %d for uid %d, pid %d", uid, peer.uid, peer.pid)
        return owner_socket(uid)

    def want_boot(self, uid: int, *, wanted: bool) -> None:
        """Note whether a user's daemon is to start with the machine."""
        mark = self._boot / str(uid)
        if wanted:
            write_private(mark, b"", durable=True)
        else:
            mark.unlink(missing_ok=True)

    async def start_at_boot(self) -> int:
        """Start the daemons that have kernels to start; gives how many."""
        marked = {int(path.name) for path in self._boot.iterdir() if path.name.isdecimal()}
        sharing = await self._sharing(boot=True)
        uids = sorted(marked | sharing)
        rights = await asyncio.gather(*(self._has_right(uid) for uid in uids))
        wanted = [uid for uid, right in zip(uids, rights, strict=True) if right]
        await asyncio.gather(*(self._start(uid) for uid in wanted))
        return len(wanted)

    async def _has_right(self, uid: int) -> bool:
        """Tell whether a uid is a user's who may use the service."""
        try:
            user = await self.accounts.look_up(uid)
        except RefusedError as error:
            log.error("starting the daemon of uid %d: %s", uid, error)  # noqa: TRY400
            return False
        if user.name and not admits(self.machine.settings, user):
            log.warning("uid %d has kernels to start at boot, and may not use kconnd", uid)
            return False
        return bool(user.name)

    async def _start(self, uid: int) -> None:
        try:
            await self.accounts.settle(uid)
            await self.limit_memory([uid])
            await self.systemd.start(f"kconnd@{uid}.socket")
            await self.systemd.start(f"kconnd@{uid}.service")
        except KconndError as error:
            log.error("starting the daemon of uid %d: %s", uid, error)  # noqa: TRY400

    async def make_unit(
        self,
        uid: int,
        unit: str,
        properties: list[list[object]],
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Run a kernel's unit, within what its owner may use.

        Of one owner's one at a time, so that none is counted before another is there. With
        ``check`` comes what may have changed while it waited.

        Raises
        ------
        RefusedError
            If the owner has as many kernels as one may have.
        """
        async with self._turns[uid]:
            most = self.machine.settings.quotas.kernels
            if most is not None:
                taken = {*await self.accounts.live_kernels(uid, number_in(unit))} - {unit}
                check_quota(uid, len(taken), most)
            await self.limit_memory([uid])
            check()
            await self.systemd.run(unit, properties)

    async def limit_memory(self, uids: Iterable[int] | None = None) -> None:
        """Give owners' slices what the settings say; without uids all that are there."""
        quota = self.machine.settings.quotas.memory
        for uid in await self._slices.there() if uids is None else uids:
            await self._slices.limit(uid, quota)

    async def active(self) -> list[int]:
        """List the uids whose daemons run now."""
        units = await self.systemd.active("kconnd@*.service")
        numbers = (unit.removeprefix("kconnd@").removesuffix(".service") for unit in units)
        return sorted(int(number) for number in numbers if number.isdecimal())

    async def _sharing(self, *, boot: bool = False) -> set[int]:
        """Give the uids whose kernels profiles of the machine share, or start with it."""
        profiles = (await self.machine.profiles()).profiles
        found = (one.profile for one in profiles.values())
        users = {one.user for one in found if one.user and (one.start == "boot" or not boot)}
        return set(_uids(users))


def check_quota(uid: int, count: int, most: int) -> None:
    """Refuse a further kernel to who has as many as one may have.

    Raises
    ------
    RefusedError
        If so.
    """
    if count >= most:
        raise RefusedError(
            f"uid {uid} has {count} kernels, and may have {most}",
            hint="stop one, or ask an administrator for more (quotas in kconnd.yaml)",
        )


def _uids(users: Iterable[str]) -> Iterable[int]:
    for user in users:
        try:
            yield pwd.getpwnam(user).pw_uid
        except KeyError:
            log.warning("a profile names the user %s, who does not exist", user)


def make_folder(path: Path) -> None:
    """Make a folder of marks, root's alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o777 != 0o700:  # noqa: PLR2004  # on a read-only disk it fails
        os.chmod(path, 0o700)  # noqa: PTH101  # follows no link: its parent is root's
