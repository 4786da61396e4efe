"""What root has written for the whole machine: profiles and settings, as they are now."""

import asyncio
import logging

from kconnd.core.profile.settings import Settings
from kconnd.system.files.stamps import Marks, Settling, Stamp, stamp_folder
from kconnd.system.profiles.loader import Loaded, is_profile, load_profiles
from kconnd.system.profiles.settings_file import QUIET, LiveSettings

AT_MOST = 5.0  # seconds after which what is being written without an end is waited for no more
GLANCE = 0.02  # seconds between looks

log = logging.getLogger("kconnd")


class Machine:
    """Reads them again when a file has changed and is left alone.

    Parameters
    ----------
    configs, settings : str
        The folder of profiles and the file of settings.
    uid : int
        Who has to have written them.

    Raises
    ------
    ProfileError
        If the settings have a fault and there are none before them.
    """

    def __init__(self, configs: str, settings: str, *, uid: int = 0) -> None:
        self._configs, self._uid = configs, uid
        self._settings = LiveSettings(settings, uid=uid)
        self._settling = Settling()
        self._seen: Marks | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._profiles = Loaded({}, ())
        self.reload()

    async def profiles(self) -> Loaded:
        """Give the profiles of the machine; of one that is being written, once that is done.

        A user's daemon may see a change a moment before we do, and its kernel is not to be
        confined by what was before. Where the writing does not end, that still holds.
        """
        if not self._is_up_to_date():
            if self._waiting is None or self._waiting.done():
                self._waiting = asyncio.create_task(self._wait_until_up_to_date())
            await asyncio.shield(self._waiting)
        return self._profiles

    async def _wait_until_up_to_date(self) -> None:
        """Wait for all who ask meanwhile, but not for ever."""
        try:
            async with asyncio.timeout(AT_MOST):
                while not self._is_up_to_date():  # noqa: ASYNC110  # no event tells of quiet
                    await asyncio.sleep(GLANCE)
        except TimeoutError:
            log.warning(
                "the profiles in %s are being written for %g s: those before hold until it ends",
                *(self._configs, AT_MOST),
            )

    @property
    def settings(self) -> Settings:
        """The settings of the machine."""
        return self._settings.now()

    def reload(self) -> None:
        """Read all at once, since somebody says that it is written."""
        self._settings.reload()
        self._read(self._stamp())

    def _is_up_to_date(self) -> bool:
        """Read them again where they have changed and rest; tell whether they are as on disk."""
        stamp = self._stamp()
        if stamp.marks != self._seen and self._settling.rests(stamp, QUIET):
            self._read(stamp)
        return stamp.marks == self._seen

    def _stamp(self) -> Stamp:
        return stamp_folder(self._configs, is_profile)

    def _read(self, stamp: Stamp) -> None:
        self._profiles = load_profiles([self._configs], uid=self._uid)
        for fault in self._profiles.faults:
            log.warning("%s", fault)
        self._seen = stamp.marks
