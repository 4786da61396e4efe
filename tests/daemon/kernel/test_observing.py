"""What the starts of a kernel show of its software, and the end of a trial."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel.events import WireRefused
from kconnd.core.launch.capabilities import (
    BEATS_BUSY,
    CONTROL_INFO,
    CURVE,
    EXITS_AFTER_SHUTDOWN,
    SECONDS_TO_START,
    SURVIVES_SIGINT,
    UNIX_SOCKETS,
    Fact,
    FactSource,
    Software,
)
from kconnd.core.launch.wire import Trial
from kconnd.daemon.context import World
from kconnd.daemon.kernel.observing import Attempt, Observer
from kconnd.system.process.processes import ProcessId
from tests.daemon.kernel.fakes import Reports, a_connection, make_world

SOFTWARE = Software("key", "mine")
PLAIN = Attempt(SOFTWARE)
FALLBACK = Attempt(SOFTWARE, is_fallback=True)
TRIAL = Attempt(SOFTWARE, Trial.UNIX_SOCKETS, limit_s=0.3)
NOBODY = ProcessId(1 << 22, 1)


def observe(folder: Path) -> tuple[Observer, World]:
    world = make_world(folder)
    return Observer("lab", world, _read_software), world


async def _read_software() -> Software:
    return SOFTWARE


def learned(world: World) -> dict[str, Any]:
    return {name: fact.value for name, fact in world.capabilities.facts(SOFTWARE).items()}


def begin(observer: Observer, attempt: Attempt, folder: Path) -> None:
    now = asyncio.get_running_loop().time()
    observer.begin(attempt, a_connection(folder, "ipc" if attempt.trial else "tcp"), now)


async def test_the_first_start_shows_how_long_a_start_takes(tmp_path: Path) -> None:
    observer, world = observe(tmp_path)
    begin(observer, PLAIN, tmp_path)
    observer.note_answer(1.5)
    assert learned(world) == {SECONDS_TO_START: 1.5}


async def test_a_kernel_whose_wire_is_known_needs_no_time(tmp_path: Path) -> None:
    observer, world = observe(tmp_path)
    fact = Fact(True, FactSource.MEASURED, "")  # noqa: FBT003  # the value
    begin(observer, Attempt(Software("key", "", {UNIX_SOCKETS: fact, CURVE: fact})), tmp_path)
    observer.note_answer(1.5)
    assert learned(world) == {}


async def test_an_answer_proves_what_was_tried(tmp_path: Path) -> None:
    observer, world = observe(tmp_path)
    begin(observer, TRIAL, tmp_path)
    observer.note_answer(1.5)
    assert learned(world) == {UNIX_SOCKETS: True}


@pytest.mark.parametrize(("killed", "proves"), [(False, True), (True, False)])
async def test_an_exit_refutes_it_once_the_fallback_has_answered(
    tmp_path: Path,
    killed: bool,  # noqa: FBT001  # pytest's way
    proves: bool,  # noqa: FBT001  # pytest's way
) -> None:
    observer, world = observe(tmp_path)
    begin(observer, TRIAL, tmp_path)
    assert observer.note_exit("exited with code 1", killed=killed)
    assert learned(world) == {}
    begin(observer, FALLBACK, tmp_path)
    observer.note_answer(1.5)
    assert learned(world) == {SECONDS_TO_START: 1.5} | ({UNIX_SOCKETS: False} if proves else {})


async def test_a_trial_that_was_stopped_proves_nothing_in_another_start(tmp_path: Path) -> None:
    observer, world = observe(tmp_path)
    begin(observer, TRIAL, tmp_path)
    observer.note_exit("killed by SIGTERM", killed=False)
    begin(observer, PLAIN, tmp_path)
    assert not observer.note_exit("exited with code 1", killed=False)
    begin(observer, PLAIN, tmp_path)
    observer.note_answer(1.5)
    assert learned(world) == {SECONDS_TO_START: 1.5}


@pytest.mark.parametrize(("ready_after_s", "refuted"), [(0.1, True), (30.0, False)])
async def test_silence_refutes_it_if_the_fallback_is_faster(
    tmp_path: Path,
    ready_after_s: float,
    refuted: bool,  # noqa: FBT001  # pytest's way
) -> None:
    observer, world = observe(tmp_path)
    reports = Reports()
    begin(observer, TRIAL, tmp_path)
    async with asyncio.timeout(10):
        await observer.watch(NOBODY, 3, lambda: False, reports.append)
    (refusal,) = reports
    assert isinstance(refusal, WireRefused)
    assert (refusal.generation, refusal.may_fall_back) == (3, True)
    assert "no answer on Unix sockets within " in refusal.reason
    assert observer.note_exit("killed by SIGKILL", killed=True)
    begin(observer, FALLBACK, tmp_path)
    observer.note_answer(ready_after_s)
    assert (UNIX_SOCKETS in learned(world)) is refuted


async def test_what_a_user_may_have_changed_is_noted_only_of_unknown_software(
    tmp_path: Path,
) -> None:
    observer, world = observe(tmp_path)
    begin(observer, PLAIN, tmp_path)
    observer.note_stay(6.0)
    observer.note_death_by_interrupt("exited with code 1")
    assert learned(world) == {EXITS_AFTER_SHUTDOWN: False, SURVIVES_SIGINT: False}
    assert await observer.is_known_to_stay()
    fact = Fact(True, FactSource.METADATA, "")  # noqa: FBT003  # the value
    known = Software("other", "", {EXITS_AFTER_SHUTDOWN: fact, SURVIVES_SIGINT: fact})
    begin(observer, Attempt(known), tmp_path)
    observer.note_stay(6.0)
    observer.note_death_by_interrupt("exited with code 1")
    assert world.capabilities.facts(known) == known.facts
    assert not await observer.is_known_to_stay()


async def test_the_software_of_an_adopted_process_is_read_when_it_matters(tmp_path: Path) -> None:
    observer, world = observe(tmp_path)
    world.capabilities.learn(
        SOFTWARE,
        {SURVIVES_SIGINT: Fact(False, FactSource.START, "it died", 1.0)},  # noqa: FBT003  # the value
    )
    begin(observer, Attempt(), tmp_path)
    observer.note_death_by_interrupt("exited with code 1")
    fact = await observer.is_false(SURVIVES_SIGINT)
    assert fact is not None
    assert fact.evidence == "it died"


async def test_a_kernel_that_has_answered_is_not_looked_at(tmp_path: Path) -> None:
    observer, _ = observe(tmp_path)
    reports = Reports()
    begin(observer, TRIAL, tmp_path)
    async with asyncio.timeout(10):
        await observer.watch(NOBODY, 3, lambda: True, reports.append)
        begin(observer, PLAIN, tmp_path)
        await observer.watch(NOBODY, 3, lambda: False, reports.append)  # plain tcp
    assert reports == []


ADOPTED = Attempt(SOFTWARE, Trial.UNIX_SOCKETS, limit_s=0.3, is_adopted=True)
PLAIN_ADOPTED = Attempt(SOFTWARE, limit_s=0.3, is_adopted=True)


async def watch_adopted(observer: Observer) -> tuple[Reports, str]:
    reports = Reports()
    async with asyncio.timeout(10):
        refusal = await observer.watch_adopted(NOBODY, 3, lambda: False, reports.append)
    return reports, refusal


@pytest.mark.parametrize("attempt", [ADOPTED, PLAIN_ADOPTED])
async def test_an_adopted_start_that_binds_nothing_in_time_is_reported(
    tmp_path: Path, attempt: Attempt
) -> None:
    observer, world = observe(tmp_path)
    begin(observer, attempt, tmp_path)
    (refusal,), _ = await watch_adopted(observer)
    assert isinstance(refusal, WireRefused)
    assert (refusal.generation, refusal.may_fall_back) == (3, attempt is ADOPTED)
    assert "none of its sockets" in refusal.reason
    assert observer.note_exit("killed by SIGTERM", killed=False) is (attempt is ADOPTED)
    begin(observer, FALLBACK, tmp_path)
    observer.note_answer(0.1)
    assert (UNIX_SOCKETS in learned(world)) is (attempt is ADOPTED)


async def test_an_adopted_start_that_has_bound_a_socket_is_left_alone(tmp_path: Path) -> None:
    observer, _ = observe(tmp_path)
    begin(observer, ADOPTED, tmp_path)
    (path, *_) = a_connection(tmp_path).socket_paths()
    Path(path).touch()  # noqa: ASYNC240  # a small file
    assert await watch_adopted(observer) == ([], "")
    assert not observer.note_exit("exited with code 1", killed=False)


@pytest.mark.parametrize(("success", "has_failed"), [(True, False), (False, True)])
async def test_an_exit_that_no_daemon_saw_proves_nothing(
    tmp_path: Path,
    success: bool,  # noqa: FBT001  # pytest's way
    has_failed: bool,  # noqa: FBT001  # pytest's way
) -> None:
    observer, world = observe(tmp_path)
    begin(observer, ADOPTED, tmp_path)
    assert observer.note_exit("exited", killed=False, success=success) is has_failed
    begin(observer, FALLBACK, tmp_path)
    observer.note_answer(1.5)
    assert UNIX_SOCKETS not in learned(world)


async def test_the_first_observation_of_a_fact_counts(tmp_path: Path) -> None:
    observer, world = observe(tmp_path)
    begin(observer, PLAIN, tmp_path)
    observer.note({BEATS_BUSY: (True, "seen"), CONTROL_INFO: (False, "seen")})
    observer.note({BEATS_BUSY: (False, "missed"), CONTROL_INFO: (True, "later")})
    assert learned(world) == {BEATS_BUSY: False, CONTROL_INFO: False}
    observer.note({BEATS_BUSY: (True, "answered again")})
    assert learned(world)[BEATS_BUSY] is False


async def test_a_process_shows_a_fact_once(tmp_path: Path) -> None:
    observer, _ = observe(tmp_path)
    begin(observer, PLAIN, tmp_path)
    beat = {BEATS_BUSY: (True, "seen")}
    assert observer.take_news(beat) == beat
    assert observer.take_news({BEATS_BUSY: (True, "seen again")}) == {}
    missed = {BEATS_BUSY: (False, "missed")}
    assert observer.take_news(missed) == missed
    begin(observer, PLAIN, tmp_path)
    assert observer.take_news(beat) == beat


async def test_of_a_warm_kernel_nothing_is_recorded(tmp_path: Path) -> None:
    observer, world = observe(tmp_path)
    begin(observer, Attempt(), tmp_path)
    assert await observer.is_false(BEATS_BUSY) is None  # it has read the software
    observer.note({BEATS_BUSY: (True, "seen")})
    assert learned(world) == {}


async def test_an_adopted_process_shows_facts_of_software_that_has_not_changed(
    tmp_path: Path,
) -> None:
    reads = 0

    async def read_software() -> Software:
        nonlocal reads
        reads += 1
        return replace(SOFTWARE, changed_at=100.0)

    world = make_world(tmp_path)
    observer = Observer("lab", world, read_software)
    begin(observer, Attempt(), tmp_path)
    observed = {CONTROL_INFO: (True, "it replied")}
    await observer.note_adopted("mine", 50.0, observed)
    assert (learned(world), reads) == ({}, 1)
    await observer.note_adopted("mine", 150.0, observed)
    assert (learned(world), reads) == ({CONTROL_INFO: True}, 2)
    await observer.note_adopted("mine", 150.0, observed)
    assert reads == 2
