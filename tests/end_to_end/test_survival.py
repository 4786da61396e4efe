"""What kernels live through: lost records, full and read-only disks, upgrades, cleaned folders."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kconnd
from kconnd.system.process.processes import is_alive
from tests.conftest import wait_for
from tests.end_to_end.daemon import (
    IPYKERNEL,
    SMALL,
    Daemon,
    DaemonError,
    client,
    run,
    run_on,
)

SAME = ("pid", "generation", "connection", "connection_file", "state")


def test_an_execution_under_way_gives_its_result_over_a_kill_of_the_daemon(
    daemon: Daemon,
) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    file = daemon.post("lab", "start")["connection_file"]
    gate = daemon.folder / "gate"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n6 * 7"
    with client(file) as attached:
        request = attached.execute(code)
        wait_for(lambda: daemon.info("lab")["execution_state"] == "busy", "the cell to run")
        daemon.kill()
        daemon.start()
        gate.touch()
        results: list[dict[str, Any]] = []
        while not results:
            message = attached.get_iopub_msg(timeout=30)
            if message["msg_type"] == "execute_result":
                results.append(message)
        assert results[0]["parent_header"]["msg_id"] == request
        assert results[0]["content"]["data"]["text/plain"] == "42"
        assert attached.get_shell_msg(timeout=30)["content"]["status"] == "ok"
    wait_for(lambda: daemon.info("lab")["execution_state"] == "idle", "the daemon to see it end")


# --- records


DAMAGE = {
    "empty": b"",
    "truncated": b'{"version": 1, "name": "la',
    "foreign": b'{"some": "thing else"}',
    "newer": b'{"version": 99}',
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", [*DAMAGE, "another", "gone"])
def test_a_kernel_is_found_again_without_its_record(daemon: Daemon, damage: str) -> None:
    daemon.profile("lab", IPYKERNEL + "transport: tcp\n")
    daemon.start()
    before = daemon.post("lab", "start")
    before = daemon.post("lab", "restart")
    run(before["connection_file"], "x = 'kept'")
    daemon.kill()
    record = daemon.record("lab")
    if damage == "gone":
        record.unlink()
    elif damage == "another":
        content = json.loads(record.read_bytes()) | {"name": "other"}
        record.write_text(json.dumps(content), encoding="utf-8")
    else:
        record.write_bytes(DAMAGE[damage])
    daemon.start()
    after = daemon.wait_state("lab", "running")
    assert {key: after[key] for key in SAME} == {key: before[key] for key in SAME}
    assert run(after["connection_file"], "print(x)") == "kept\n"
    wait_for(lambda: daemon.info("lab")["language"] == "python", "it to say what it is")
    aside = [path.name for path in record.parent.glob("record.bad-*")]
    assert aside == ([] if damage == "gone" else ["record.bad-1.json"])
    assert damage == "gone" or "record.bad-1.json" in daemon.said()
    daemon.post("lab", "stop")
    with pytest.raises(ProcessLookupError):
        os.kill(after["pid"], 0)


def test_a_record_that_cannot_be_read_just_now_is_left_where_it_is(daemon: Daemon) -> None:
    daemon.profile("lab", SMALL)
    daemon.start()
    pid = daemon.post("lab", "start")["pid"]
    daemon.kill()
    record = daemon.record("lab")
    aside = record.rename(record.with_name("aside"))
    before = record.with_name(".record.json.0123abcd")  # what may be needed, once it can be read
    before.write_bytes(aside.read_bytes())
    record.mkdir()  # which cannot be opened as a file, by root either
    daemon.start()
    assert daemon.wait_state("lab", "running")["pid"] == pid
    assert "the file was left in place" in daemon.said()
    assert before.exists()
    daemon.kill()
    record.rmdir()
    aside.rename(record)
    daemon.start()
    assert daemon.wait_state("lab", "running")["pid"] == pid
    assert not before.exists()


def test_nonsense_in_one_record_keeps_no_other_kernel_from_being_taken_up(daemon: Daemon) -> None:
    for name in ("lab", "odd"):
        daemon.profile(name, SMALL)
    daemon.start()
    before = daemon.post("lab", "start")
    daemon.post("odd", "start")
    daemon.kill()
    record = daemon.record("odd")
    content = json.loads(record.read_bytes())
    content["connection"]["transport"] = "pigeon"
    record.write_text(json.dumps(content), encoding="utf-8")
    daemon.start()
    assert daemon.info("lab")["pid"] == before["pid"]
    daemon.post("lab", "stop")
    daemon.ask("POST", "/v1/kernels/odd/stop")


def test_a_daemon_with_many_descriptors_takes_its_kernels_up(daemon: Daemon) -> None:
    daemon.profile("lab", SMALL)
    daemon.start()
    before = daemon.post("lab", "start")
    daemon.kill()
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
        "for _ in range(1100): os.set_inheritable(os.dup(0), True)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    daemon.start(through=(sys.executable, "-c", code))
    assert daemon.info("lab")["pid"] == before["pid"]
    daemon.post("lab", "interrupt")
    assert daemon.post("lab", "stop")["state"] == "stopped"


def test_a_kernel_whose_record_and_process_are_gone_tells_how_it_ended(daemon: Daemon) -> None:
    daemon.profile("lab", SMALL + "restart: {policy: no}\n")
    daemon.start()
    info = daemon.post("lab", "start")
    shim = daemon.shim_of("lab")
    daemon.kill()
    os.kill(info["pid"], signal.SIGABRT)
    wait_for(lambda: not is_alive(shim), "the shim to record it")
    daemon.record("lab").write_bytes(b"{")
    daemon.start()
    assert daemon.wait_state("lab", "failed")["last_exit"]["signal"] == signal.SIGABRT


def test_an_old_record_does_not_hide_a_kernel_that_lives(daemon: Daemon) -> None:
    """A state folder that was put back from a backup, say."""
    daemon.profile("lab", SMALL)
    daemon.start()
    daemon.post("lab", "start")
    daemon.post("lab", "stop")
    old = daemon.record("lab").read_bytes()
    before = daemon.post("lab", "start")
    daemon.kill()
    daemon.record("lab").write_bytes(old)
    daemon.start()
    after = daemon.wait_state("lab", "running")
    assert {key: after[key] for key in SAME} == {key: before[key] for key in SAME}


def test_a_kernel_of_another_machine_is_shown_as_there_and_never_touched(
    daemon: Daemon,
) -> None:
    """A state folder that two machines share."""
    daemon.profile("lab", SMALL)
    daemon.start()
    pid = daemon.post("lab", "start")["pid"]
    daemon.kill()
    path = daemon.record("lab")
    content = json.loads(path.read_bytes())
    content["origin"] = {"machine": "another", "host": "elsewhere", "boot_id": "b"}
    path.write_text(json.dumps(content), encoding="utf-8")
    before = path.read_bytes()
    daemon.start()
    listed = daemon.get("/v1/kernels")
    assert listed["kernels"] == []
    there = {"name": "lab", "machine": "elsewhere", "state": "running"}
    assert there.items() <= listed["elsewhere"][0].items()
    for verb in ("start", "stop", "restart", "interrupt"):
        with pytest.raises(DaemonError, match="lab is a kernel of elsewhere") as caught:
            daemon.post("lab", verb)
        assert caught.value.code == "refused"
    assert daemon.ask("POST", "/v1/reload")["faults"] == []
    assert daemon.get("/v1/profiles")["profiles"] == []
    daemon.end()
    assert path.read_bytes() == before
    os.kill(pid, 0)


def test_machines_with_one_home_see_each_others_kernels(daemon: Daemon) -> None:
    """The usual layout: a state folder for each machine, below one that all can see."""
    daemon.profile("lab", SMALL)
    states = daemon.folder / "home" / "kconnd"
    command = [part for part in daemon.command() if not part.startswith("--state-dir")]
    environment = {**os.environ, "XDG_STATE_HOME": str(daemon.folder / "home")}
    daemon.process = subprocess.Popen(command, env=environment)
    wait_for(daemon.healthy, "the daemon")
    daemon.post("lab", "start")
    (ours,) = states.glob("*/kernels/lab/record.json")
    theirs = states / "another" / "kernels" / "far" / "record.json"
    theirs.parent.mkdir(parents=True)
    content = json.loads(ours.read_bytes()) | {"name": "far"}
    content["origin"] = {"machine": "another", "host": "elsewhere", "boot_id": "b"}
    theirs.write_text(json.dumps(content), encoding="utf-8")
    (theirs.parent.parent / "bad").mkdir()
    (theirs.parent.parent / "bad" / "record.json").write_bytes(b"{")
    listed = daemon.get("/v1/kernels")
    assert [one["name"] for one in listed["kernels"]] == ["lab"]
    assert [(one["name"], one["machine"]) for one in listed["elsewhere"]] == [("far", "elsewhere")]
    with pytest.raises(DaemonError) as caught:
        daemon.info("far")
    assert caught.value.hint == "elsewhere: a kernel far runs there, with this home folder"
    assert theirs.read_text(encoding="utf-8") == json.dumps(content)


# --- disks and descriptors


@pytest.fixture
def small_disk(daemon: Daemon) -> Iterator[Path]:
    """Give the daemon a state folder with a file system of its own."""
    daemon.state.mkdir(mode=0o700)
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=1M,mode=700", "none", str(daemon.state)]
    subprocess.run(mount, check=True)
    yield daemon.state
    if daemon.process is not None:
        daemon.kill()
    subprocess.run(["/bin/umount", "-l", str(daemon.state)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 512)
    return filler


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to mount a file system")


@pytest.mark.root
@needs_root
def test_a_daemon_takes_kernels_up_from_a_full_disk(daemon: Daemon, small_disk: Path) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    before = daemon.post("lab", "start")
    run(before["connection_file"], "x = 'kept'")
    folder = daemon.record("lab").parent
    # Else what is kept until then is removed by the next daemon, which makes room for a record.
    wait_for(lambda: not [*folder.glob(".record.*")], "its record to be on disk")
    daemon.kill()
    filler = fill(small_disk)
    daemon.start()
    after = daemon.info("lab")
    assert {key: after[key] for key in SAME} == {key: before[key] for key in SAME}
    with pytest.raises(DaemonError, match="No space left"):
        daemon.post("lab", "restart")
    assert run(after["connection_file"], "print(x)") == "kept\n"
    filler.unlink()
    assert daemon.post("lab", "stop")["state"] == "stopped"


@pytest.mark.root
@needs_root
def test_a_read_only_state_folder(daemon: Daemon, small_disk: Path) -> None:
    """Whether it becomes so under a daemon, or is so when one starts."""
    daemon.profile("lab", IPYKERNEL)
    daemon.profile("other", SMALL)
    daemon.start()
    before = daemon.post("lab", "start")
    run(before["connection_file"], "x = 'kept'")
    for moment in ("while it runs", "when it starts"):
        # The lock and the log stay open for writing; MS_RDONLY is refused while they are, so
        # the folder is seen through a read-only mount of its own.
        subprocess.run(["/bin/mount", "--bind", str(small_disk), str(small_disk)], check=True)
        subprocess.run(["/bin/mount", "-o", "remount,bind,ro", str(small_disk)], check=True)
        try:
            if moment == "when it starts":
                daemon.kill()
                daemon.start()
            for verb, name in (("start", "other"), ("restart", "lab")):
                with pytest.raises(DaemonError, match="Read-only file system") as caught:
                    daemon.post(name, verb)
                assert "permissions" in caught.value.hint
            assert daemon.info("lab")["pid"] == before["pid"]
            assert run(before["connection_file"], "print(x)") == "kept\n"
        finally:
            subprocess.run(["/bin/umount", "-l", str(small_disk)], check=True)
        assert daemon.post("other", "start")["state"] == "running"
        daemon.post("other", "stop")
    assert daemon.post("lab", "stop")["state"] == "stopped"


def test_without_file_descriptors_nothing_more_starts_and_the_rest_goes_on(
    daemon: Daemon,
) -> None:
    daemon.profile("lab", SMALL)
    limited = ("/bin/sh", "-c", 'ulimit -n 220; exec "$0" "$@"')
    daemon.start(through=limited)
    started: list[str] = []

    def start_many() -> None:
        for number in range(20):
            daemon.post(f"lab@{number}", "start")
            started.append(f"lab@{number}")

    with pytest.raises(DaemonError, match="of its 220 file descriptors") as caught:
        start_many()
    assert "ulimit" in caught.value.hint
    assert len(started) > 4
    with contextlib.ExitStack() as crowd:
        for _ in range(100):  # connections are what the reserve is for
            crowd.enter_context(daemon.stream("/v1/events?follow=1"))
        assert all(daemon.state_of(name) == "running" for name in started)
    wait_for(daemon.healthy, "the daemon")
    for name in started[:4]:  # libzmq takes some for the first of these, and a spare shim two
        daemon.post(name, "stop")
    assert daemon.post("lab@new", "start")["state"] == "running"
    daemon.kill()
    daemon.start(through=limited)
    assert daemon.state_of(started[4]) == "running"


# --- logs


def test_output_is_kept_and_rotated_while_no_daemon_runs(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "log: {max_size: 64K, keep: 2}\n")
    daemon.start()
    file = daemon.post("lab", "start")["connection_file"]
    daemon.kill()
    say = "import os\nfor n in range(40_000): os.write(1, b'line %06d\\n' % n)"
    with client(file) as attached:
        run_on(attached, say)  # which a full pipe would block
    folder = daemon.record("lab").parent
    wait_for(lambda: (folder / "log").read_bytes().endswith(b"line 039999\n"), "the last line")
    logs = [folder / name for name in ("log.2", "log.1", "log")]
    assert [path.stat().st_size <= 64 << 10 for path in logs] == [True] * 3
    assert sorted(path.name for path in folder.glob("log*")) == ["log", "log.1", "log.2"]
    text = b"".join(path.read_bytes() for path in logs)
    numbers = [int(line[5:]) for line in text.splitlines()[1:]]
    assert numbers == list(range(numbers[0], 40_000)), "no line is missing between files"


# --- the runtime folder


def test_a_cleaned_up_runtime_folder_is_mended(daemon: Daemon) -> None:
    """By somebody's tidy script, while everything runs."""
    daemon.profile("lab", IPYKERNEL + "transport: tcp\n")
    daemon.profile("sock", SMALL)
    daemon.start()
    before = daemon.post("lab", "start")
    daemon.post("sock", "start")
    ports = (daemon.runtime / "ports.json").read_bytes()
    shutil.rmtree(daemon.runtime)
    wait_for(daemon.healthy, "the socket to be there again")
    wait_for(Path(before["connection_file"]).exists, "the connection file to be there again")
    assert run(before["connection_file"], "print(6 * 7)") == "42\n"
    assert (daemon.runtime / "ports.json").read_bytes() == ports
    wait_for(lambda: daemon.info("sock")["warnings"], "the warning")
    assert "no new client can attach until it is restarted" in daemon.info("sock")["warnings"][0]
    assert daemon.post("sock", "restart")["warnings"] == []
    daemon.kill()
    daemon.start()
    assert daemon.info("lab")["pid"] == before["pid"]


