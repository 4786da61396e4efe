"""Reads the settings of the whole machine, which only root can have written."""

import logging
import os
from pathlib import Path

from kconnd.core.profile.problems import Problem, show
from kconnd.core.profile.settings import Settings, parse_settings
from kconnd.errors import ProfileError, UnsafePathError
from kconnd.system.files.stamps import Settling, Stamp, stamp_file
from kconnd.system.files.trusted import check_folder, open_unblocked, read_trusted
from kconnd.system.profiles.loader import Fault, fault_at
from kconnd.system.profiles.yaml_with_positions import NotYamlError, read_yaml

QUIET = 0.5  # seconds without a change, after which what is written counts as complete
EMPTY = 5.0  # seconds after which so does a file that is empty or gone

log = logging.getLogger("kconnd")


def read_settings(path: str, *, uid: int = 0) -> tuple[Settings | None, tuple[Fault, ...]]:
    """Read the settings; what is not there, or empty, is all defaults.

    Returns
    -------
    tuple
        The settings and no faults, or None and all faults.
    """
    try:
        with open_unblocked(str(Path(path).parent), os.O_DIRECTORY) as folder:
            check_folder(folder, uid)
            with open_unblocked(Path(path).name, 0, folder) as file:
                document = read_yaml(read_trusted(file, uid))
    except FileNotFoundError:
        return Settings(), ()
    except NotYamlError as error:
        return None, (Fault(path, error.line, error.column, "", str(error), error.hint),)
    except UnsafePathError as error:
        return None, (Fault(path, 1, 1, "", error.message, error.hint),)
    except OSError as error:
        return None, (Fault(path, 1, 1, "", f"cannot be read: {error.strerror}"),)
    mishaps = tuple(
        Fault(path, one.line, one.column, "", one.message, one.hint) for one in document.mishaps
    )
    given = {} if document.data is None else document.data
    if not isinstance(given, dict):
        problem = Problem((), f"{show(given)} is not a mapping", "write key: value lines")
        return None, (*mishaps, fault_at(document, path, problem))
    settings, problems = parse_settings(given)
    faults = (*mishaps, *(fault_at(document, path, problem) for problem in problems))
    return (None if faults else settings), faults


class LiveSettings:
    """The settings as they are now, for as long as a process lives.

    Rules: a fault leaves those before it. So does a file that changed a moment ago. One that is
    empty or gone would let everybody in and lift every quota, and is so for an instant
    whenever somebody writes it with ``>``: that counts only after longer.

    Parameters
    ----------
    path : str
        The file.
    uid : int
        Who has to have written it.
    settling : Settling, optional
        Tells what was left alone.
    """

    def __init__(self, path: str, *, uid: int = 0, settling: Settling | None = None) -> None:
        self._path, self._uid = path, uid
        self._settling = settling or Settling()
        self._seen: Stamp | None = None
        self._told: Stamp | None = None
        self._settings: Settings | None = None

    def now(self) -> Settings:
        """Give them, read again where the file has changed and rests.

        Raises
        ------
        ProfileError
            If they cannot be read and there are none before them: who may do what is not
            guessed.
        """
        stamp = stamp_file(self._path)
        if stamp != self._seen and self._is_complete(stamp):
            self._read(stamp)
        if self._settings is None:
            raise ProfileError(
                f"reading the settings: {self._path} is being written",
                hint="try again in a moment",
            )
        return self._settings

    def reload(self) -> Settings:
        """Read them at once, as somebody asks for who has written them."""
        self._read(stamp_file(self._path))
        return self.now()

    def _is_complete(self, stamp: Stamp) -> bool:
        if self._settings is None and not stamp.marks[0][1]:
            return True  # there is none, and there was none before
        if not _is_empty(stamp):
            return self._settings is None or self._settling.is_settled(stamp, QUIET)
        rests = self._settling.is_settled(stamp, EMPTY)
        if self._settings is not None and stamp != self._told:
            self._told = stamp
            then = "there are none now" if rests else f"those before hold for {EMPTY:g} s"
            log.warning("the settings in %s are gone: %s", self._path, then)
        return rests

    def _read(self, stamp: Stamp) -> None:
        settings, faults = read_settings(self._path, uid=self._uid)
        if stamp_file(self._path) != stamp:
            return  # it changed while it was read; the next look is at what it is then
        for fault in faults:
            log.warning("%s", fault)
        if settings is not None:
            self._settings = settings
        elif self._settings is None:
            raise ProfileError(f"reading the settings: {faults[0]}", hint="mend them first")
        self._seen = stamp


def _is_empty(stamp: Stamp) -> bool:
    _, mark = stamp.marks[0]
    return not mark or mark[1] == 0
