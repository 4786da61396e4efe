"""The main job on real kernels: a profile becomes a kernel that clients reach by its file."""

import json
import os
import queue
import signal
import stat
import sys
import time
from pathlib import Path

import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from kconnd.core.launch.connection import CHANNELS
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL_KERNEL, Daemon, DaemonError, begin, client, run, run_on

WIRES = {
    "ipc": "transport: ipc",
    "tcp": "transport: tcp\nencryption: none",
    "curve": "transport: tcp\nencryption: curve",
    "ipv6": "transport: tcp\nencryption: none\nip: '::1'",
}
IPYKERNEL = f"python: {sys.executable}\n"
BASH = f"argv: [{sys.executable}, -m, bash_kernel, -f, '{{connection_file}}']\n"
# It sleeps first, since a kernel whose GIL is held cannot even say that it is busy.
GIL_HOG = "import re, time; time.sleep(0.5); re.match('(a+)+$', 'a' * 64 + 'b')"
PRINT = {IPYKERNEL: ("x = 6 * 7; print(x)", "python"), BASH: ("echo $((6 * 7))", "bash")}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("kind", [IPYKERNEL, BASH], ids=["ipykernel", "bash"])
def test_a_profile_becomes_a_kernel(daemon: Daemon, kind: str, wire: str) -> None:
    daemon.profile("lab", kind + WIRES[wire])
    daemon.start()
    info = daemon.post("lab", "start")
    code, language = PRINT[kind]
    assert (info["state"], info["language"]) == ("running", language)
    assert info["connection"]["encrypted"] is (wire == "curve")
    assert run(info["connection_file"], code).strip() == "42"
    check_file(daemon, info["connection_file"], wire)
    assert daemon.post("lab", "stop")["state"] == "stopped"
    assert not Path(info["connection_file"]).exists()
    assert not list((daemon.runtime / "ipc").iterdir())


def check_file(daemon: Daemon, path: str, wire: str) -> None:
    """The connection file: private, complete, and what the daemon gives to those who may."""
    found = os.lstat(path)
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) & 0o777 == 0o700
    content = json.loads(Path(path).read_bytes())
    ports = {f"{name}_port" for name in ("shell", "iopub", "stdin", "control", "hb")}
    fields = {"ip", "key", "transport", "signature_scheme", "kernel_name", *ports}
    curve = {"curve_publickey", "curve_secretkey"} if wire == "curve" else set()
    assert content.keys() >= fields | curve
    assert len(content["key"]) == 44
    given = daemon.get("/v1/kernels/lab/connection")
    assert {key: content[key] for key in given} == given
    shown = json.dumps(daemon.info("lab")) + daemon.said() + Path(f"{daemon.state}").name
    for secret in ("key", *curve):
        assert content[secret] not in shown


