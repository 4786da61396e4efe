"""A runtime folder that is named by uid, once the uid is another account's."""

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.account_history import RuntimeOwner, parse_runtime_owner
from kconnd.core.kernel.record import Origin
from kconnd.errors import LockedError
from kconnd.system.files.private import take_lock
from kconnd.system.files.runtime_owner import LOCK, OWNER, list_put_aside, settle_runtime
from kconnd.system.machine import machine_id
from kconnd.system.process.processes import boot_id, pid_namespace

Homes = Callable[[str], Path]
HERE = Origin(machine_id(), os.uname().nodename, boot_id(), pid_namespace())


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "kconnd-1000"
    folder.mkdir()
    return folder


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    """Give what makes the state folder in somebody's home."""

    def make(name: str) -> Path:
        folder = tmp_path / "home" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    return make


def test_a_folder_stays_with_its_account(runtime: Path, homes: Homes) -> None:
    (runtime / "kernel-lab.json").touch()
    for _ in range(2):
        assert settle_runtime(runtime, homes("ada"), "ada", HERE)
    assert settle_runtime(runtime, homes("ada"), "ada2", HERE), "renamed: it is the same home"
    assert settle_runtime(runtime, homes("elsewhere"), "ada2", HERE), "with another state folder"
    assert (runtime / "kernel-lab.json").exists()
    assert list_put_aside(runtime) == []


def test_another_account_begins_with_an_empty_one(
    runtime: Path, homes: Homes, caplog: pytest.LogCaptureFixture
) -> None:
    assert settle_runtime(runtime, homes("ada"), "ada/..", HERE)
    (runtime / "kernel-lab.json").write_text("ada's")
    assert not settle_runtime(runtime, homes("bob"), "bob", HERE)
    assert not runtime.exists()
    (aside,) = list_put_aside(runtime)
    assert (aside / "kernel-lab.json").read_text() == "ada's"
    assert aside.parent == runtime.parent
    assert "was renamed to" in caplog.text
    assert vars(caplog.records[-1])["KCONND_EVENT"] == "put-aside"
    runtime.mkdir()
    assert settle_runtime(runtime, homes("bob"), "bob", HERE)


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b'{"name": 7}', b"\xff"])
def test_a_folder_that_says_nothing_is_of_who_comes(
    runtime: Path, homes: Homes, junk: bytes
) -> None:
    (runtime / OWNER).write_bytes(junk)
    assert settle_runtime(runtime, homes("ada"), "ada", HERE)
    assert parse_runtime_owner((runtime / OWNER).read_bytes()).name == "ada"


def test_what_lives_in_it_is_left_as_it_is_where_it_may_be_anothers(
    runtime: Path, homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kconnd.system.files.runtime_owner.WAIT_LIMIT_S", 0.1)
    settle_runtime(runtime, homes("ada"), "ada", HERE)
    (runtime / "live").mkdir()
    kernel = runtime / "live" / "lab.lock"
    elsewhere = replace(HERE, pid_namespace="pid:[7]")
    for lock, note, why in (
        (runtime / LOCK, "kconnd, pid 1", "whose daemon is running"),
        (kernel, facts(elsewhere), "in another container"),
        (kernel, "", "in another container"),
    ):
        held = take_lock(lock, note)
        with pytest.raises(LockedError, match=why) as caught:
            settle_runtime(runtime, homes("bob"), "bob", HERE)
        assert "--runtime-dir" in caught.value.hint
        assert runtime.exists()
        os.close(held)
    shim = runtime / "live" / "lab.shim.json"
    shim.write_text(facts(elsewhere))
    with pytest.raises(LockedError, match="in another container"):
        settle_runtime(runtime, homes("bob"), "bob", HERE)
    shim.write_text(facts(HERE))
    held = take_lock(kernel, facts(HERE))
    assert not settle_runtime(runtime, homes("bob"), "bob", HERE), "it is ada's, and lives on"
    os.close(held)


def test_the_daemon_of_the_other_account_is_waited_for(runtime: Path, homes: Homes) -> None:
    settle_runtime(runtime, homes("ada"), "ada", HERE)
    held = take_lock(runtime / LOCK, "kconnd, pid 1")
    timer = threading.Timer(0.2, os.close, [held])
    timer.start()
    assert not settle_runtime(runtime, homes("bob"), "bob", HERE)
    timer.join()


def facts(origin: Origin) -> str:
    """Give what a shim writes into the file that it locks."""
    where = {"boot_id": origin.boot_id, "host": origin.host}
    processes = {"shim": [1, 1], "kernel": [2, 2]}
    return json.dumps({**where, "pid_namespace": origin.pid_namespace, **processes})


OWNERS = st.builds(RuntimeOwner, st.text(), st.integers(0, 3), st.integers(0, 3))


@given(OWNERS, OWNERS)
def test_one_account_has_one_name_or_one_state_folder(
    one: RuntimeOwner, other: RuntimeOwner
) -> None:
    same = one.name == other.name or one.as_dict() == {**other.as_dict(), "name": one.name}
    assert one.is_same(other) == other.is_same(one) == same


def test_the_log_says_nothing_where_nothing_happens(
    runtime: Path, homes: Homes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settle_runtime(runtime, homes("ada"), "ada", HERE)
    assert caplog.text == ""
