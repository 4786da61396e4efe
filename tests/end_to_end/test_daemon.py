"""The daemon's own life: kernels outlive it, it finds them again, and nothing live is touched
by a reload."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from kconnd.daemon.api.routes import ROUTES
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Connection, Daemon, DaemonError, client, run, run_on

IPYKERNEL = f"python: {sys.executable}\n"
GIL_HOG = "import re, time; time.sleep(0.5); re.match('(a+)+$', 'a' * 64 + 'b')"
# A process that lives without being a kernel: for what needs none that answers.
MUTE = "argv: [sh, -c, 'exec sleep 1000', '{connection_file}']\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("wire", ["ipc", "tcp"])
def test_kernels_outlive_the_daemon_and_the_next_one_has_them(
    daemon: Daemon, number: int, wire: str
) -> None:
    daemon.profile("lab", IPYKERNEL + f"transport: {wire}\n")
    daemon.start()
    before = daemon.post("lab", "start")
    with client(before["connection_file"]) as attached:
        run_on(attached, "x = 'kept'")
        code = daemon.end(number)
        assert code == (0 if number != signal.SIGKILL else -signal.SIGKILL)
        assert run_on(attached, "print(x)") == "kept\n"
        daemon.start()
        after = daemon.info("lab")
        same = ("pid", "generation", "restarts", "connection", "connection_file", "state")
        assert {key: after[key] for key in same} == {key: before[key] for key in same}
        assert run_on(attached, "print(x)") == "kept\n"
    assert "adopted: pid" in daemon.said()
    os.kill(after["pid"], signal.SIGKILL)  # supervised as before
    wait_for(lambda: daemon.info("lab")["generation"] == 2, "the second launch")
    daemon.wait_state("lab", "running")


def test_a_kernel_that_ended_while_nobody_looked(daemon: Daemon) -> None:
    """Its exit is known afterwards, and its policy is applied then."""
    daemon.profile("never", IPYKERNEL + "restart: {policy: no}\n")
    daemon.profile("again", IPYKERNEL)
    daemon.start()
    pids = {name: daemon.post(name, "start")["pid"] for name in ("never", "again")}
    daemon.kill()
    os.kill(pids["never"], signal.SIGKILL)
    os.kill(pids["again"], signal.SIGABRT)
    daemon.start()
    never = daemon.wait_state("never", "failed")
    assert never["last_exit"]["signal"] == signal.SIGKILL
    again = daemon.wait_state("again", "running")
    assert (again["generation"], again["last_exit"]["signal"]) == (2, signal.SIGABRT)


def test_the_machine_restarted(daemon: Daemon) -> None:
    """A record of another boot: its kernel is lost, and only `start: boot` ones start."""
    daemon.profile("boot", IPYKERNEL + "start: boot\n")
    daemon.profile("asked", IPYKERNEL)
    daemon.start()
    pids = [daemon.wait_state("boot", "running")["pid"], daemon.post("asked", "start")["pid"]]
    daemon.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for name in ("boot", "asked"):
        path = daemon.state / "kernels" / name / "record.json"
        record = json.loads(path.read_bytes())
        record["handle"]["boot_id"] = record["origin"]["boot_id"] = "another"
        path.write_text(json.dumps(record), encoding="utf-8")
    daemon.start()
    assert daemon.wait_state("boot", "running")["generation"] == 2
    lost = daemon.info("asked")
    assert (lost["state"], lost["reason"]) == ("lost", "the machine restarted")


def test_stopping_by_hand_lasts_over_a_restart_of_the_daemon(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "start: boot\n")
    daemon.start()
    daemon.wait_state("lab", "running")
    daemon.post("lab", "stop")
    daemon.end()
    daemon.start()
    assert daemon.state_of("lab") == "stopped"


def test_stop_kernels_on_exit(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start("--stop-kernels-on-exit")
    pid = daemon.post("lab", "start")["pid"]
    assert daemon.end() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_daemon_that_nothing_needs_ends_where_it_is_told_to(daemon: Daemon) -> None:
    daemon.profile("lab", SMALL)
    daemon.start("--exit-idle=1s")
    daemon.post("lab", "start")
    assert daemon.process is not None
    with daemon.stream("/v1/events?follow=1") as told:
        assert next(told)["kernel"] == "lab"
        daemon.post("lab", "stop")
        assert daemon.process.poll() is None, "somebody is connected"
    assert daemon.process.wait(10) == 0
    assert "no kernel has been live and no client connected" in daemon.said()
    daemon.process = None


def test_only_a_kernel_makes_the_daemon_have_zmq(daemon: Daemon) -> None:
    """It is 3 of some 45 MB, which a daemon without kernels does without."""
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    assert daemon.process is not None
    memory = Path(f"/proc/{daemon.process.pid}/maps")
    assert daemon.get("/v1/kernels")
    assert "libzmq" not in memory.read_text()
    daemon.post("lab", "start")
    assert "libzmq" in memory.read_text()


def test_a_second_daemon_is_refused_and_told_who_is_there(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.process is not None
    second = subprocess.run(daemon.command(), capture_output=True, text=True, check=False)
    assert second.returncode == 1
    holder = f"kconnd, pid {daemon.process.pid} of {os.uname().nodename}"
    assert f"{holder} holds it" in second.stderr
    assert "kconnd-ctl uses the running daemon" in second.stderr
    assert daemon.get("/v1/health")["pid"] == daemon.process.pid


def test_a_stale_socket_is_replaced_and_anothers_is_not(daemon: Daemon, folder: Path) -> None:
    daemon.start()
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()
    taken = folder / "taken.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(taken))
        other.listen()
        command = daemon.command(f"--socket={taken}")
        command = [part.replace(str(daemon.runtime), f"{folder}/r2") for part in command]
        command = [part.replace(str(daemon.state), f"{folder}/s2") for part in command]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another daemon is listening there" in second.stderr


def test_a_folder_that_others_can_enter_is_refused(daemon: Daemon) -> None:
    daemon.runtime.mkdir(mode=0o755)
    refused = subprocess.run(daemon.command(), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "its mode is 0755, so others can enter it" in refused.stderr


@pytest.mark.parametrize("by", ["signal", "request"])
def test_a_reload_touches_nothing_live(daemon: Daemon, by: str) -> None:
    for name in ("same", "changed", "removed"):
        daemon.profile(name, IPYKERNEL)
    daemon.start()
    names = ("same", "changed", "removed")
    before = {name: daemon.post(name, "start")["pid"] for name in names}
    daemon.profile("changed", IPYKERNEL + "env: {NEW: '1'}\n")
    daemon.profile("added", IPYKERNEL)
    daemon.profile("broken", IPYKERNEL + "memmory: 3\n")
    (daemon.configs / "removed.yaml").unlink()
    if by == "signal":
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "profiles read again" in daemon.said(), "the reload")
    else:
        reply = daemon.ask("POST", "/v1/reload", {})
        assert (reply["added"], reply["changed"]) == (["added"], ["changed"])
        assert (reply["removed"], reply["unchanged"]) == (["removed"], 1)
        assert reply["faults"][0]["path"] == "memmory"
    found = {one["name"]: one for one in daemon.get("/v1/kernels")["kernels"]}
    assert {name: found[name]["pid"] for name in names} == before
    assert [found[name]["profile_status"] for name in names] == [
        "current",
        "changed: restart to apply",
        "orphaned",
    ]
    assert found["added"]["state"] == "stopped"
    with pytest.raises(DaemonError, match="unknown key") as caught:
        daemon.post("broken", "start")
    assert caught.value.code == "bad-profile"
    daemon.post("changed", "restart")
    assert daemon.info("changed")["profile_status"] == "current"
    code = "import os; print(os.environ['NEW'])"
    assert run(daemon.info("changed")["connection_file"], code) == "1\n"


def after(seconds: float) -> Callable[[], bool]:
    then = time.monotonic() + seconds
    return lambda: time.monotonic() > then


def test_profiles_take_effect_without_a_command(daemon: Daemon) -> None:
    daemon.watches = True
    daemon.start()
    daemon.profile("lab", SMALL + "start: boot\n")
    wait_for(lambda: "lab" in daemon.said(), "it to be seen")
    before = daemon.wait_state("lab", "running")
    daemon.profile("lab", SMALL + "env: {X: '1'}\n")
    changed = "changed: restart to apply"
    wait_for(lambda: daemon.info("lab")["profile_status"] == changed, "the change to be seen")
    (daemon.configs / "lab.yaml").unlink()
    wait_for(lambda: daemon.info("lab")["profile_status"] == "orphaned", "the removal")
    after = daemon.info("lab")
    assert (after["pid"], after["state"]) == (before["pid"], "running")


def test_a_profile_can_be_used_as_soon_as_it_is_written(daemon: Daemon) -> None:
    daemon.watches = True
    daemon.start()
    for name in ("one", "two", "three"):
        daemon.profile(name, SMALL)
        assert daemon.info(name)["state"] == "stopped"


def test_a_folder_of_profiles_may_be_changed_for_another(daemon: Daemon) -> None:
    daemon.watches = True
    daemon.profile("lab", SMALL + "start: boot\n")
    daemon.start()
    before = daemon.wait_state("lab", "running")
    daemon.configs.rename(daemon.folder / "old")
    wait_for(lambda: daemon.info("lab")["profile_status"] == "orphaned", "the removal")
    (daemon.folder / "new").mkdir()
    (daemon.folder / "new" / "more.yaml").write_text(SMALL, encoding="utf-8")
    (daemon.folder / "old" / "lab.yaml").rename(daemon.folder / "new" / "lab.yaml")
    (daemon.folder / "new").rename(daemon.configs)
    wait_for(lambda: daemon.info("lab")["profile_status"] == "current", "its return", limit=20)
    assert daemon.info("more")["state"] == "stopped"
    assert daemon.info("lab")["pid"] == before["pid"]


def test_a_file_that_is_still_being_written_is_not_acted_on(daemon: Daemon) -> None:
    """Each part by itself is a sound profile, and none but the whole is meant."""
    daemon.watches = True
    daemon.start()
    path = daemon.configs / "slow.yaml"
    parts = [SMALL, "start: boot\n", *(f"# more {n}\n" for n in range(20)), "env: {X: '1'}\n"]
    with path.open("w", encoding="utf-8") as file:
        for part in parts:
            file.write(part)
            file.flush()
            wait_for(after(0.02), "the next part")
            assert "slow" not in daemon.said()
    wait_for(lambda: "slow" in daemon.said(), "it to be seen")
    daemon.wait_state("slow", "running")
    record = json.loads(daemon.record("slow").read_bytes())
    assert record["profile"]["env"] == {"X": "1"}


def test_a_profile_for_boot_starts_when_it_appears(daemon: Daemon) -> None:
    daemon.start()
    daemon.profile("lab", IPYKERNEL + "start: boot\n")
    daemon.ask("POST", "/v1/reload", {})
    daemon.wait_state("lab", "running")


def test_the_routes_are_the_openapi_document(daemon: Daemon) -> None:
    daemon.start()
    document = daemon.get("/v1/openapi.json")
    validate(document)
    listed = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert listed == {(route.method, route.path) for route in ROUTES}
    for method, path in listed:
        if "{name}" in path:
            with pytest.raises(DaemonError) as caught:
                daemon.ask(method, path.replace("{name}", "nobody"), {"signal": "USR1"})
            assert caught.value.code == "no-such-kernel", (method, path)
    with pytest.raises(DaemonError, match="not a request of kconnd"):
        daemon.get("/v2/kernels")
    with pytest.raises(DaemonError, match="does not support the method"):
        daemon.ask("POST", "/v1/health")


# --- bad input: each gets a clear error, nothing else suffers, nothing is lost


@pytest.fixture
def busy_daemon(daemon: Daemon) -> Daemon:
    """Give a daemon with a kernel that holds something dear."""
    daemon.profile("lab", IPYKERNEL)
    daemon.profile("mute", MUTE + "startup_timeout: 1s\n")
    daemon.profile("dies", "argv: [sh, -c, 'echo boo >&2; exit 3', '{connection_file}']\n")
    daemon.profile("missing", "python: /nowhere/bin/python\n")
    daemon.profile("unknown", "kernel: no-such-spec\n")
    daemon.profile("nowhere", IPYKERNEL + "cwd: /nowhere\n")
    daemon.profile("noenv", IPYKERNEL + "env_file: /nowhere/env\n")
    daemon.profile("empty", f"argv: [{sys.executable}, -c, 'import absent', '{{connection_file}}']")
    daemon.start()
    run(daemon.post("lab", "start")["connection_file"], "dear = 1")
    return daemon


def nothing_is_lost(daemon: Daemon) -> None:
    info = daemon.info("lab")
    assert info["generation"] == 1
    assert run(info["connection_file"], "print(dear)") == "1\n"


def test_starts_that_fail_say_why(busy_daemon: Daemon) -> None:
    said = {}
    for name in ("mute", "dies", "missing", "unknown", "nowhere", "noenv", "empty"):
        with pytest.raises(DaemonError) as caught:
            busy_daemon.post(name, "start")
        assert caught.value.code == "start-failed"
        assert caught.value.hint
        said[name] = caught.value
        assert busy_daemon.info(name)["state"] == "failed"
    assert "no answer to kernel_info_request within 1 s" in said["mute"].message
    assert said["dies"].message == "starting dies: exited with code 3, before it was ready"
    assert said["dies"].output == "boo"
    assert "/nowhere/bin/python: No such file" in said["missing"].message
    assert "no-such-spec" in said["unknown"].message
    assert "entering the folder /nowhere: No such file" in said["nowhere"].message
    assert "/nowhere/env" in said["noenv"].message
    assert said["empty"].hint == "install absent in the kernel's interpreter"
    nothing_is_lost(busy_daemon)


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        *((name, (400, "usage")) for name in ("..", "a%2fb", "%2e%2e%2fx", "%00")),
        # Jupyter takes these as names of kernel specs; none has one here.
        *((name, (404, "no-such-kernel")) for name in ("a b", "x" * 50, "lab@")),
    ],
)
def test_names_that_are_none(busy_daemon: Daemon, name: str, refusal: tuple[int, str]) -> None:
    for method, verb in (("GET", ""), ("POST", "/start"), ("POST", "/stop")):
        connection = Connection(busy_daemon.socket)
        path = f"/v1/kernels/{name.replace(' ', '%20')}{verb}"
        with contextlib.closing(connection):
            connection.request(method, path)
            reply = connection.getresponse()
            error = json.loads(reply.read())["error"]
        assert (reply.status, error["code"]) == refusal
    nothing_is_lost(busy_daemon)


def test_garbage_on_the_socket(busy_daemon: Daemon) -> None:
    garbage = (
        b"\x00\xff" * 1000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
        b"POST /v1/kernels/lab/stop HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b'POST /v1/kernels/lab/stop HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"wait": ',
        b"POST /v1/kernels/lab/stop HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]",
        b'POST /v1/kernels/lab/stop HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"wait":9}',
    )
    for text in garbage:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as raw:
            raw.settimeout(20)
            raw.connect(str(busy_daemon.socket))
            with contextlib.suppress(OSError):
                raw.sendall(text)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
    nothing_is_lost(busy_daemon)


@pytest.mark.parametrize(
    ("verb", "body"),
    [("restart", {"wait": 7}), ("restart", {"new_key": "no"}), ("stop", {"wait": 7})],
)
def test_a_request_that_makes_no_sense_does_nothing(
    daemon: Daemon, verb: str, body: dict[str, object]
) -> None:
    daemon.profile("lab", SMALL)
    before = daemon.start().post("lab", "start")
    with pytest.raises(DaemonError, match="is not true or false"):
        daemon.post("lab", verb, **body)
    after = daemon.info("lab")
    same = ("pid", "state", "generation", "wanted")
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


def test_a_request_of_a_hundred_megabytes(busy_daemon: Daemon) -> None:
    size = 100 << 20
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as raw:
        raw.settimeout(20)
        raw.connect(str(busy_daemon.socket))
        head = f"POST /v1/kernels/lab/stop HTTP/1.1\r\nContent-Length: {size}\r\n\r\n"
        raw.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(100):
                raw.sendall(b"x" * (1 << 20))
        with contextlib.suppress(OSError):
            assert raw.recv(100).startswith(b"HTTP/1.1 4")
    nothing_is_lost(busy_daemon)


def test_too_many_connections_are_closed_and_the_rest_works(busy_daemon: Daemon) -> None:
    crowd = []
    for _ in range(200):
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(str(busy_daemon.socket))
        crowd.append(raw)
    wait_for(lambda: "closed another" in busy_daemon.said(), "the limit")
    for raw in crowd:
        raw.close()
    wait_for(busy_daemon.healthy, "the daemon to notice that they are gone")
    nothing_is_lost(busy_daemon)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_another_user_is_refused_everything(busy_daemon: Daemon) -> None:
    """Even one who can reach the socket, which the folder's mode prevents by itself."""
    for path in (busy_daemon.folder, busy_daemon.runtime):
        path.chmod(0o755)
    busy_daemon.socket.chmod(0o666)
    script = """
import http.client, json, os, socket, sys
os.setgid(65534); os.setuid(65534)
codes = []
for method, path in json.loads(sys.argv[2]):
    connection = http.client.HTTPConnection("x")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(sys.argv[1])
    connection.request(method, path.replace("{name}", "lab"), "{}")
    reply = connection.getresponse()
    codes.append([reply.status, json.loads(reply.read())["error"]["code"]])
print(json.dumps(codes))
"""
    asked = json.dumps([(route.method, route.path) for route in ROUTES])
    done = subprocess.run(
        [sys.executable, "-c", script, str(busy_daemon.socket), asked],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [[403, "refused"]] * len(ROUTES)
    nothing_is_lost(busy_daemon)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to mount a small file system")
def test_a_full_disk(daemon: Daemon) -> None:
    daemon.state.mkdir(mode=0o700)
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=1M,mode=700", "none", str(daemon.state)]
    subprocess.run(mount, check=True)
    try:
        daemon.profile("lab", IPYKERNEL)
        daemon.profile("other", IPYKERNEL)
        daemon.start()
        info = daemon.post("lab", "start")
        filler = daemon.state / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 4096)
        with pytest.raises(DaemonError, match="No space left on device") as caught:
            daemon.post("other", "start")
        assert "free disk space" in caught.value.hint
        with pytest.raises(DaemonError, match="No space left on device"):
            daemon.post("lab", "restart")
        assert run(info["connection_file"], "print('alive')") == "alive\n"
        filler.unlink()
        assert daemon.post("other", "start")["state"] == "running"
        for name in ("lab", "other"):
            daemon.post(name, "stop")
        daemon.end()
    finally:
        subprocess.run(["/bin/umount", "-l", str(daemon.state)], check=True)


