"""Which file a client takes for a connection, when a daemon may say what it likes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kconnd import attach
from kconnd.client import Client
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.system.machine import own_user
from tests.cli.fake_daemon import KEY, FakeDaemon

CONTENT = ConnectionInfo("tcp", "127.0.0.1", (5000, 5001, 5002, 5003, 5004), KEY).to_file()


@pytest.fixture
def client(daemon: FakeDaemon, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Give a client with a folder of its own for copies."""
    daemon.replies["GET", "/v1/kernels/lab/connection"] = CONTENT
    monkeypatch.setattr(attach, "runtime_dir", lambda *_, **__: str(folder / "run"))
    monkeypatch.setattr(attach, "owner_folder", lambda _: str(folder / "none"))
    monkeypatch.setattr(attach, "has_front_door", lambda: False)
    return Client(str(daemon.path))


def taken(client: Client, daemon: FakeDaemon, **said: Any) -> Path:
    kernel = daemon.add("lab", **said)
    return Path(attach.readable_connection_file(client, kernel, "lab"))


def test_a_file_of_ones_own_is_taken_where_it_is(
    client: Client, daemon: FakeDaemon, folder: Path
) -> None:
    file = folder / "kernel-lab.json"
    file.write_text("{}", encoding="utf-8")
    assert taken(client, daemon, connection_file=str(file)) == file
    assert daemon.asked() == []


@pytest.mark.parametrize("harm", ["link", "pipe", "folder", "gone", "foreign", "nothing"])
def test_of_anything_else_the_content_is_asked_for(
    client: Client, daemon: FakeDaemon, folder: Path, harm: str
) -> None:
    file = folder / "kernel-lab.json"
    if harm == "link":
        (folder / "mine").touch()
        file.symlink_to(folder / "mine")
    elif harm == "pipe":
        os.mkfifo(file)
    elif harm == "folder":
        file.mkdir()
    elif harm == "foreign":
        if os.geteuid() != 0:
            pytest.skip("needs root to give a file away")
        file.touch()
        os.chown(file, 54321, 54321)
    said = None if harm == "nothing" else str(file)
    copy = taken(client, daemon, connection_file=said, owner="ada")
    assert copy == folder / "run" / "shared" / "kernel-ada-lab.json"
    assert json.loads(copy.read_text(encoding="utf-8")) == CONTENT
    assert copy.stat().st_mode & 0o777 == 0o600


def test_no_word_of_a_daemon_climbs_out_of_the_folder(
    client: Client, daemon: FakeDaemon, folder: Path
) -> None:
    kernel = daemon.add("lab", owner="/../../x", connection_file="/dev/null")
    kernel["name"] = "../" * 100 + "y\x00"
    copy = Path(attach.readable_connection_file(client, kernel, "lab"))
    assert copy.parent == folder / "run" / "shared"
    assert len(copy.name) < 255
    assert sorted(one.name for one in folder.iterdir()) == ["run", "s"]


def test_a_copy_is_no_file_of_a_kernel_of_ones_own(
    client: Client, daemon: FakeDaemon, folder: Path
) -> None:
    """Such as that of one called ada-lab, which is kept beside."""
    own = folder / "run" / "kernel-ada-lab.json"
    own.parent.mkdir(mode=0o700)
    own.write_text("{}", encoding="utf-8")
    taken(client, daemon, owner="ada", connection_file=None)
    assert own.read_text(encoding="utf-8") == "{}"


def test_where_the_front_door_is_copies_are_in_a_folder_of_its_making(
    client: Client, daemon: FakeDaemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "has_front_door", lambda: True)
    monkeypatch.setattr(attach, "owner_folder", lambda _: str(folder / "made"))
    monkeypatch.setattr(attach, "find_socket", lambda _: str(folder / "s"))

    def starting(_request: object) -> dict[str, Any]:
        (folder / "made").mkdir(mode=0o700)
        return {}

    daemon.replies["GET", "/v1/health"] = starting
    copy = taken(client, daemon, owner=own_user().name, connection_file=None)
    assert copy.parent == folder / "made" / "shared"


def test_owners_with_long_names_in_other_alphabets_have_a_copy_each(
    client: Client, daemon: FakeDaemon
) -> None:
    """Each letter takes six characters in the name of a copy."""
    names = [f"александра.никоноровна.{end}" for end in ("да", "нет")]
    copies = [taken(client, daemon, owner=name, connection_file=None) for name in names]
    assert len({copy.name for copy in copies}) == len(names)
    assert all(len(copy.name) < 255 for copy in copies)
