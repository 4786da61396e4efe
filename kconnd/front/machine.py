"""What root has written for the whole machine: profiles and settings, as they are now."""

import logging
import os

from kconnd.core.settings import Settings
from kconnd.errors import ProfileError
from kconnd.system.profiles import Loaded, load_profiles
from kconnd.system.settings import read_settings

log = logging.getLogger("kconnd")


class Machine:
    """Reads them again when a file has changed; settings with a fault leave those before.

    Parameters
    ----------
    configs, settings : str
        The folder of profiles and the file of settings.

    Raises
    ------
    ProfileError
        If the settings have a fault and there are none before them: who may do what is not
        guessed.
    """

    def __init__(self, configs: str, settings: str) -> None:
        self._configs, self._file = configs, settings
        self._seen: object = None
        self._profiles = Loaded({}, ())
        self._settings: Settings | None = None
        self.refresh()

    @property
    def profiles(self) -> Loaded:
        """The profiles of the machine."""
        self.refresh()
        return self._profiles

    @property
    def settings(self) -> Settings:
        """The settings of the machine."""
        self.refresh()
        assert self._settings is not None  # noqa: S101  # the constructor has seen to it
        return self._settings

    def refresh(self) -> None:
        """Look whether a file has changed, and read all again if so."""
        now = self._signature()
        if now == self._seen:
            return
        self._profiles = load_profiles([self._configs], uid=0)
        settings, faults = read_settings(self._file)
        for fault in (*self._profiles.faults, *faults):
            log.warning("%s", fault)
        if settings is not None:
            self._settings = settings
        elif self._settings is None:
            raise ProfileError(f"reading the settings: {faults[0]}", hint="mend them first")
        self._seen = now

    def _signature(self) -> object:
        found = [(self._file, *_stamp(self._file))]
        try:
            with os.scandir(self._configs) as entries:
                found += [(entry.name, *_stamp(entry.path)) for entry in entries]
        except OSError:
            pass  # a folder that is not there has no profiles
        return sorted(found)


def _stamp(path: str) -> tuple[int, ...]:
    try:
        about = os.stat(path)  # noqa: PTH116  # of a name that scandir gave
    except OSError:
        return ()
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino
