"""What root has written for the whole machine: profiles and settings, as they are now."""

import logging

from kconnd.core.settings import Settings
from kconnd.system.changes import Settling, Stamp, stamp_folder
from kconnd.system.profiles import Loaded, load_profiles
from kconnd.system.settings import QUIET, LiveSettings

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
        self._seen: Stamp | None = None
        self._profiles = Loaded({}, ())
        self.reload()

    @property
    def profiles(self) -> Loaded:
        """The profiles of the machine."""
        stamp = stamp_folder(self._configs)
        if stamp != self._seen and self._settling.rests(stamp, QUIET):
            self._read(stamp)
        return self._profiles

    @property
    def settings(self) -> Settings:
        """The settings of the machine."""
        return self._settings.now()

    def reload(self) -> None:
        """Read all at once, since somebody says that it is written."""
        self._settings.reload()
        self._read(stamp_folder(self._configs))

    def _read(self, stamp: Stamp) -> None:
        self._profiles = load_profiles([self._configs], uid=self._uid)
        for fault in self._profiles.faults:
            log.warning("%s", fault)
        self._seen = stamp
