"""A runtime folder that is named by uid, once the uid is another account's."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.accounts import RuntimeOwner, parse_owner
from kconnd.errors import LockedError
from kconnd.system.runtime_owner import LOCK, OWNER, list_put_aside, settle_runtime
from tests.conftest import wait_for

Homes = Callable[[str], Path]
DAEMON = """
import signal, sys
from pathlib import Path
from kconnd.system.files import take_lock
take_lock(Path(sys.argv[1]), f"kconnd, pid {__import__('os').getpid()}")
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path(sys.argv[1]).with_name("ready").touch()
signal.pause()
"""


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
        assert settle_runtime(runtime, homes("ada"), "ada")
    assert settle_runtime(runtime, homes("ada"), "ada2"), "renamed: it is the same home"
    assert settle_runtime(runtime, homes("elsewhere"), "ada2"), "with another state folder"
    assert (runtime / "kernel-lab.json").exists()
    assert list_put_aside(runtime) == []


def test_another_account_begins_with_an_empty_one(
    runtime: Path, homes: Homes, caplog: pytest.LogCaptureFixture
) -> None:
    assert settle_runtime(runtime, homes("ada"), "ada/..")
    (runtime / "kernel-lab.json").write_text("ada's")
    assert not settle_runtime(runtime, homes("bob"), "bob")
    assert not runtime.exists()
    (aside,) = list_put_aside(runtime)
    assert (aside / "kernel-lab.json").read_text() == "ada's"
    assert aside.parent == runtime.parent
    assert "put aside as" in caplog.text
    assert vars(caplog.records[-1])["KCONND_EVENT"] == "put-aside"
    runtime.mkdir()
    assert settle_runtime(runtime, homes("bob"), "bob")


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b'{"name": 7}', b"\xff"])
def test_a_folder_that_says_nothing_is_of_who_comes(
    runtime: Path, homes: Homes, junk: bytes
) -> None:
    (runtime / OWNER).write_bytes(junk)
    assert settle_runtime(runtime, homes("ada"), "ada")
    assert parse_owner((runtime / OWNER).read_bytes()).name == "ada"


def test_the_daemon_of_the_other_account_is_ended_first(
    runtime: Path, homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("good", "deaf"):
        runtime.mkdir(exist_ok=True)
        settle_runtime(runtime, homes("ada"), "ada")
        words = [sys.executable, "-c", DAEMON, str(runtime / LOCK), kind]
        with subprocess.Popen(words) as daemon:
            wait_for((runtime / "ready").exists, "the daemon")
            if kind == "good":
                assert not settle_runtime(runtime, homes("bob"), "bob")
                assert daemon.wait(10) != 0
            else:
                monkeypatch.setattr("kconnd.system.runtime_owner.STOP_LIMIT_S", 0.1)
                with pytest.raises(LockedError, match="is still held"):
                    settle_runtime(runtime, homes("bob"), "bob")
                assert runtime.exists(), "and nothing is moved under it"
                daemon.kill()


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
    settle_runtime(runtime, homes("ada"), "ada")
    assert caplog.text == ""
