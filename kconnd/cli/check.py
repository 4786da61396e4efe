"""``kconnd-ctl check`` and ``kconnd-ctl schema``: profiles without a daemon.

Rules: both only read; all faults come in one run, one a line, in the form that editors and CI
jump to; pydantic and yaml are imported when the arguments have proved good.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kconnd.cli.arguments import parser
from kconnd.core.paths import SETTINGS, SYSTEM_CONFIGS, config_dir

if TYPE_CHECKING:
    from kconnd.system.profiles.loader import Loaded

_CHECK = """\
Read profiles as the daemon would and tell all that is wrong with them, with
file, line and column. Nothing is started and no daemon is needed. Exit code 1
where there are faults, 2 where a path does not exist."""
_SCHEMA = """\
Print the JSON Schema of a file of profiles, with which editors complete and
check it. Editors with a YAML language server want it named in the first line:
  # yaml-language-server: $schema=/home/me/kconnd.schema.json"""


def check(arguments: list[str]) -> int:
    """Check profiles and print their faults.

    Parameters
    ----------
    arguments : list of str
        The command line after the verb.

    Returns
    -------
    int
        The exit code: 0 no faults, 1 faults, 2 a path that does not exist.
    """
    verb = parser("check", _CHECK, "kconnd-ctl check configs/ ~/lab.yaml")
    verb.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="a file or folder of profiles (default: the machine's and your own)",
    )
    options = verb.parse_args(arguments)
    missing = [path for path in options.paths if not Path(path).exists()]
    for path in missing:
        print(f"kconnd-ctl check: there is no {path}", file=sys.stderr)
    if missing:
        return 2
    # Imported late: half of kconnd-ctl's time would go into it for verbs that need neither.
    from kconnd.system.machine import own_user  # noqa: PLC0415
    from kconnd.system.profiles.loader import load_profiles, load_tiers  # noqa: PLC0415
    from kconnd.system.profiles.settings_file import read_settings  # noqa: PLC0415

    user = own_user()
    own = [config_dir(os.environ, str(Path.home()))]
    loaded = (
        load_profiles(options.paths)
        if options.paths
        else load_tiers([SYSTEM_CONFIGS], own, uid=user.uid, user=user.name)
    )
    if not options.paths:
        loaded = replace(loaded, faults=(*read_settings(SETTINGS)[1], *loaded.faults))
    print(_as_json(loaded) if options.json else _as_text(loaded))
    return 1 if loaded.faults else 0


def schema(arguments: list[str]) -> int:
    """Print the JSON Schema of a profile file; the exit code is 0."""
    parser("schema", _SCHEMA, "kconnd-ctl schema > ~/kconnd.schema.json").parse_args(arguments)
    from kconnd.core.profile.schema import profile_schema  # noqa: PLC0415  # late, as above

    print(json.dumps(profile_schema(), indent=2))
    return 0


def _as_text(loaded: "Loaded") -> str:
    """Write a fault a line, and how many there are of what."""
    summary = f"{_count(len(loaded.profiles), 'profile')}, {_count(len(loaded.faults), 'fault')}"
    return "\n".join([*map(str, loaded.faults), *loaded.hidden, summary])


def _as_json(loaded: "Loaded") -> str:
    profiles = [
        {"name": name, "file": found.file, "line": found.line}
        for name, found in loaded.profiles.items()
    ]
    keys = ("file", "line", "column", "path", "message", "hint")
    faults = [{key: getattr(fault, key) for key in keys} for fault in loaded.faults]
    return json.dumps({"profiles": profiles, "faults": faults}, indent=2)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
