"""Read the settings of the whole machine from a file that only root can write."""

import logging
import os
from pathlib import Path

from kconnd.core.profile.problems import Problem, format_value
from kconnd.core.profile.settings import MachineSettings, parse_settings
from kconnd.errors import ProfileError, UnsafePathError
from kconnd.system.files.stamps import Settling, Stamp, stamp_file
from kconnd.system.files.trusted import check_folder, open_unblocked, read_trusted
from kconnd.system.profiles.faults import Fault, fault_at
from kconnd.system.profiles.yaml_with_positions import NotYamlError, read_yaml

SETTLE_DELAY_S = 0.5  # a file that is unchanged for this time counts as complete
EMPTY_SETTLE_DELAY_S = 5.0  # the delay for an empty or missing file

log = logging.getLogger("kconnd")


def read_settings(path: str, *, uid: int = 0) -> tuple[MachineSettings | None, tuple[Fault, ...]]:
    """Read the settings; a missing or empty file means the defaults.

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
        return MachineSettings(), ()
    except NotYamlError as error:
        return None, (Fault(path, error.line, error.column, "", str(error), error.hint),)
    except UnsafePathError as error:
        return None, (Fault(path, 1, 1, "", error.message, error.hint),)
    except OSError as error:
        return None, (Fault(path, 1, 1, "", f"cannot be read: {error.strerror}"),)
    mishaps = tuple(
        Fault(path, mishap.line, mishap.column, "", mishap.message, mishap.hint)
        for mishap in document.mishaps
    )
    keys = {} if document.data is None else document.data
    if not isinstance(keys, dict):
        problem = Problem((), f"{format_value(keys)} is not a mapping", "write key: value lines")
        return None, (*mishaps, fault_at(document, path, problem))
    settings, problems = parse_settings(keys)
    faults = (*mishaps, *(fault_at(document, path, problem) for problem in problems))
    return (None if faults else settings), faults


class LiveSettings:
    """The current settings; a change of the file is applied automatically.

    Rules. The previous settings stay in force while the file is faulty or has just changed. An
    empty or missing file admits all users and removes all quotas. When a shell writes a file with
    ``>``, the file is empty for an instant. An empty or missing file therefore takes effect after a
    longer delay.

    Parameters
    ----------
    path : str
        The path of the settings file.
    uid : int
        The uid of the reader; the file must belong to the reader or to root.
    settling : Settling, optional
        The object that decides whether the file is complete.
    """

    def __init__(self, path: str, *, uid: int = 0, settling: Settling | None = None) -> None:
        self._path, self._uid = path, uid
        self._settling = settling or Settling()
        self._read_stamp: Stamp | None = None
        self._logged_stamp: Stamp | None = None
        self._settings: MachineSettings | None = None

    def now(self) -> MachineSettings:
        """Return the settings; first read the file if it has changed and is complete.

        Raises
        ------
        ProfileError
            If the file cannot be read and there are no previous settings. The defaults are not used
            in this case, because they admit all users.
        """
        stamp = stamp_file(self._path)
        if stamp != self._read_stamp and self._is_complete(stamp):
            self._read(stamp)
        if self._settings is None:
            raise ProfileError(
                f"reading the settings: {self._path} is being written",
                hint="try again in a moment",
            )
        return self._settings

    def reload(self) -> MachineSettings:
        """Read the file at once: the user who requests this has finished writing the file."""
        self._read(stamp_file(self._path))
        return self.now()

    def _is_complete(self, stamp: Stamp) -> bool:
        if self._settings is None and not stamp.marks[0][1]:
            return True  # the file is missing, and no settings are in force
        if not _is_empty(stamp):
            return self._settings is None or self._settling.is_settled(stamp, SETTLE_DELAY_S)
        is_settled = self._settling.is_settled(stamp, EMPTY_SETTLE_DELAY_S)
        if self._settings is not None and stamp != self._logged_stamp:
            self._logged_stamp = stamp
            remaining = f"the previous settings apply for {EMPTY_SETTLE_DELAY_S:g} s"
            effect = "the defaults apply" if is_settled else remaining
            log.warning("the settings file %s is empty or missing: %s", self._path, effect)
        return is_settled

    def _read(self, stamp: Stamp) -> None:
        settings, faults = read_settings(self._path, uid=self._uid)
        if stamp_file(self._path) != stamp:
            return  # the file changed during the read; the next call reads it again
        for fault in faults:
            log.warning("%s", fault)
        if settings is not None:
            self._settings = settings
        elif self._settings is None:
            raise ProfileError(
                f"reading the settings: {faults[0]}", hint=f"correct the file {self._path}"
            )
        self._read_stamp = stamp


def _is_empty(stamp: Stamp) -> bool:
    _, mark = stamp.marks[0]
    return not mark or mark[1] == 0
