"""The files of one kernel: what is written, restored and removed, and what a held lock protects."""

import json
import os
from pathlib import Path

import pytest

from kconnd.daemon.kernel.files import RuntimeFiles
from kconnd.errors import StillRunningError
from kconnd.system.files.private import take_lock, write_private
from tests.daemon.kernel.fakes import a_connection, make_world


@pytest.fixture
async def files(tmp_path: Path) -> RuntimeFiles:
    world = make_world(tmp_path)
    world.store.folder("lab")
    return RuntimeFiles("lab", world)


def test_a_connection_file_is_read_as_it_was_written(files: RuntimeFiles, tmp_path: Path) -> None:
    connection = a_connection(tmp_path)
    assert files.read_connection() is None
    files.write_connection(connection)
    assert files.read_connection() == connection
    assert files.connection_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_claim_restores_the_connection_file_and_keeps_the_ports(
    files: RuntimeFiles, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        write_private(files.connection_file, content)
    connection = a_connection(tmp_path, "tcp")
    files.claim(connection)
    assert files.read_connection() == connection
    ports = json.loads((tmp_path / "r" / "ports.json").read_bytes())
    assert ports == {"lab": [26001, 26002, 26003, 26004, 26005]}


def test_a_held_lock_refuses_a_launch_and_protects_all_files(
    files: RuntimeFiles, tmp_path: Path
) -> None:
    files.check_unlocked()
    connection = a_connection(tmp_path)
    files.write_connection(connection)
    held = take_lock(Path(files.paths.lock), "a shim")
    with pytest.raises(StillRunningError, match="an earlier process of the kernel holds"):
        files.check_unlocked()
    files.clean_up(connection)
    assert files.connection_file.exists()
    os.close(held)
    files.clean_up(connection)
    assert not files.connection_file.exists()
    assert not Path(files.paths.lock).exists()


def test_the_shim_s_files_stay_until_the_end_is_on_record(
    files: RuntimeFiles, tmp_path: Path
) -> None:
    sockets = [Path(path) for path in a_connection(tmp_path).socket_paths()]
    for path in (*sockets, Path(files.paths.facts), Path(files.paths.spare_exit)):
        path.touch()
    files.clean_up(a_connection(tmp_path), recorded=False)
    assert [path for path in sockets if path.exists()] == []
    assert Path(files.paths.facts).exists()
    assert Path(files.paths.spare_exit).exists()
    files.clean_up(None)
    assert not Path(files.paths.facts).exists()
    assert not Path(files.paths.spare_exit).exists()


def test_a_shim_is_identified_by_the_lock_that_is_held(files: RuntimeFiles) -> None:
    old_lock = Path(files.paths.old_lock)
    assert files.lock_to_search() == Path(files.paths.lock)
    held = take_lock(old_lock, "a shim of a version before 0.1.0")
    assert files.lock_to_search() == old_lock
    os.close(held)


def test_the_last_output_is_that_of_the_latest_process(files: RuntimeFiles) -> None:
    files.log.write_text("[kconnd: launch 1 ...]\nold\n[kconnd: launch 2 ...]\nTraceback\n")
    assert files.last_output() == "Traceback\n"


def test_what_a_disk_refuses_is_logged(
    files: RuntimeFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files.connection_file.mkdir()
    files.claim(a_connection(tmp_path))
    files.clean_up(None)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["lab", "lab"]
    assert "cleaning up after it" in caplog.text
