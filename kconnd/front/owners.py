"""Opens sockets, starts daemons and starts kernels' units for owners, through systemd.

Rules. This module does not read a user's file or follow a user's path. A uid comes from the
system's user database or from the peer of a connection. The uid is the only variable part in the
name of a daemon's unit.
"""

import asyncio
import logging
import os
import pwd
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import compress

from kconnd.core.access import Peer, Right, may
from kconnd.core.account_history import account_number, is_usable_uid
from kconnd.core.paths import owner_socket
from kconnd.core.profile.settings import admits
from kconnd.errors import KconndError, NoSuchKernelError, RefusedError
from kconnd.front.account_changes import Accounts
from kconnd.front.machine_config import MachineConfig
from kconnd.front.marks import Marks
from kconnd.front.memory_quota import Slices
from kconnd.system.systemd.systemd_version import read_version
from kconnd.system.systemd.unit_control import Systemd

log = logging.getLogger("kconnd")


class Owners:
    """The users of this machine who own kernels.

    Parameters
    ----------
    systemd : Systemd
        The service manager, which starts the daemons.
    boot : Marks
        The uids whose daemons start at boot.
    sharing : Marks
        The uids whose owners share kernels by profiles of their own.
    machine : MachineConfig
        The machine's profiles and settings.
    slices : Slices
        The slices, to which the memory quota is applied.
    accounts : Accounts
        The accounts of the uids.
    """

    def __init__(
        self,
        systemd: Systemd,
        boot: Marks,
        sharing: Marks,
        machine: MachineConfig,
        slices: Slices,
        accounts: Accounts,
    ) -> None:
        self.systemd = systemd
        self.accounts = accounts
        self.machine = machine
        self.boot, self.sharing = boot, sharing
        self._boot_profiles: dict[str, str] = {}  # the users of profiles that are known, by name
        self._slices = slices
        self._uid_locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._version = 0

    async def systemd_version(self) -> int:
        """Return the version of the running service manager; 0 if it does not answer."""
        self._version = self._version or await read_version()
        return self._version

    async def find(self, name: str) -> int:
        """Find the uid of a user, who is given by name or number.

        Raises
        ------
        NoSuchKernelError
            If there is no such user.
        RefusedError
            If the user database does not answer in time.
        """
        uid = await self.accounts.find(name)
        if uid is None:
            raise NoSuchKernelError(
                f"there is no user {name!r} on this machine", hint="kernels are named OWNER/NAME"
            )
        return uid

    async def open(self, uid: int, peer: Peer) -> str:
        """Let systemd listen on the socket of a user's daemon; return the path of the socket.

        Raises
        ------
        RefusedError
            If the peer may not start the daemon of another user, or if systemd cannot run processes
            as ``uid``.
        """
        if not is_usable_uid(uid):
            raise RefusedError(
                f"uid {uid} cannot have a daemon: systemd does not accept it as a user's uid",
                hint="give the account another uid (usermod -u)",
            )
        unit = f"kconnd@{uid}.socket"
        may_start = (
            may(peer, Right.MANAGE, owner=uid) or uid in await self._users_of_machine_profiles()
        )
        if not may_start and not await self.systemd.is_active(unit):
            raise RefusedError(
                f"uid {peer.uid} may not start the daemon of uid {uid}",
                hint="ask its owner to start it, with any kconnd-ctl command",
            )
        await self.accounts.settle(uid, peer.name if peer.uid == uid else "")
        if not os.path.exists(owner_socket(uid)):  # noqa: ASYNC240, PTH110  # a stat of /run
            await self.limit_memory([uid])
            await self.systemd.start(unit)
            log.info("opened the socket of uid %d for uid %d, pid %d", uid, peer.uid, peer.pid)
        return owner_socket(uid)

    async def start_at_boot(self) -> int:
        """Start the daemons of users with kernels that start at boot; return their number."""
        self._boot_profiles = await self._find_boot_profiles()
        uids = self.boot.uids() | {*_uids(set(self._boot_profiles.values()))}
        return await self._start_admitted(sorted(uids))

    async def start_for_new_profiles(self) -> int:
        """Start the daemons of users who got a profile of the machine for boot meanwhile.

        The daemon starts the kernel. A user who has stopped the daemon of an earlier profile is not
        affected.
        """
        known, self._boot_profiles = self._boot_profiles, await self._find_boot_profiles()
        users = {user for name, user in self._boot_profiles.items() if known.get(name) != user}
        return await self._start_admitted(sorted(set(_uids(users))))

    async def _start_admitted(self, uids: Sequence[int]) -> int:
        admitted = await asyncio.gather(*(self._is_admitted(uid) for uid in uids))
        admitted_uids = [*compress(uids, admitted)]
        await asyncio.gather(*(self._start(uid) for uid in admitted_uids))
        return len(admitted_uids)

    async def _find_boot_profiles(self) -> dict[str, str]:
        """Return the users of the machine's profiles for boot, by the name of the profile."""
        loaded = (await self.machine.profiles()).profiles
        profiles = {name: entry.profile for name, entry in loaded.items()}
        return {
            name: profile.user
            for name, profile in profiles.items()
            if profile.user and profile.start == "boot"
        }

    async def _is_admitted(self, uid: int) -> bool:
        """Return whether the account of a uid may use the service; if not, log the reason."""
        try:
            user = await self.accounts.look_up(uid)
        except RefusedError as error:
            log.error("starting the daemon of uid %d: %s", uid, error)
            return False
        if user.name and not admits(self.machine.settings, user):
            log.warning(
                "not starting the daemon of uid %d, which has kernels that start at boot: "
                "this user may not use kconnd",
                uid,
            )
            return False
        return bool(user.name)

    async def _start(self, uid: int) -> None:
        try:
            await self.accounts.settle(uid)
            await self.limit_memory([uid])
            await self.systemd.start(f"kconnd@{uid}.socket")
            await self.systemd.start(f"kconnd@{uid}.service")
        except KconndError as error:
            log.error("starting the daemon of uid %d: %s", uid, error)

    async def make_unit(
        self,
        uid: int,
        unit: str,
        properties: list[list[object]],
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Start a kernel's unit if the owner's quota allows another kernel.

        Requests of one owner run one after another, so that each request counts the units of
        earlier requests. ``check`` is called immediately before the unit is started. ``check``
        raises an error if the request became invalid while earlier requests ran.

        Raises
        ------
        RefusedError
            If the owner has reached the quota of kernels.
        """
        async with self._uid_locks[uid]:
            max_kernels = self.machine.settings.quotas.kernels
            if max_kernels is not None:
                units = {*await self.accounts.live_kernels(uid, account_number(unit))} - {unit}
                check_quota(uid, len(units), max_kernels)
            await self.limit_memory([uid])
            check()
            await self.systemd.start_transient(unit, properties)

    async def limit_memory(self, uids: Iterable[int] | None = None) -> None:
        """Apply the memory quota to the slices of these owners or, by default, of all owners."""
        quota = self.machine.settings.quotas.memory
        for uid in await self._slices.uids() if uids is None else uids:
            await self._slices.limit(uid, quota)

    async def active_uids(self) -> list[int]:
        """List the uids whose daemons are running."""
        units = await self.systemd.list_active("kconnd@*.service")
        numbers = (unit.removeprefix("kconnd@").removesuffix(".service") for unit in units)
        return sorted(int(number) for number in numbers if number.isdecimal())

    async def sharing_uids(self) -> list[int]:
        """List the uids that are marked as sharing and whose daemons are running."""
        marked = self.sharing.uids()
        return [uid for uid in await self.active_uids() if uid in marked] if marked else []

    async def _users_of_machine_profiles(self) -> set[int]:
        """Return the uids of the users that the machine's profiles name."""
        loaded = (await self.machine.profiles()).profiles.values()
        return set(_uids({entry.profile.user for entry in loaded if entry.profile.user}))


def check_quota(uid: int, count: int, max_kernels: int) -> None:
    """Refuse another kernel to an owner who has reached the quota.

    Raises
    ------
    RefusedError
        If the owner has reached the quota.
    """
    if count >= max_kernels:
        raise RefusedError(
            f"uid {uid} has {count} kernels, and may have {max_kernels}",
            hint="stop a kernel, or ask an administrator for more (quotas in kconnd.yaml)",
        )


def _uids(users: Iterable[str]) -> Iterable[int]:
    for user in users:
        try:
            yield pwd.getpwnam(user).pw_uid
        except KeyError:
            log.warning("a profile of the machine names the user %s, who does not exist", user)
