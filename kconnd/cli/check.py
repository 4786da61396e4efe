"""``kconnd-ctl check`` and ``kconnd-ctl schema``: both work without a daemon.

Rules. Both verbs read and change nothing. One run reports all faults, one per line, in the format
``FILE:LINE:COLUMN: TEXT``, from which editors and CI systems can open the file at the fault. The
arguments are checked before pydantic and yaml are imported.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kconnd.core.paths import SETTINGS_FILE, SYSTEM_CONFIGS_DIR, config_dir
from kconnd.errors import UsageError

if TYPE_CHECKING:
    from kconnd.cli.command_line import Arguments
    from kconnd.system.profiles.loader import LoadedProfiles


def check(arguments: "Arguments") -> int:
    """Check profiles and print their faults.

    Returns
    -------
    int
        The exit code: 0 for no faults, 1 for faults, 2 for a path that does not exist.
    """
    missing_paths = [path for path in arguments.paths if not Path(path).exists()]
    for path in missing_paths:
        print(f"kconnd-ctl: check: {path} does not exist", file=sys.stderr)
    if missing_paths:
        return UsageError.exit_code
    loaded = _load(arguments.paths)
    print(_to_json(loaded) if arguments.json else _to_text(loaded))
    return 1 if loaded.faults else 0


def schema(_arguments: "Arguments") -> int:
    """Print the JSON Schema of a profile file."""
    from kconnd.core.profile.schema import profile_schema  # noqa: PLC0415  # it imports pydantic

    print(json.dumps(profile_schema(), indent=2))
    return 0


def _load(paths: list[str]) -> "LoadedProfiles":
    """Load the profiles below some paths or, without paths, all profiles and settings."""
    # These imports take half of the time of kconnd-ctl check.
    from kconnd.system.machine import own_user  # noqa: PLC0415  # for this verb only
    from kconnd.system.profiles.loader import load_profiles  # noqa: PLC0415  # for this verb only
    from kconnd.system.profiles.settings_file import read_settings  # noqa: PLC0415  # for this verb only
    from kconnd.system.profiles.tiers import load_tiers  # noqa: PLC0415  # for this verb only

    if paths:
        return load_profiles(paths)
    user = own_user()
    own_folders = [config_dir(os.environ, user.home)]
    loaded = load_tiers([SYSTEM_CONFIGS_DIR], own_folders, uid=user.uid, user=user.name)
    return replace(loaded, faults=(*read_settings(SETTINGS_FILE)[1], *loaded.faults))


def _to_text(loaded: "LoadedProfiles") -> str:
    """Format the faults and overrides, one per line, and the numbers of profiles and faults."""
    summary = f"{_count(len(loaded.profiles), 'profile')}, {_count(len(loaded.faults), 'fault')}"
    return "\n".join([*map(str, loaded.faults), *loaded.overrides, summary])


def _to_json(loaded: "LoadedProfiles") -> str:
    profiles = [
        {"name": name, "file": profile.file, "line": profile.line}
        for name, profile in loaded.profiles.items()
    ]
    keys = ("file", "line", "column", "path", "message", "hint")
    faults = [{key: getattr(fault, key) for key in keys} for fault in loaded.faults]
    return json.dumps({"profiles": profiles, "faults": faults}, indent=2)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
