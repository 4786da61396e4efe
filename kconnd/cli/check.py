"""``kconnd-ctl check`` and ``schema``: profiles without a daemon."""

from __future__ import annotations

import os
from pathlib import Path

from kconnd.cli import show
from kconnd.cli.arguments import parser
from kconnd.errors import UsageError


def check(arguments: list[str]) -> int:
    """Find the faults of profiles."""
    verb = parser(
        "check",
        "Find every fault in profiles, with its place, without a daemon. Exit code 1 where\n"
        "there is one. Without a path, your own profile folder is checked.",
        "kconnd-ctl check configs/",
    )
    verb.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="a file or a folder")
    given = verb.parse_args(arguments)
    paths = given.paths or [_own_folder()]
    for path in given.paths:
        if not path.exists():
            raise UsageError(f"checking {path}: there is no such file or folder")
    from kconnd.system.profiles import load_profiles  # noqa: PLC0415  # it brings pydantic

    loaded = load_profiles(paths)
    if given.json:
        found = [
            {"name": name, "file": str(one.file), "line": one.line}
            for name, one in sorted(loaded.profiles.items())
        ]
        show.print_json({"profiles": found, "faults": [one.to_json() for one in loaded.faults]})
    else:
        print(*loaded.faults, sep="\n", end="\n" if loaded.faults else "")
        print(f"{_count(len(loaded.profiles), 'profile')}, {_count(len(loaded.faults), 'fault')}")
    return 1 if loaded.faults else 0


def _own_folder() -> Path:
    from kconnd.core.places import config_dir  # noqa: PLC0415  # only without a path

    return Path(config_dir(os.environ, str(Path.home())))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def schema(arguments: list[str]) -> int:
    """Print the JSON Schema of profiles."""
    verb = parser(
        "schema",
        "Print the JSON Schema of profile files, with which editors complete and check.\n"
        "In VS Code or any editor with yaml-language-server, put this line on top of a profile:\n"
        "  # yaml-language-server: $schema=kconnd.schema.json",
        "kconnd-ctl schema > kconnd.schema.json",
    )
    verb.parse_args(arguments)
    from kconnd.core.profile import file_schema  # noqa: PLC0415  # it brings pydantic

    show.print_json(file_schema())
    return 0
