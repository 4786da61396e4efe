"""Caches the machine's profiles and settings, which only root can write.

`MachineConfig` compares the present metadata of the profiles' files with the metadata at the last
read. If the metadata differ, `MachineConfig` waits until nobody has written to the folder for a
short time, and then reads the profiles again.
"""

import asyncio
import logging

from kconnd.core.profile.settings import MachineSettings
from kconnd.system.files.stamps import Marks, Settling, Stamp, stamp_folder
from kconnd.system.profiles.loader import LoadedProfiles, is_profile, load_profiles
from kconnd.system.profiles.settings_file import SETTLE_DELAY_S, LiveSettings

SETTLE_TIMEOUT_S = 5.0  # the longest wait for a pause in writes to the folder
POLL_INTERVAL_S = 0.02

log = logging.getLogger("kconnd")


class MachineConfig:
    """The machine's profiles and settings, which are read again after each change.

    Parameters
    ----------
    configs, settings : str
        The paths of the folder of profiles and of the settings file.
    uid : int
        The uid of the user who must own the files.

    Raises
    ------
    ProfileError
        If the settings are invalid when this object is created.
    """

    def __init__(self, configs: str, settings: str, *, uid: int = 0) -> None:
        self._configs, self._uid = configs, uid
        self._settings = LiveSettings(settings, uid=uid)
        self._settling = Settling()
        self._marks: Marks | None = None  # the marks of the last read
        self._refresh: asyncio.Task[None] | None = None
        self._profiles = LoadedProfiles({}, ())
        self.reload()

    async def profiles(self) -> LoadedProfiles:
        """Return the machine's profiles; wait while a profile is being written.

        A user's daemon may read a changed profile before the front door does. A kernel that this
        daemon then starts must not get the limits from before the change. If writes continue for
        `SETTLE_TIMEOUT_S`, the profiles of the last read stay in force.
        """
        if not self._read_if_settled():
            # All callers share one task, so only one task polls the folder.
            if self._refresh is None or self._refresh.done():
                self._refresh = asyncio.create_task(self._wait_until_settled())
            await asyncio.shield(self._refresh)
        return self._profiles

    async def _wait_until_settled(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while not self._read_if_settled():  # noqa: ASYNC110  # quiet raises no event
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            log.warning(
                "the profiles in %s have been changing for %g s: the earlier ones stay in force",
                *(self._configs, SETTLE_TIMEOUT_S),
            )

    @property
    def settings(self) -> MachineSettings:
        """The machine's settings."""
        return self._settings.now()

    def reload(self) -> None:
        """Read profiles and settings at once, at the request of an administrator."""
        self._settings.reload()
        self._read(self._stamp())

    def _read_if_settled(self) -> bool:
        """Read changed profiles once their files are no longer being written.

        Return whether the cache is up to date.
        """
        stamp = self._stamp()
        if stamp.marks != self._marks and self._settling.is_settled(stamp, SETTLE_DELAY_S):
            self._read(stamp)
        return stamp.marks == self._marks

    def _stamp(self) -> Stamp:
        return stamp_folder(self._configs, is_profile)

    def _read(self, stamp: Stamp) -> None:
        self._profiles = load_profiles([self._configs], uid=self._uid)
        for fault in self._profiles.faults:
            log.warning("%s", fault)
        self._marks = stamp.marks
