"""``scripts/bench``: how fast and how small, side by side with what else there is, in one run."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.asking import commands, requests
from tests.bench.keeping import deaths, upkeep
from tests.bench.results import Result, as_json, bars, picture, table
from tests.bench.run import Part, Run, run
from tests.bench.starting import costs, many, starts

PARTS: dict[str, Part] = {
    "starts": starts,
    "many": many,
    "costs": costs,
    "commands": commands,
    "requests": requests,
    "deaths": deaths,
    "upkeep": upkeep,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and show what came of it; 1 where a part failed."""
    given = parse(arguments)
    parts = {name: part for name, part in PARTS.items() if given.only in {None, name}}
    begin = time.perf_counter()
    found = run(parts, quick=given.quick)
    seconds = time.perf_counter() - begin
    if given.quick and not given.only:
        found.take("the whole", Result("the whole of --quick", seconds, "s", "< 120"))
    if given.json:
        print(as_json(found.results, seconds, found.failed))
    else:
        print(table(found.results))
    if given.picture and bars(found.results):
        picture(found.results, given.picture)
    _tell(found, seconds)
    return 1 if found.failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse what could not be done once all is measured."""
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under two minutes")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the starts")
    parser.add_argument("--only", metavar="PART", choices=[*PARTS], help=", ".join(PARTS))
    given = parser.parse_args(arguments)
    if given.picture and given.only not in {None, "starts"}:
        parser.error(f"--picture draws the starts, and --only {given.only} does not measure them")
    if given.picture and not given.picture.absolute().parent.is_dir():
        parser.error(f"--picture: there is no folder {given.picture.absolute().parent}")
    return given


def _tell(found: Run, seconds: float) -> None:
    for name, reason in found.failed.items():
        print(f"the part {name} FAILED: {reason}", file=sys.stderr)
    print(f"it took {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
