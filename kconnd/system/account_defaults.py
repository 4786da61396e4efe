"""What a kernel inherits if no client of its owner has sent a session: PATH and umask.

This is the case for a start at boot of a kernel that no client has ever started, for a start by
another user, and for clients of older versions.

PATH is that of the owner's login shell. The shell is asked at the first launch that needs it, in a
thread, and once per daemon. The umask is that of the owner's service manager (``systemd --user``),
for which PAM has opened a session; without a manager, it is the umask with which the daemon was
started. The front door starts daemons without PAM, so this is then the ``UMask=`` of the service.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from kconnd.core.launch.plan import DEFAULT_UMASK, SYSTEM_PATH
from kconnd.core.launch.session import Umask, UmaskSource
from kconnd.errors import KconndError

CGROUPS = Path("/sys/fs/cgroup")
HIERARCHIES = ("", "systemd", "unified")  # of cgroup v2, and of v1 (systemd(1))
NO_UMASK = Umask(DEFAULT_UMASK, UmaskSource.DAEMON)

log = logging.getLogger("kconnd")


class AccountDefaults:
    """PATH and umask of an owner's account.

    Parameters
    ----------
    ask_path : callable
        A function that returns the PATH of the owner's login shell, or raises OSError.
    find_umask : callable
        A function that returns the umask of the account.
    """

    def __init__(
        self,
        ask_path: Callable[[], str] = lambda: SYSTEM_PATH,
        find_umask: Callable[[], Umask] = lambda: NO_UMASK,
    ) -> None:
        self._ask_path = ask_path
        self.umask = find_umask
        self._task: asyncio.Task[str] | None = None

    async def path(self) -> str:
        """Return the PATH of the owner's login shell; the system's PATH if it does not tell."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._path())
        return await asyncio.shield(self._task)

    async def _path(self) -> str:
        try:
            return await asyncio.to_thread(self._ask_path)
        except (OSError, KconndError) as error:
            log.warning("asking the login shell for PATH: %s; using %s", error, SYSTEM_PATH)
            return SYSTEM_PATH


def find_umask(uid: int, inherited: int, cgroups: Path = CGROUPS) -> Umask:
    """Return the umask of a user's service manager, or else the one that the daemon inherited."""
    for pid in _manager_processes(uid, cgroups):
        umask = read_umask(pid)
        if umask is not None:
            return Umask(umask, UmaskSource.ACCOUNT)
    return Umask(inherited, UmaskSource.DAEMON)


def _manager_processes(uid: int, cgroups: Path) -> list[int]:
    """Return the processes of a user's service manager; empty if there is none."""
    for hierarchy in HIERARCHIES:
        slice_ = cgroups / hierarchy / "user.slice" / f"user-{uid}.slice"
        try:
            text = (slice_ / f"user@{uid}.service/init.scope/cgroup.procs").read_text("ascii")
        except (OSError, ValueError):
            continue
        return [int(word) for word in text.split()]
    return []


def read_umask(pid: int) -> int | None:
    """Return the umask of a process (proc(5)); None if it has ended, or is hidden."""
    try:
        with Path(f"/proc/{pid}/status").open(encoding="utf-8", errors="replace") as status:
            line = next((line for line in status if line.startswith("Umask:")), "")
    except OSError:
        return None
    return int(line.split()[1], 8) if line else None