def test_every_installed_kernel_spec_is_a_profile(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.get("/v1/kernels") == {
        "kernels": [],
        "elsewhere": [],
        "shared": [],
        "faulty_profiles": 0,
    }
    info = daemon.post("python3", "start")
    assert (info["kernel_name"], info["state"]) == ("python3", "running")


def test_instances_of_one_profile_are_kernels_of_their_own(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "env: {WHO: 'i am {instance}'}\n")
    daemon.start()
    for name in ("lab", "lab@exp1", "lab@exp2"):
        daemon.post(name, "start")
    code = "import os; print(os.environ['WHO'])"
    said = {name: run(daemon.info(name)["connection_file"], code) for name in ("lab", "lab@exp1")}
    assert said == {"lab": "i am \n", "lab@exp1": "i am exp1\n"}
    names = [kernel["name"] for kernel in daemon.get("/v1/kernels")["kernels"]]
    assert names == ["lab", "lab@exp1", "lab@exp2"]


def test_a_restart_keeps_name_file_ports_and_key_and_an_attached_client(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + WIRES["tcp"])
    daemon.start()
    before = daemon.post("lab", "start")
    content = Path(before["connection_file"]).read_bytes()
    with client(before["connection_file"]) as attached:
        run_on(attached, "x = 1")
        after = daemon.post("lab", "restart")
        assert after["pid"] != before["pid"]
        assert (after["generation"], after["restarts"]) == (2, 1)
        assert after["connection"] == before["connection"]
        assert Path(after["connection_file"]).read_bytes() == content
        attached.wait_for_ready(timeout=30)
        assert run_on(attached, "print('x' in globals())") == "False\n"


def make_spec(folder: Path, name: str, *argv: str) -> None:
    spec = folder / "kernels" / name
    spec.mkdir(parents=True)
    content = {"argv": [sys.executable, *argv], "display_name": name, "language": name}
    (spec / "kernel.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_shared_kernel_is_not_in_the_clear_unless_told_to(daemon: Daemon, folder: Path) -> None:
    """The small kernel ignores CURVE keys; everybody could read its iopub channel."""
    make_spec(folder, "plain", str(SMALL_KERNEL), "{connection_file}")
    profile = "kernel: plain\naccess: {connect: [eve]}\nrestart: {policy: no}\n"
    daemon.profile("small", profile)
    daemon.start(env={**os.environ, "JUPYTER_PATH": str(folder)})
    with pytest.raises(DaemonError) as refused:
        daemon.post("small", "start")
    assert "it does not encrypt its channels" in refused.value.message
    assert "encryption: none" in refused.value.hint
    assert "every user of the machine may read" in refused.value.hint
    daemon.profile("small", profile + "encryption: none\n")
    daemon.ask("POST", "/v1/reload")
    wire = daemon.post("small", "start")["connection"]
    assert (wire["transport"], wire["encrypted"]) == ("tcp", False)


def test_a_shared_kernel_that_is_built_on_ipykernel_is_encrypted(
    daemon: Daemon, folder: Path
) -> None:
    make_spec(folder, "bashful", "-m", "bash_kernel", "-f", "{connection_file}")
    daemon.profile("bash", "kernel: bashful\naccess: {connect: [eve]}\n")
    daemon.start(env={**os.environ, "JUPYTER_PATH": str(folder)})
    wire = daemon.post("bash", "start")["connection"]
    assert (wire["transport"], wire["encrypted"]) == ("tcp", True)


@pytest.mark.parametrize("wire", ["ipc", "tcp"])
def test_a_new_key_revokes_the_old_one(daemon: Daemon, wire: str) -> None:
    daemon.profile("lab", IPYKERNEL + f"transport: {wire}\n")
    daemon.start()
    info = daemon.post("lab", "start")
    old = json.loads(Path(info["connection_file"]).read_bytes())
    daemon.post("lab", "restart", new_key=True)
    new = json.loads(Path(info["connection_file"]).read_bytes())
    assert new["key"] != old["key"]
    assert all(new[f"{name}_port"] == old[f"{name}_port"] for name in CHANNELS)
    assert wire == "ipc" or new["curve_secretkey"] != old["curve_secretkey"]
    stale = BlockingKernelClient()
    stale.load_connection_info(old)
    stale.start_channels()
    stale.kernel_info()
    with pytest.raises(queue.Empty):
        stale.get_shell_msg(timeout=2)
    stale.stop_channels()
    stale.context.term()
    daemon.post("lab", "stop")
    daemon.post("lab", "start")
    third = json.loads(Path(info["connection_file"]).read_bytes())
    assert third["key"] not in {old["key"], new["key"]}


def test_interrupt_reaches_a_running_cell(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    info = daemon.post("lab", "start")
    with client(info["connection_file"]) as attached:
        begin(attached, "import time; print('begun'); time.sleep(1000)")
        daemon.post("lab", "interrupt")
        reply = attached.get_shell_msg(timeout=20)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
    wait_for(lambda: daemon.info("lab")["execution_state"] == "idle", "it to be idle again")


def test_a_signal_reaches_the_kernel(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    info = daemon.post("lab", "start")
    code = "import signal; signal.signal(signal.SIGUSR1, lambda *_: print('got it'))"
    run(info["connection_file"], code)
    daemon.post("lab", "signal", signal="USR1")
    run(info["connection_file"], "pass")
    with pytest.raises(DaemonError, match="'NOPE' is not a signal") as caught:
        daemon.post("lab", "signal", signal="NOPE")
    assert caught.value.code == "usage"


def test_death_is_seen_at_once_and_the_policy_follows(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "restart: {backoff: 200ms, max_failures: 1}\n")
    daemon.start()
    first = daemon.post("lab", "start")
    with daemon.stream("/v1/events?follow=1&kernel=lab") as events:
        began = time.monotonic()
        os.kill(first["pid"], signal.SIGKILL)
        seen = next(event for event in events if event["event"] == "backoff")
        assert time.monotonic() - began < 1.0  # a poll every 3 s would show here
    assert "killed by SIGKILL" in seen["message"]
    again = daemon.wait_state("lab", "running")
    assert (again["restarts"], again["generation"]) == (1, 2)
    assert again["last_exit"]["signal"] == signal.SIGKILL
    os.kill(again["pid"], signal.SIGKILL)
    failed = daemon.wait_state("lab", "failed")
    assert failed["reason"] == "killed by SIGKILL; 2 failures in a row"
    reasons = [one["reason"] for one in daemon.get("/v1/kernels/lab/why")["decisions"]]
    assert "start was requested" in reasons
    assert failed["reason"] in reasons
    assert daemon.post("lab", "start")["state"] == "running"


def test_a_kernel_that_will_not_go_is_ended_step_by_step(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "stop_timeout: 1s\n")
    daemon.start()
    info = daemon.post("lab", "start")
    stubborn = (
        "import signal, subprocess\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['setsid', 'sleep', '1000'])\n"
        "print(child.pid)"
    )
    child = int(run(info["connection_file"], stubborn))
    with client(info["connection_file"]) as attached:
        attached.execute(GIL_HOG)
        wait_for(lambda: daemon.info("lab")["execution_state"] == "busy", "the cell to run")
        stopped = daemon.post("lab", "stop")
    assert stopped["reason"] == "stop was requested; it took SIGKILL"
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_missed_heartbeats_are_reported_and_end_nothing(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "heartbeat: {interval: 1s, misses: 1}\n")
    daemon.start()
    pid = daemon.post("lab", "start")["pid"]
    wait_for(lambda: daemon.info("lab")["heartbeat"]["state"] == "alive", "a heartbeat")
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: daemon.info("lab")["heartbeat"]["state"] == "unresponsive", "the alarm")
    assert daemon.state_of("lab") == "running"
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: daemon.info("lab")["heartbeat"]["state"] == "alive", "the all-clear")
    assert daemon.info("lab")["pid"] == pid


def test_the_environment_is_the_profiles(daemon: Daemon, folder: Path) -> None:
    (folder / "env").write_text("FROM_FILE=f\nBOTH=file\n", encoding="utf-8")
    daemon.profile(
        "lab",
        IPYKERNEL + f"env: {{BOTH: profile, HERE: '${{HOME}}/x'}}\nenv_file: {folder}/env\n"
        f"cwd: {folder}\nshell: login\nsetup: [export FROM_SETUP=s]\n",
    )
    daemon.start(env={**os.environ, "JPY_PARENT_PID": "1", "ONLY_MINE": "x"})
    info = daemon.post("lab", "start")
    code = "import os, json; print(json.dumps([dict(os.environ), os.getcwd()]))"
    env, cwd = json.loads(run(info["connection_file"], code))
    home = str(Path.home())
    assert (env["FROM_FILE"], env["BOTH"], env["FROM_SETUP"]) == ("f", "profile", "s")
    assert (env["HERE"], cwd) == (f"{home}/x", str(folder))
    assert env["KCONND_CONNECTION_FILE"] == info["connection_file"]
    assert not {"JPY_PARENT_PID", "ONLY_MINE"} & env.keys()


def test_an_idle_kernel_is_let_go_but_not_from_under_a_client(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "idle: {stop_after: 1s}\nheartbeat: {interval: 1s}\n")
    daemon.start()
    info = daemon.post("lab", "start")
    with client(info["connection_file"]) as attached:
        run_on(attached, "x = 1")
        attached.execute("import time; time.sleep(3)")
        attached.get_shell_msg(timeout=20)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 3, "three idle seconds with a client")
        assert daemon.info("lab")["clients"] == 1
        assert daemon.state_of("lab") == "running"
    stopped = daemon.wait_state("lab", "stopped")
    assert stopped["reason"] == "nothing ran for 1s and no client is connected"


def test_logs_are_there_in_full_and_as_they_come(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "log: {max_size: 4K, keep: 1}\n")
    daemon.start()
    info = daemon.post("lab", "start")
    shout = "import os; os.write(2, b'{}\\n')"
    with daemon.stream("/v1/kernels/lab/logs?follow=1&lines=1") as texts:
        next(texts)
        run(info["connection_file"], shout.format("first"))
        wait_text(texts, "first")
        for number in range(60):
            run(info["connection_file"], shout.format("x" * 100 + str(number)))
        wait_text(texts, "x59")
    log = Path(info["log_file"])
    assert log.with_name("log.1").exists()
    assert not log.with_name("log.2").exists()
    assert log.stat().st_size <= 4096
    with daemon.stream("/v1/kernels/lab/logs?lines=2") as texts:
        assert next(texts)["text"].count("\n") == 2


def wait_text(texts: object, wanted: str) -> None:
    seen = ""
    for piece in texts:  # type: ignore[attr-defined]  # an iterator of JSON lines
        seen += piece["text"]
        if wanted in seen:
            return


def test_a_stranger_without_keys_reads_nothing(daemon: Daemon) -> None:
    """With CURVE a bare subscriber gets nothing; over plain tcp it would get all output."""
    for name, wire in (("open", "tcp"), ("closed", "curve")):
        daemon.profile(name, IPYKERNEL + WIRES[wire])
    daemon.start()
    context = zmq.Context()
    for name, readable in (("open", True), ("closed", False)):
        info = daemon.post(name, "start")
        spy = context.socket(zmq.SUB)
        spy.linger = 0
        spy.subscribe(b"")
        spy.connect(f"tcp://127.0.0.1:{info['connection']['iopub_port']}")
        run(info["connection_file"], "import time; time.sleep(0.5); print('secret')")
        assert bool(spy.poll(1000)) is readable
        assert bool(info["warnings"]) is readable
        spy.close()
    context.term()


def test_interrupt_by_message_where_the_spec_asks_for_it(daemon: Daemon, folder: Path) -> None:
    """A kernel spec of the user's own, in a mode in which no signal may be sent."""
    spec = folder / "kernels/deaf"
    spec.mkdir(parents=True)
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    launch = f"{ignore}; from ipykernel.kernelapp import launch_new_instance as go; go()"
    content = {
        "argv": [sys.executable, "-c", launch, "-f", "{connection_file}"],
        "display_name": "Deaf",
        "language": "python",
        "interrupt_mode": "message",
        "env": {"FROM_SPEC": "${HOME}"},
    }
    (spec / "kernel.json").write_text(json.dumps(content), encoding="utf-8")
    daemon.start(env={**os.environ, "JUPYTER_PATH": str(folder)})
    info = daemon.post("deaf", "start")
    assert info["connection"]["transport"] == "tcp"  # it is not one that is known to speak ipc
    with client(info["connection_file"]) as attached:
        assert run_on(attached, "import os; print(os.environ['FROM_SPEC'])").startswith("/")
        attached.execute("import signal; signal.signal(2, signal.default_int_handler)")
        begin(attached, "import time; print('begun'); time.sleep(1000)")
        wait_for(lambda: daemon.info("deaf")["execution_state"] == "busy", "it to be told")
        daemon.post("deaf", "interrupt")
        wait_for(lambda: daemon.info("deaf")["execution_state"] == "idle", "the interrupt")


def test_ports_come_from_the_range_that_was_given(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL + "transport: tcp\n")
    daemon.profile("own", IPYKERNEL + "transport: tcp\nports: 25200-25209\n")
    daemon.start("--ports", "25100-25109")
    for name, first in (("lab", 25100), ("own", 25200), ("lab@2", 25100)):
        wire = daemon.post(name, "start")["connection"]
        ports = {value for key, value in wire.items() if key.endswith("_port")}
        assert ports <= set(range(first, first + 10))
    with pytest.raises(DaemonError, match="only 0 of 5 are free in the range") as caught:
        daemon.post("lab@3", "start")
    assert "a wider range" in caught.value.hint