# --- ports


def test_fixed_ports_that_are_taken(daemon: Daemon) -> None:
    ports = [23101, 23102, 23103, 23104, 23105]
    daemon.profile("lab", IPYKERNEL + f"transport: tcp\nports: {ports}\n")
    daemon.start()
    with contextlib.closing(socket.socket()) as squatter:
        squatter.bind(("127.0.0.1", ports[2]))
        squatter.listen()
        with pytest.raises(DaemonError, match="another program uses 23103") as caught:
            daemon.post("lab", "start")
        assert "ss -ltnp" in caught.value.hint
    wire = daemon.post("lab", "start")["connection"]
    assert [wire[f"{one}_port"] for one in ("shell", "iopub", "stdin", "control", "hb")] == ports


def test_a_restart_changes_ports_only_if_it_must_and_says_so(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "transport: tcp\nrestart: {backoff: 200ms}\n")
    daemon.start()
    before = daemon.post("lab", "start")
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: daemon.info("lab")["generation"] == 2, "the second launch")
    again = daemon.wait_state("lab", "running")
    assert again["connection"] == before["connection"]
    port = again["connection"]["shell_port"]

    def squats(squatter: socket.socket) -> bool:
        with contextlib.suppress(OSError):
            squatter.bind(("127.0.0.1", port))
            squatter.listen()
            return True
        return False

    with contextlib.closing(socket.socket()) as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(again["pid"], signal.SIGKILL)
        wait_for(lambda: squats(squatter), "its port to come free")
        wait_for(lambda: daemon.info("lab")["generation"] == 3, "the third launch")
        moved = daemon.wait_state("lab", "running")
    assert moved["connection"]["shell_port"] != port
    with daemon.stream("/v1/events") as events:
        assert any(event["event"] == "ports-changed" for event in events)
    assert run(moved["connection_file"], "print(1)") == "1\n"


def test_a_hundred_kernels_at_once_share_no_port(daemon: Daemon) -> None:
    """Real ipykernels on tcp: no port twice, no start that failed."""
    daemon.profile("many", IPYKERNEL + "transport: tcp\n")
    daemon.start()
    names = [f"many@{number}" for number in range(100)]
    found: dict[str, dict[str, object]] = {}

    def start(name: str) -> None:
        found[name] = daemon.post(name, "start")

    threads = [threading.Thread(target=start, args=(name,), daemon=True) for name in names]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    assert len(found) == 100, daemon.said()[-2000:]
    assert time.monotonic() - began < 150
    ports = [
        value
        for info in found.values()
        for key, value in info["connection"].items()  # type: ignore[attr-defined]  # a mapping
        if key.endswith("_port")
    ]
    assert len(set(ports)) == 500
    assert all(info["generation"] == 1 for info in found.values())
    daemon.end()
