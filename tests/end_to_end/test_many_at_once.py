"""Many kernels end at once, and many and hostile profiles are read: look-ups have their answers."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon
from tests.end_to_end.slow_turns import (
    Lookups,
    assert_answers_in_time,
    assert_no_slow_turn,
    measured,
)

CLIENTS = 40  # at a time; each user may have 128 connections
MEGABYTE = 1 << 20

HOSTILE = (
    "a: " + "x" * (MEGABYTE - 10),
    "".join(f"k{number}: [1, 2, 3]\n" for number in range(50_000)),
    "".join(f"key{number}: 1\n" for number in range(5_000)),
    "kernels:\n" + "".join(f"  k{number}: {{kernel: no, memmory: 1}}\n" for number in range(2_400)),
    "a: &a [1, 1, 1, 1]\n" + "".join(f"b{number}: *a\n" for number in range(50_000)),
    "#" * (MEGABYTE - 1),
    "- \n" * 300_000,
    '"' + "\\n" * 500_000 + '"',
    "a: " + "[" * 500_000,
    "kernel: python3\nenv: {" + ",".join(f"V{number}: '1'" for number in range(4_000)) + "}\n",
    "kernel: python3\nenv:\n" + "".join(f"  V{number}: '1'\n" for number in range(4_000)),
    "? " * 300_000,
    "'" * (MEGABYTE - 1),
)


@pytest.fixture
def lab(daemon: Daemon) -> Daemon:
    daemon.profile("lab", SMALL)
    measured(daemon).start()
    daemon.post("lab", "start")
    return daemon


def stop_many(lab: Daemon, count: int) -> None:
    lab.profile("crowd", f"{SMALL}start: manual\n")
    lab.ask("POST", "/v1/reload")
    names = [f"crowd@{number}" for number in range(count)]

    def measure() -> Lookups:
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(partial(lab.post, verb="start"), names))
        with Lookups(lab, "lab") as lookups, ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(partial(lab.post, verb="stop"), names))
        states = {one["name"]: one["state"] for one in lab.get("/v1/kernels")["kernels"]}
        assert {states.get(name, "stopped") for name in names} == {"stopped"}
        assert lab.state_of("lab") == "running"
        assert_no_slow_turn(lab, since=lookups.began)
        return lookups

    assert_answers_in_time(measure)


def test_forty_kernels_end_at_once(lab: Daemon) -> None:
    stop_many(lab, 40)


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_three_hundred_kernels_end_at_once(lab: Daemon) -> None:
    stop_many(lab, 300)


def test_hostile_profiles_are_read(lab: Daemon) -> None:
    """Each as large as a file may be; the sound one among them takes effect."""
    began: list[float] = []

    def measure() -> Lookups:
        for number, text in enumerate(HOSTILE):
            lab.profile(f"hostile{number}", text[:MEGABYTE])
        new = f"new{len(began)}"
        lab.profile(new, SMALL)
        with Lookups(lab, "lab") as lookups:
            told = lab.ask("POST", "/v1/reload")
            lab.get("/v1/profiles")
            lab.get("/v1/kernels")
        assert new in told["added"]
        assert len({fault["file"] for fault in told["faults"]}) >= 10
        began.append(lookups.began)
        return lookups

    assert_answers_in_time(measure)
    lab.end()
    lab.start(until="listening")
    assert not lab.is_ready(), "it reads them"
    assert lab.state_of("lab") == "running", "who asks waits for that"
    assert_no_slow_turn(lab, since=began[0])


def test_many_profiles_are_read(lab: Daemon) -> None:
    def measure() -> Lookups:
        for number in range(1_000):
            lab.profile(f"p{number}", f"{SMALL}env: {{NUMBER: '{number}'}}\n")
        with Lookups(lab, "lab") as lookups:
            assert len(lab.ask("POST", "/v1/reload")["added"]) == 1_000
            assert len(lab.get("/v1/profiles")["profiles"]) == 1_001
            assert len(lab.get("/v1/kernels")["kernels"]) == 1_001
            for path in lab.configs.glob("p*.yaml"):
                path.unlink()
            assert len(lab.ask("POST", "/v1/reload")["removed"]) == 1_000
        wait_for(lambda: len(lab.get("/v1/kernels")["kernels"]) == 1, "them to be forgotten")
        assert_no_slow_turn(lab, since=lookups.began)
        return lookups

    assert_answers_in_time(measure)