def test_a_tidied_folder_of_a_daemon_that_is_away(daemon: Daemon) -> None:
    """Nothing but the records is left; the kernels are the same ones."""
    daemon.profile("lab", IPYKERNEL + "transport: tcp\n")
    daemon.start()
    before = daemon.post("lab", "start")
    run(before["connection_file"], "x = 'kept'")
    daemon.kill()
    for path in sorted(daemon.runtime.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    daemon.start()
    after = daemon.info("lab")
    assert {key: after[key] for key in SAME} == {key: before[key] for key in SAME}
    assert run(after["connection_file"], "print(x)") == "kept\n"
    daemon.post("lab", "stop")


# --- upgrades


def test_an_upgrade_that_replaces_every_file(daemon: Daemon, tmp_path: Path) -> None:
    """The old program is gone from the disk, the shim that it started lives on."""
    old = tmp_path / "old" / "kconnd"
    shutil.copytree(Path(kconnd.__file__).parent, old)
    (old / "__init__.py").write_text('__version__ = "0.0.1"\n', encoding="utf-8")
    daemon.profile("lab", IPYKERNEL)
    daemon.start(env={**os.environ, "PYTHONPATH": str(old.parent)}, cwd=old.parent)
    assert daemon.get("/v1/health")["version"] == "0.0.1"
    before = daemon.post("lab", "start")
    run(before["connection_file"], "x = 'kept'")
    daemon.end()
    shutil.rmtree(old)
    daemon.start()
    assert daemon.get("/v1/health")["version"] == kconnd.__version__
    after = daemon.info("lab")
    assert {key: after[key] for key in SAME} == {key: before[key] for key in SAME}
    assert run(after["connection_file"], "print(x)") == "kept\n"
    os.kill(after["pid"], signal.SIGABRT)
    wait_for(lambda: daemon.info("lab")["generation"] == 2, "the restart")
    assert daemon.wait_state("lab", "running")["last_exit"]["signal"] == signal.SIGABRT


def test_a_silent_kernel_is_adopted_and_called_unresponsive(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "heartbeat: {interval: 1s}\n")
    daemon.start()
    before = daemon.post("lab", "start")
    os.kill(before["pid"], signal.SIGSTOP)
    daemon.kill()
    daemon.start()
    after = daemon.info("lab")
    assert {key: after[key] for key in SAME} == {key: before[key] for key in SAME}
    assert (after["execution_state"], after["heartbeat"]["state"]) == ("unknown", "unknown")
    wait_for(
        lambda: daemon.info("lab")["heartbeat"]["state"] == "unresponsive", "it to be called so"
    )
    after = daemon.info("lab")
    assert (after["state"], after["pid"]) == ("running", before["pid"])
    assert "long computation" in after["reason"]
    os.kill(before["pid"], signal.SIGCONT)
    wait_for(lambda: daemon.info("lab")["heartbeat"]["state"] == "alive", "the all-clear")


def test_a_heartbeat_is_enough_of_a_sign_of_life(daemon: Daemon) -> None:
    """A cell that holds the GIL: neither control nor shell is answered."""
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    before = daemon.post("lab", "start")
    gate = daemon.folder / "gate"
    with client(before["connection_file"]) as attached:
        attached.execute(f"import re; open({str(gate)!r}, 'w'); re.match('(a+)+$', 'a' * 64 + 'b')")
        wait_for(gate.exists, "the cell to run")
        daemon.kill()
        daemon.start()
        wait_for(lambda: daemon.info("lab")["heartbeat"]["state"] == "alive", "a heartbeat")
        after = daemon.info("lab")
        assert (after["state"], after["execution_state"]) == ("running", "unknown")
        assert (after["pid"], after["reason"]) == (before["pid"], before["reason"])


@pytest.mark.parametrize("name", ["lab", "lab@one"])
def test_a_shim_that_is_killed_takes_no_kernel_with_it(daemon: Daemon, name: str) -> None:
    daemon.profile("lab", IPYKERNEL + "restart: {policy: no}\n")
    daemon.start()
    before = daemon.post(name, "start")
    run(before["connection_file"], "x = 'kept'")
    os.kill(daemon.shim_of(name).pid, signal.SIGKILL)
    daemon.kill()
    daemon.start()
    assert daemon.info(name)["pid"] == before["pid"]
    assert run(before["connection_file"], "print(x)") == "kept\n"
    os.kill(before["pid"], signal.SIGKILL)
    lost = daemon.wait_state(name, "lost")
    assert (lost["last_exit"]["code"], lost["last_exit"]["signal"]) == (None, None)
