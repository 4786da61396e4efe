"""What the bench makes of its figures; that they are real is for a run of it to show."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import __main__ as program
from tests.bench.asking import request_results
from tests.bench.client import Answers, Task, ask
from tests.bench.keeping import STEPS
from tests.bench.results import (
    Result,
    as_json,
    bars,
    difference_in_ms,
    in_ms,
    median,
    ratio,
    table,
)
from tests.bench.run import Run, run
from tests.bench.starting import FORK, MANAGERS, many_results
from tests.bench.subjects import Started, at_once, end_all

ROOT = Path(__file__).parent.parent


def shown(found: Run) -> list[dict[str, object]]:
    """Give the rows of the JSON."""
    rows: list[dict[str, object]] = json.loads(as_json(found.results, 1.0, found.failed))["results"]
    return rows


# --- one figure


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (2.0, "<= 2", True),
        (2.1, "<= 2", False),
        (2.0, ">= 2", True),
        (1.9, ">= 2", False),
        (1.9, "< 2", True),
        (2.0, "< 2", False),
    ],
)
def test_a_figure_that_falls_short_is_shown_as_such(value: float, target: str, met: bool) -> None:  # noqa: FBT001  # a case
    found = Result("it", value, "x", target)
    assert found.met is met
    assert ("SHORT OF ITS TARGET" in table([found])) is not met
    (row,) = shown(Run([found]))
    assert row == {
        "name": "it",
        "value": value,
        "unit": "x",
        "target": target,
        "met": met,
        "spread": None,
    }


def test_medians_have_a_spread_where_there_are_several_values() -> None:
    found = in_ms("it", [0.003, 0.001, 0.002], "<= 3")
    assert (found.value, found.unit, found.spread) == (2.0, "ms", (1.0, 3.0))
    assert found.met
    assert median("it", [5.0], "MB").spread is None
    assert Result("it", 1.0, "x").met is None


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_within_the_rounds() -> None:
    rounds = [{"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 4.0}, {"a": 3.0, "b": 5.0}, {"a": 2.0}]
    found = ratio("it", rounds, "a", "b", "<= 1")
    assert found.value == 0.5
    assert found.spread == (0.25, 0.6)  # the round without the other has none
    assert ratio("it", rounds[:1], "a", "b").spread is None
    with pytest.raises(LookupError, match="no figure of c"):
        ratio("it", rounds, "a", "c")


def test_a_difference_is_taken_in_the_same_way() -> None:
    rounds = [{"a": 2.0, "b": 1.0}, {"a": 3.0, "b": 2.5}, {"a": 4.0, "b": 1.0}]
    found = difference_in_ms("it", rounds, "a", "b")
    assert (found.value, found.spread) == (2000.0, (500.0, 3000.0))


# --- a whole run


def test_the_json_has_figures_of_unlike_names_and_the_machine() -> None:
    found = Run()
    for name in ("one", "two", "one"):
        found.take("a part", Result(name, 1.0, "s"))
    content = json.loads(as_json(found.results, 12.34, found.failed))
    assert set(content) == {"results", "machine", "seconds", "failed"}
    assert [row["name"] for row in content["results"]] == ["one", "two"]
    assert content["failed"] == {"a part": "two figures are called 'one'"}
    assert content["machine"]["processors"] >= 1
    assert content["seconds"] == 12.3


def good(*, quick: bool) -> Iterator[Result]:
    yield Result("quick" if quick else "slow", 1.0, "s")


def breaking(*, quick: bool) -> Iterator[Result]:  # noqa: ARG001  # what a part is called with
    yield Result("before", 1.0, "s")
    raise RuntimeError("a kernel was lost")


def waiting(*, quick: bool) -> Iterator[Result]:  # noqa: ARG001  # the same
    yield from ()
    pytest.fail("waited 30 s for the daemon")


def test_a_part_that_fails_takes_no_figure_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = run({"breaking": breaking, "waiting": waiting, "good": good}, quick=True)
    assert [one.name for one in found.results] == ["before", "quick"]
    assert found.failed == {
        "breaking": "RuntimeError: a kernel was lost",
        "waiting": "Failed: waited 30 s for the daemon",
    }
    assert "in breaking" in capsys.readouterr().err  # where it happened


def test_a_failed_part_is_told_of_and_gives_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "PARTS", {"many": breaking, "starts": good})
    assert program.main(["--json"]) == 1
    out, err = capsys.readouterr()
    assert [row["name"] for row in json.loads(out)["results"]] == ["before", "slow"]
    assert "the part many FAILED: RuntimeError: a kernel was lost" in err
    assert program.main(["--only", "starts"]) == 0
    assert "it took 0 s" in capsys.readouterr().err


def test_the_time_of_a_quick_run_is_a_figure_where_it_is_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "PARTS", {"starts": good})
    assert program.main(["--quick"]) == 0
    assert "the whole of --quick" in capsys.readouterr().out
    for arguments in (["--quick", "--only", "starts"], []):
        assert program.main(arguments) == 0
        assert "the whole of --quick" not in capsys.readouterr().out


def test_no_figures_at_all_are_shown_and_drawn_without_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "PARTS", {"starts": waiting})
    assert program.main(["--picture", str(tmp_path / "bench.png")]) == 1
    assert not (tmp_path / "bench.png").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "deaths", "--picture", "x.png"], "--only deaths does not measure them"),
        (["--picture", "/nowhere/x.png"], "there is no folder /nowhere"),
    ],
)
def test_a_picture_that_could_not_be_drawn_is_refused_before_anything_is_measured(
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(program, "PARTS", {"starts": good, "deaths": good})
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_the_picture_shows_the_starts_alone() -> None:
    found = [Result("start: kconnd, fork", 40.0, "ms"), Result("fork start / x", 0.1, "x")]
    assert bars(found) == [("kconnd, fork", 40.0)]


# --- the parts


def test_kernels_that_do_not_start_run_or_end_are_counted() -> None:
    def gone() -> tuple[int, ...]:
        raise LookupError("gone")

    def here() -> tuple[int, ...]:
        return (os.getpid(),)

    def nothing() -> None:
        pass

    def stuck() -> None:
        raise TimeoutError("stuck")

    cases = iter([None, (here, nothing), (gone, nothing), (here, stuck)])

    def way() -> Started:
        if (case := next(cases)) is None:
            raise RuntimeError("refused")
        return Started(1.0, *case)

    found = at_once(way, 4)
    assert len(found.started) == 3
    assert found.failures == [
        "RuntimeError: refused",
        "it answered, and was gone when all had answered",
    ]
    end_all(found)
    assert found.failures[2:] == ["when it was ended: TimeoutError: stuck"]


def test_failures_are_figures_and_a_few_runs_without_any_do_not_meet_the_target() -> None:
    whole = {FORK: 1.0, MANAGERS: 10.0}
    for counts, runs, met in (
        ([0] * 20, "20 runs", True),
        ([0] * 19 + [1], "20 runs", False),
        ([0] * 3, "3 runs", None),
        ([2], "1 run", False),
    ):
        found = many_results([whole], {FORK: counts, MANAGERS: [0]})
        by_name = {one.name: one for one in found}
        assert by_name[f"50 at once, failures in {runs}: {FORK}"].met is met
        assert by_name["50 at once: fork / AsyncMultiKernelManager"].value == 0.1


def test_failures_are_told_where_no_round_was_without() -> None:
    found = many_results([{MANAGERS: 10.0}], {FORK: [50], MANAGERS: [0]})
    names: list[str] = []
    with pytest.raises(LookupError, match="no figure of kconnd, fork"):
        names.extend(one.name for one in found)
    assert names == [
        f"50 at once, failures in 1 run: {FORK}",
        f"50 at once, failures in 1 run: {MANAGERS}",
        f"50 at once: {MANAGERS}",
    ]


def test_requests_by_many_clients_are_judged_by_their_late_answers() -> None:
    slow, fast = Answers(1.0, [0.2] * 10), Answers(0.5, [0.01] * 10)
    found = {
        one.name: one for one in request_results(100, [{"kconnd": fast, "Jupyter server": slow}])
    }
    assert found["requests, 100 clients: kconnd"].value == 20.0
    assert found["requests, 100 clients: kconnd / Jupyter server"].value == 2.0
    assert found["p99, 100 clients: kconnd"].met
    assert found["p99, 100 clients: Jupyter server"].met is None  # it is for comparison
    by_one = {
        one.name: one for one in request_results(1, [{"kconnd": fast, "Jupyter server": slow}])
    }
    assert by_one["requests, 1 client: kconnd / Jupyter server"].met


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden"])
async def test_only_what_is_answered_with_success_counts_as_an_answer(status: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):  # also where the test ends before this does
            while await reader.readline():
                await reader.readuntil(b"\r\n\r\n")
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        task = Task(server.sockets[0].getsockname()[1], "/", clients=2, seconds=0.05)
        if status.startswith("200"):
            found = await ask(task)
            assert len(found.times) >= 2
            assert found.seconds >= 0.05
        else:
            with pytest.raises(ExceptionGroup) as raised:
                await ask(task)
            assert "403 forbidden" in str(raised.value.exceptions[0])


def test_targets_are_judged_at_their_own_numbers_of_kernels() -> None:
    counts = [count for count, _, _ in STEPS]
    assert counts == sorted(set(counts))
    assert [count for count, cpu, _ in STEPS if cpu] == [200]
    assert [count for count, _, memory in STEPS if memory] == [0, 200]


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
        "a dead kernel runs again (fork, backoff 10 ms)",
    ]
    assert found["failed"] == {}
