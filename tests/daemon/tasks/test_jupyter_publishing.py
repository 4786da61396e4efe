"""Files in Jupyter's folders: which kernels have them, and which files are removed."""

import asyncio
import contextlib
import fcntl
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import connection_file_name
from kconnd.daemon.api import commands
from kconnd.daemon.tasks.jupyter_publishing import (
    EXTERNAL,
    Published,
    publish_for_ever,
    publish_once,
)
from tests.conftest import wait_until
from tests.daemon.fakes import LAB, House, house_in

LISTED = LAB.model_copy(update={"name": "listed", "publish": "jupyter"})
MACHINE = "0123456789abcdef"
CONNECTION = ConnectionInfo("tcp", "127.0.0.1", (1, 2, 3, 4, 5), key="k", kernel_name="fake")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path, LAB, LISTED) as house:
        yield house


def external(folder: Path) -> list[Path]:
    return sorted((folder / EXTERNAL).glob("*"))


def links(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("kernel-*.json"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def test_a_live_kernel_is_linked_and_listed_as_its_profile_says(
    house: House, tmp_path: Path
) -> None:
    folder = tmp_path / "jupyter"
    for name in ("lab", "listed"):
        await commands.start(house.request(name))
    await publish_once(house.kernels, folder)
    assert links(folder) == [connection_file_name("lab"), connection_file_name("listed")]
    (path,) = external(folder)
    content = json.loads(path.read_bytes())
    connection = house.kernels.find("listed").record.connection
    assert connection is not None
    assert (content["kconnd"], content["key"]) == ("listed", connection.key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(folder.glob(".kconnd*")) == [], "the file was moved, and has no second name"


async def test_changes_are_published_as_they_happen(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "jupyter"
    task = asyncio.create_task(publish_for_ever(house.kernels, folder))
    await commands.start(house.request("listed"))
    await wait_until(lambda: external(folder) and links(folder), "the kernel to be published")
    await commands.stop(house.request("listed"))
    await wait_until(lambda: not external(folder) and not links(folder), "its files to be removed")
    task.cancel()


async def test_a_restart_with_a_new_key_removes_the_file_with_the_old_key(
    house: House, tmp_path: Path
) -> None:
    """Also while the new shim has locked the kernel's lock file and not written its facts yet."""
    folder = tmp_path / "jupyter"
    await commands.start(house.request("listed"))
    await publish_once(house.kernels, folder)
    (before,) = external(folder)
    actor = house.kernels.find("listed")
    old = actor.record.connection
    house.launcher.hangs = True
    await commands.restart(house.request("listed", body={"new_key": True, "wait": False}))
    await wait_until(lambda: actor.record.connection != old, "the new key")
    with locked(Path(house.world.files("listed").lock)):
        await publish_once(house.kernels, folder)
    (after,) = external(folder)
    assert after != before
    assert actor.record.connection is not None
    assert json.loads(after.read_bytes())["key"] == actor.record.connection.key


def test_files_of_foreign_kernels_are_left_alone(tmp_path: Path) -> None:
    folder, runtime = tmp_path / "jupyter", tmp_path / "r"
    targets = {name: f"{runtime}/{name}.json" for name in ("ours", "theirs")}
    listed = [(name, CONNECTION, "fake") for name in targets]
    Published(folder, runtime, MACHINE).show(listed, targets)
    assert len(external(folder)) == 2
    Published(folder, runtime, MACHINE, lambda name: name == "theirs").show([], {})
    assert links(folder) == [connection_file_name("theirs")]
    assert [json.loads(path.read_bytes())["kconnd"] for path in external(folder)] == ["theirs"]


def test_links_and_files_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    folder, runtime = tmp_path / "jupyter", tmp_path / "r"
    folder.mkdir()
    names = [connection_file_name(name) for name in ("away", "lab")]
    (folder / names[0]).symlink_to("/elsewhere/away.json")
    (folder / names[1]).write_text("{}")
    published = Published(folder, runtime, MACHINE)
    published.show([], {"lab": f"{runtime}/lab.json"})
    assert (folder / names[1]).read_text() == "{}"
    published.show([], {})
    assert links(folder) == names


def test_an_error_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "jupyter"
    folder.write_text("not a folder")
    published = Published(folder, tmp_path / "r", MACHINE)
    for _ in range(2):
        published.show([("lab", CONNECTION, "fake")], {}, rescan=False)
    assert caplog.text.count("publishing kernels for Jupyter") == 1
    folder.unlink()
    published.show([("lab", CONNECTION, "fake")], {}, rescan=False)
    assert len(external(folder)) == 1
