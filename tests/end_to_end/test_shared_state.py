"""Containers that share a home and a machine-id never touch each other's kernels.

They share the boot id, too, and each has pids, /tmp and a host name of its own.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kconnd.system.files.private import is_locked
from kconnd.system.process.processes import ProcessId, is_alive, read_stat, send_signal
from tests.conftest import wait_for
from tests.end_to_end.container import CTL, SHARED, Container, needs_namespaces
from tests.end_to_end.daemon import IPYKERNEL, SMALL, Daemon, DaemonError

pytestmark = needs_namespaces


@pytest.fixture
def home(folder: Path) -> Path:
    configs = folder / ".config/kconnd/configs"
    configs.mkdir(parents=True)
    for name in ("lab", "other"):
        (configs / f"{name}.yaml").write_text(SMALL + "publish: jupyter\n", encoding="utf-8")
    return folder


@pytest.fixture
def one(home: Path) -> Iterator[Container]:
    """Give a container in which the kernel lab lives without a daemon."""
    with Container(home, "one") as container:
        container.ctl("start", "lab")
        pid = container.info("lab")["pid"]
        wait_for(lambda: list(home.glob(f"{JUPYTER}/external_kernels/*lab*")), "it to be published")
        container.kill_daemon()
        yield container
        assert container.run("kill", "-0", str(pid), code=None).returncode == 0, "lab lives"


JUPYTER = ".local/share/jupyter/runtime"


def _kernel_files(home: Path, name: str = "lab") -> dict[str, tuple[Any, ...]]:
    """Give all that is on disk of a kernel, with what tells whether it was written again."""
    folder = f".local/state/kconnd/*/kernels/{name}"
    places = (f"{folder}/*", f"{folder}/.*", f"{JUPYTER}/kernel-{name}.js*")
    found = [path for place in places for path in home.glob(place)]
    found += home.glob(f"{JUPYTER}/external_kernels/*-{name}-*")
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns, _content(path)) for path in found
    }


def _content(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else path.read_text(encoding="utf-8")


def _record(home: Path, name: str = "lab") -> Path:
    return next(home.glob(f".local/state/kconnd/*/kernels/{name}/record.json"))


def _elsewhere(container: Container) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(container.ctl("list", "--json").stdout)["elsewhere"]
    return found


def _is_refused(container: Container, verb: str, host: str = "one") -> None:
    done = container.run(*CTL, verb, "lab", code=5)
    assert f"lab is a kernel of {host}, which shares this state folder" in done.stderr


def test_another_s_kernel_is_shown_by_its_host_and_left_alone(one: Container, home: Path) -> None:
    before = _kernel_files(home)
    kinds = {Path(path).name.partition("-")[0] for path in before}
    assert kinds >= {"record.json", "log", "lock", "kernel", "kconnd"}, "all that can be touched"
    with Container(home, "two") as two:
        two.ctl("start", "other")
        assert [(row["name"], row["machine"]) for row in _elsewhere(two)] == [("lab", "one")]
        for verb in ("start", "stop", "restart", "info", "connection", "interrupt"):
            _is_refused(two, verb)
        two.ctl("reload")
        two.kill_daemon()
        two.ctl("start", "other")
        assert _kernel_files(home) == before

        done = one.run(*CTL, "start", "lab", code=6)  # the other daemon has the folder now
        assert " of two holds it" in done.stderr
        assert "another machine or container" in done.stderr
        two.kill_daemon()
    pid = json.loads(before[str(_record(home))][2])["handle"]["kernel"][0]
    one.ctl("start", "lab")
    assert one.info("lab")["pid"] == pid, "it is adopted where it lives"
    one.kill_daemon()


def _changed(**changes: Any) -> Callable[[dict[str, Any]], str]:
    def change(record: dict[str, Any]) -> str:
        for key, value in changes.items():
            part, _, field = key.partition("__")
            (record[part] if part else record)[field] = value
        return json.dumps(record)

    return change


LIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "by-the-other": _changed(origin__host="two"),
    "earlier-boot": _changed(origin__boot_id="0", origin__host="two"),
    "no-namespace": _changed(__pid_namespace="", origin__host="two"),
    "stopped": _changed(lifecycle__state="stopped", lifecycle__wanted="down"),
    "in-backoff": _changed(lifecycle__state="backoff", origin__host="two"),
    "launching": _changed(lifecycle__state="launching", origin__host="two"),
    "newer": lambda _: '{"version": 99}',
    "damaged": lambda _: "{",
    "empty": lambda _: "",
}


def test_whatever_its_record_says_a_kernel_whose_lock_is_held_is_left_alone(home: Path) -> None:
    for name in (*LIES, "gone"):
        text = SMALL + "publish: jupyter\nstart: boot\n"
        (home / f".config/kconnd/configs/{name}.yaml").write_text(text, encoding="utf-8")
    with Container(home, "one") as one, Container(home, "two") as two:
        one.ctl("start", *LIES, "gone")
        shown = [f"{JUPYTER}/external_kernels/*-{name}-*" for name in (*LIES, "gone")]
        wait_for(lambda: all(list(home.glob(place)) for place in shown), "all to be published")
        one.kill_daemon()
        for name, lie in LIES.items():
            record = _record(home, name)
            record.write_text(lie(json.loads(record.read_bytes())), encoding="utf-8")
        _record(home, "gone").unlink()
        before = {name: _kernel_files(home, name) for name in (*LIES, "gone")}
        two.ctl("start", "other")
        rows = {row["name"]: row["machine"] for row in _elsewhere(two)}
        assert rows == dict.fromkeys((*LIES, "gone"), "one")
        for verb in ("start", "stop"):
            done = two.run(*CTL, verb, *LIES, "gone", code=5)
            assert done.stderr.count("is a kernel of one, which shares this state folder") == 10
        assert {name: _kernel_files(home, name) for name in (*LIES, "gone")} == before


def test_one_that_sees_all_pids_takes_no_other_s_kernel(home: Path) -> None:
    """Containers can have the pids of their machine, and the machine itself sees all."""
    with (
        Container(home, "one", own_pids=False) as one,
        Container(home, "two", own_pids=False) as two,
    ):
        one.ctl("start", "lab")
        one.kill_daemon()
        before = _kernel_files(home)
        try:
            two.ctl("start", "other")
            _is_refused(two, "stop")
            assert _kernel_files(home) == before
        finally:
            two.ctl("stop", "other")
            two.kill_daemon("TERM")
            one.ctl("start", "lab")
            one.ctl("stop", "lab")
            one.kill_daemon("TERM")


def test_a_machine_that_was_given_another_name_keeps_its_kernels(one: Container) -> None:
    pid = _handle_pid(one)
    one.run("hostname", "renamed")
    one.ctl("start", "lab")
    assert one.info("lab")["pid"] == pid
    one.run("rm", "-r", "/tmp/kconnd-0/live")  # nor do its facts have to be there
    one.kill_daemon()
    one.ctl("start", "lab")
    assert one.info("lab")["pid"] == pid


def _handle_pid(container: Container) -> int:
    text = container.run("sh", "-c", "cat /mnt/.local/state/kconnd/*/kernels/lab/record.json")
    pid: int = json.loads(text.stdout)["handle"]["kernel"][0]
    return pid


def test_a_container_with_the_same_host_name_is_told_from_ours(one: Container, home: Path) -> None:
    assert one.host == "one"
    with Container(home, "one") as same:
        same.ctl("start", "other")
        _is_refused(same, "stop", "another container or pid namespace of one")


def test_what_ended_with_its_container_is_the_next_ones(home: Path) -> None:
    """A container that is made anew has another name, and the same home."""
    with Container(home, "one") as container:
        container.ctl("start", "lab")
        first = container.info("lab")["generation"]
    with Container(home, "two") as container:
        container.ctl("start", "lab")
        assert container.info("lab")["generation"] > first
        assert not _elsewhere(container)


def test_a_name_comes_free_when_the_other_s_kernel_has_ended(home: Path) -> None:
    with Container(home, "one") as one, Container(home, "two") as two:
        one.ctl("start", "lab")
        pid = one.info("lab")["pid"]
        one.kill_daemon()
        two.ctl("start", "other")
        _is_refused(two, "start")
        one.run("kill", "-KILL", str(pid))
        lock = _record(home).with_name("lock")
        wait_for(lambda: not is_locked(lock), "its shim to end")
        two.ctl("start", "lab")
        assert not _elsewhere(two)


@contextlib.contextmanager
def _seen_through(mount: Path, folder: Path) -> Iterator[None]:
    """Have a folder seen through a file system that carries no locks to others who see it."""
    mount.mkdir()
    subprocess.run(["/usr/bin/bindfs", str(folder), str(mount)], check=True)
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", "-l", str(mount)], check=True)


@pytest.mark.skipif(
    not Path("/usr/bin/bindfs").exists(), reason="needs bindfs: a file system without locks"
)
def test_where_locks_are_not_carried_doubt_means_elsewhere(home: Path) -> None:
    """Two daemons at a time have the folder then: neither can see that the other has it."""
    state = home / ".local/state/kconnd"
    with contextlib.ExitStack() as stack:
        views = [home.with_name(f"{home.name}-{number}") for number in (1, 2)]
        for view in views:
            stack.callback(view.rmdir)
            stack.enter_context(_seen_through(view, home))
        with Container(views[0], "one") as one, Container(views[1], "two") as two:
            one.ctl("start", "lab")
            two.ctl("start", "other")
            shown = [f"{JUPYTER}/external_kernels/*-{name}-*" for name in ("lab", "other")]
            wait_for(lambda: all(list(home.glob(place)) for place in shown), "both to be published")
            unsynced = ".local/state/kconnd/*/kernels/*/.*"
            wait_for(lambda: not list(home.glob(unsynced)), "the records to be on disk")
            before = {name: _kernel_files(home, name) for name in ("lab", "other")}
            assert [(row["name"], row["machine"]) for row in _elsewhere(two)] == [("lab", "one")]
            for verb in ("start", "stop", "restart"):
                _is_refused(two, verb)
            done = one.run(*CTL, "start", "other", code=5)  # it was free as this daemon began
            assert "other is a kernel of two" in done.stderr
            assert one.info("lab")["state"] == two.info("other")["state"] == "running"
            assert {name: _kernel_files(home, name) for name in ("lab", "other")} == before
        with Container(views[1], "three") as three:
            done = three.run(*CTL, "start", "lab", code=5)
            (folder,) = state.glob("*/kernels/lab")
            inside = SHARED / folder.relative_to(home)
            assert f"if one is gone for good, remove {inside}" in done.stderr
            three.run("rm", "-r", str(inside))
            three.ctl("start", "lab")


def _marks(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def test_a_kernel_of_our_own_that_cannot_be_found_is_left_alone(
    daemon: Daemon, request: pytest.FixtureRequest
) -> None:
    """Its record is of another launch, its facts are gone, and its lock says nothing."""
    daemon.profile("lab", SMALL + "start: boot\n")
    daemon.start()
    wait_for(lambda: daemon.state_of("lab") == "running", "it to start")
    pid, shim = daemon.info("lab")["pid"], daemon.shim_of("lab")
    kernel = ProcessId(pid, read_stat(pid)[2])
    request.addfinalizer(lambda: send_signal(shim, signal.SIGKILL))  # no record tells of it
    request.addfinalizer(lambda: send_signal(kernel, signal.SIGKILL))
    daemon.kill()
    record = json.loads(daemon.record("lab").read_bytes())
    record["handle"] |= {"shim": [1, 1], "kernel": [1, 1]}
    daemon.record("lab").write_text(json.dumps(record), encoding="utf-8")
    (daemon.runtime / "live/lab.shim.json").unlink()
    lock = daemon.record("lab").with_name("lock")
    lock.write_text("", encoding="utf-8")
    kept = [daemon.record("lab"), lock, daemon.runtime / "kernel-lab.json"]
    kept += (daemon.runtime / "ipc").iterdir()
    before = list(map(_marks, kept))
    daemon.start()
    for verb in ("start", "stop"):
        with pytest.raises(DaemonError, match="holds the lock of lab") as caught:
            daemon.post("lab", verb)
        assert "fuser" in caught.value.hint
    assert list(map(_marks, kept)) == before
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(shim), "its shim to end")
    assert daemon.post("lab", "start")["state"] == "running"


def test_another_s_kernels_that_wait_for_a_name_are_left_alone(home: Path) -> None:
    (home / ".config/kconnd/configs/warm.yaml").write_text(IPYKERNEL + "warm: 1\n", "utf-8")
    with Container(home, "one") as one, Container(home, "two") as two:
        one.ctl("start", "lab")
        states = home / ".local/state/kconnd"
        wait_for(lambda: _warm_locks(states), "a warm kernel")
        (lock,) = _warm_locks(states)
        one.kill_daemon()
        (home / ".config/kconnd/configs/warm.yaml").unlink()
        before = {path: path.lstat().st_ino for path in lock.parent.iterdir()}
        two.ctl("start", "other")
        log = next(states.glob("*/daemon.log"))
        wait_for(lambda: "it is not stopped" in log.read_text("utf-8"), "the daemon to see it")
        assert {path: path.lstat().st_ino for path in lock.parent.iterdir()} == before
        assert is_locked(lock)
        two.kill_daemon("TERM")
        one.ctl("start", "lab")
        wait_for(lambda: not lock.exists(), "it to be ended by the daemon whose it is")


def _warm_locks(states: Path) -> list[Path]:
    return list(states.glob("*/warm/*.d/lock"))
