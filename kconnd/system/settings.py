"""Reads the settings of the whole machine, which only root can have written."""

import os
from pathlib import Path

from kconnd.core.faults import Problem, show
from kconnd.core.settings import Settings, parse_settings
from kconnd.errors import UnsafePathError
from kconnd.system.marked_yaml import NotYamlError, read_yaml
from kconnd.system.profiles import Fault, fault_at
from kconnd.system.trusted import check_folder, opened, read_trusted


def read_settings(path: str, *, uid: int = 0) -> tuple[Settings | None, tuple[Fault, ...]]:
    """Read the settings; what is not there, or empty, is all defaults.

    Returns
    -------
    tuple
        The settings and no faults, or None and all faults.
    """
    try:
        with opened(str(Path(path).parent), os.O_DIRECTORY) as folder:
            check_folder(folder, uid)
            with opened(Path(path).name, 0, folder) as file:
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
