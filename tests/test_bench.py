"""What the bench makes of its figures; that they are real is for a run of it to show."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.results import Result, as_json, median, ratio, table

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [(2.0, "<= 2", True), (2.1, "<= 2", False), (2.0, ">= 2", True), (1.9, ">= 2", False)],
)
def test_a_figure_that_falls_short_is_shown_as_such(value: float, target: str, met: bool) -> None:  # noqa: FBT001  # a case
    found = Result("it", value, "x", target)
    assert found.met is met
    assert ("SHORT OF ITS TARGET" in table([found])) is not met
    (row,) = json.loads(as_json([found]))["results"]
    assert {key: row[key] for key in ("name", "value", "unit", "target", "met")} == {
        "name": "it",
        "value": value,
        "unit": "x",
        "target": target,
        "met": met,
    }


def test_medians_and_ratios() -> None:
    assert median("it", [0.003, 0.001, 0.002]).value == 2.0
    assert median("it", [0.003, 0.001, 0.002]).spread == (1.0, 3.0)
    assert ratio("it", [1.0, 2.0, 3.0], [4.0, 4.0, 5.0], "").value == 0.5
    assert Result("it", 1.0, "x").met is None


def test_a_part_of_it_runs_and_gives_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--json", "--only", "deaths"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["results"]] == [
        "a death is seen",
        "a dead kernel runs again (fork)",
    ]
    assert found["machine"]["processors"] >= 1
