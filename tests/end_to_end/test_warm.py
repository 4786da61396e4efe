"""Kernels that are kept ready: what is handed over is what a start gives, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kconnd.system.process.processes import ProcessId, is_alive, send_signal
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, client, run, run_on

FORK = f"python: {sys.executable}\nlauncher: fork\n"
SMALL = f"""\
argv: [{sys.executable}, {Path(__file__).with_name("small_kernel.py")}, '{{connection_file}}']
"""
TRIALS_LIMIT_S = 120.0  # for up to five starts, each with 5 s at low priority
INSIDE = """\
import os, sys
from ipykernel.connect import get_connection_file
print([get_connection_file(), os.environ["KCONND_CONNECTION_FILE"], sys.argv[-1],
       os.environ["KCONND_KERNEL"]])
"""


def waiting(daemon: Daemon) -> dict[int, ProcessId]:
    """Give the kernels that wait for a name, by pid."""
    found = {}
    for path in (daemon.runtime / "live").glob("*~*.shim.json"):
        pid, started = json.loads(path.read_bytes())["kernel"]
        found[pid] = ProcessId(pid, started)
    return found


def wait_warm(daemon: Daemon, count: int) -> dict[int, ProcessId]:
    """Wait until so many are ready: all have their log, and have answered."""

    def ready() -> bool:
        logs = list(daemon.state.glob("warm/*.d/log"))
        texts = [log.read_text() for log in logs]
        return len(waiting(daemon)) == count == sum("--existing" in text for text in texts)

    wait_for(ready, f"{count} kernels to be warm")
    return waiting(daemon)


def start(daemon: Daemon, name: str) -> dict[str, Any]:
    daemon.post(name, "start")
    return daemon.info(name)


def start_warm(daemon: Daemon, name: str) -> dict[str, Any]:
    """Start until it was one that was ready; the last step of that cannot be seen from here."""
    found = start(daemon, name)
    assert found["launcher_note"] == "it was kept warm"
    return found


@pytest.fixture
def lab(daemon: Daemon) -> Daemon:
    daemon.profile("lab", f"{FORK}warm: 1\n")
    daemon.start()
    wait_warm(daemon, 1)
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")
    return daemon


def test_a_start_gets_one_that_knows_its_name_and_has_an_empty_namespace(lab: Daemon) -> None:
    before = waiting(lab)
    found = start_warm(lab, "lab")
    assert found["pid"] in before
    path = str(lab.runtime / "kernel-lab.json")
    assert found["connection_file"] == path
    with client(path) as attached:
        assert run_on(attached, INSIDE) == f"{[path, path, path, 'lab']}\n"
        names = run_on(attached, "print(sorted(k for k in globals() if k[0] != '_'))")
        assert "attached" not in names
        reply = attached.execute("1", reply=True, timeout=30)
        assert reply["content"]["execution_count"] == 3, "it has counted our three cells alone"
        assert run_on(attached, "%history").splitlines()[-2:] == ["1", "%history"]
        assert "__import__" not in run_on(attached, "%history")


def test_it_is_refilled_and_an_instance_gets_the_next(lab: Daemon) -> None:
    first = start_warm(lab, "lab")
    wait_for(lambda: lab.get("/v1/health")["warm"] == 1, "another one")
    second = start_warm(lab, "lab@exp1")
    assert second["pid"] != first["pid"]
    printed = run(second["connection_file"], INSIDE)
    assert "kernel-lab@exp1.json" in printed
    assert "lab~" not in printed


def test_log_exit_code_and_restart_are_those_of_any_kernel(lab: Daemon) -> None:
    start_warm(lab, "lab")
    lab.post("lab", "stop")
    wait_for(lambda: lab.get("/v1/health")["warm"] == 1, "another one")
    found = start_warm(lab, "lab")
    assert found["generation"] == 2, "though the shim takes it for its first"
    with client(found["connection_file"]) as attached:
        attached.execute("import os; os._exit(7)")
        wait_for(lambda: lab.info("lab")["generation"] == 3, "the restart")
    last = lab.info("lab")["last_exit"]
    assert (last["code"], "--existing" in last["output_tail"]) == (7, True)
    again = lab.wait_state("lab", "running")
    assert again["generation"] == 3
    assert again["connection"] == found["connection"], "it keeps its connection over a restart"
    assert run(again["connection_file"], "print(1)") == "1\n"
    wait_for(lambda: not list(lab.state.glob("warm/*[!d]~")), "its link to be gone")


def test_a_killed_daemon_loses_no_kernel_and_leaves_none_without_a_name(lab: Daemon) -> None:
    found = start_warm(lab, "lab")
    run(found["connection_file"], "kept = 42")
    left = wait_warm(lab, 1)
    lab.kill()
    assert all(is_alive(one) for one in left.values())
    lab.profile("lab", FORK)
    lab.start()
    assert not any(is_alive(one) for one in left.values())
    assert not waiting(lab)
    after = lab.info("lab")
    assert (after["pid"], after["state"]) == (found["pid"], "running")
    assert run(after["connection_file"], "print(kept)") == "42\n"
    with client(after["connection_file"]) as attached:
        attached.execute("import os; os._exit(9)")
        wait_for(lambda: lab.info("lab")["last_exit"], "the exit")
    assert lab.info("lab")["last_exit"]["code"] == 9


def test_an_exit_is_told_though_the_runtime_folder_was_cleaned(lab: Daemon) -> None:
    """Neither lock nor facts are there then: its record says that its shim lives."""
    found = start_warm(lab, "lab")
    left = wait_warm(lab, 1)
    lab.kill()
    for path in (lab.runtime / "live").iterdir():
        path.unlink()
    lab.profile("lab", FORK)
    lab.start()
    wait_for(lambda: not any(is_alive(one) for one in left.values()), "what had no name to end")
    assert lab.info("lab")["pid"] == found["pid"]
    with client(found["connection_file"]) as attached:
        attached.execute("import os; os._exit(9)")
        wait_for(lambda: lab.info("lab")["last_exit"], "the exit")
    assert lab.info("lab")["last_exit"]["code"] == 9
    wait_for(lambda: not list((lab.state / "warm").iterdir()), "nothing to be left")


@pytest.mark.parametrize("launcher", ["fork", "local"])
def test_one_whose_facts_are_gone_is_found_by_its_shim(daemon: Daemon, launcher: str) -> None:
    profile = f"python: {sys.executable}\nlauncher: {launcher}\n"
    daemon.profile("lab", f"{profile}warm: 1\n")
    daemon.start()
    left = wait_warm(daemon, 1)
    daemon.kill()
    for path in (daemon.runtime / "live").glob("*~*"):
        path.unlink()
    daemon.profile("lab", profile)
    daemon.start()
    wait_for(lambda: not any(is_alive(one) for one in left.values()), "it to end")
    wait_for(lambda: not list((daemon.state / "warm").iterdir()), "nothing to be left")
    assert not list((daemon.runtime / "ipc").iterdir())


def test_one_whose_daemon_died_before_it_learned_its_name_learns_it(lab: Daemon) -> None:
    found = start_warm(lab, "lab")
    path = found["connection_file"]
    links = [path for path in (lab.state / "warm").iterdir() if path.is_symlink()]
    link = next(path for path in links if path.resolve().name == "lab")
    assert not link.readlink().is_absolute(), "it holds where the state folder has been moved, too"
    wait_for(lambda: not link.with_name(f"{link.name}.d").exists(), "it to have learned its name")
    lab.kill()
    old = f"{lab.runtime}/live/{link.name}.connection.json"
    run(path, f"import os, sys; os.environ['KCONND_KERNEL'] = 'x'; sys.argv[-1] = {old!r}")
    link.with_name(f"{link.name}.d").mkdir()
    lab.start()
    assert lab.info("lab")["pid"] == found["pid"]
    wait_for(lambda: run(path, INSIDE) == f"{[path, path, path, 'lab']}\n", "it to be told")
    assert not link.with_name(f"{link.name}.d").exists()


def test_an_earlier_exit_does_not_pass_for_that_of_the_next(lab: Daemon) -> None:
    """Each is its own shim's first launch, so the number of that tells nothing."""
    start_warm(lab, "lab")
    lab.post("lab", "stop")
    assert lab.info("lab")["last_exit"]["code"] == 0
    wait_for(lambda: lab.get("/v1/health")["warm"] == 1, "another one")
    found = start_warm(lab, "lab")
    send_signal(lab.shim_of("lab"), signal.SIGKILL)
    os.kill(found["pid"], signal.SIGKILL)
    wait_for(lambda: lab.info("lab")["last_exit"]["code"] is None, "its end to be told")
    assert lab.info("lab")["last_exit"]["signal"] is None, "nobody saw how it ended"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to mount a file system")
def test_a_read_only_state_folder_with_one_left_keeps_no_daemon_from_starting(
    lab: Daemon,
) -> None:
    left = wait_warm(lab, 1)
    lab.kill()
    state = str(lab.state)
    subprocess.run(["/bin/mount", "--bind", state, state], check=True)
    try:
        subprocess.run(["/bin/mount", "-o", "remount,bind,ro", state], check=True)
        lab.start()
        wait_for(lambda: not any(is_alive(one) for one in left.values()), "it to end")
        wait_for(lambda: "removing its files" in lab.said(), "the log to say so")
        assert "Traceback" not in lab.said()
        lab.kill()
    finally:
        subprocess.run(["/bin/umount", "-l", state], check=True)
    lab.profile("lab", FORK)
    lab.start()
    wait_for(lambda: not list((lab.state / "warm").iterdir()), "nothing to be left")


def test_a_lost_record_still_leads_to_a_kernel_that_was_handed_over(lab: Daemon) -> None:
    found = start_warm(lab, "lab")
    run(found["connection_file"], "kept = 42")
    lab.kill()
    lab.record("lab").write_bytes(b"{")
    lab.start()
    after = lab.wait_state("lab", "running")
    assert after["pid"] == found["pid"]
    assert run(after["connection_file"], "print(kept)") == "42\n"


def test_they_end_with_the_daemon_and_leave_nothing(lab: Daemon) -> None:
    left = wait_warm(lab, 1)
    assert lab.end() == 0
    assert not any(is_alive(one) for one in left.values())
    assert not list((lab.runtime / "live").glob("*~*"))
    assert not list((lab.state / "warm").iterdir())
    assert not list((lab.runtime / "ipc").iterdir())


def test_a_changed_profile_gives_changed_kernels(lab: Daemon) -> None:
    old = waiting(lab)
    lab.profile("lab", f"{FORK}warm: 1\nenv: {{COLOUR: green}}\n")
    lab.ask("POST", "/v1/reload")
    wait_for(lambda: not any(is_alive(one) for one in old.values()), "the old one to end")
    wait_for(lambda: lab.get("/v1/health")["warm"] == 1, "a new one")
    found = start_warm(lab, "lab")
    assert run(found["connection_file"], "import os; print(os.environ['COLOUR'])") == "green\n"
    lab.profile("lab", FORK)
    lab.ask("POST", "/v1/reload")
    wait_for(lambda: not waiting(lab), "what nobody asks for any more to end")


def test_what_was_read_and_has_changed_since_is_not_handed_over(
    daemon: Daemon, folder: Path
) -> None:
    library, packages, ipython = folder / "lib", folder / "site-packages", folder / "ipython"
    profile = ipython / "profile_default"
    for place in (library, packages, profile / "startup"):
        place.mkdir(parents=True)
    (library / "mine.py").write_text("VALUE = 0")
    (profile / "startup" / "a.py").write_text("a = 0")
    daemon.profile(
        "lab",
        f"{FORK}warm: 1\npreload: [mine]\n"
        f"env: {{PYTHONPATH: '{library}:{packages}', IPYTHONDIR: '{ipython}'}}\n"
        f"cwd: {library}\n",
    )
    daemon.start()
    config = "c.IPKernelApp.exec_lines = ['c = 1']"
    changes = (
        (library / "mine.py", "VALUE = 10", "import mine; print(mine.VALUE)", "10"),
        (profile / "startup" / "a.py", "a = 20", "print(a)", "20"),
        (profile / "startup" / "b.py", "b = 30", "print(b)", "30"),
        (profile / "ipython_kernel_config.py", config, "print(c)", "1"),
        (packages / "new.dist-info", "", "print('installed')", "installed"),
        (library / "sitecustomize.py", "import sys; sys.mine = 4", "print(sys.mine)", "4"),
    )
    for number, (path, text, code, told) in enumerate(changes):
        wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")
        path.write_text(text)
        found = start(daemon, f"lab@{number}")
        assert found["launcher_note"] != "it was kept warm", path
        assert run(found["connection_file"], f"import sys; {code}") == f"{told}\n"
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")
    (library / "data.csv").write_text("anything else that comes and goes")
    start_warm(daemon, "lab")


def test_what_has_got_old_ends_without_a_start(lab: Daemon, folder: Path) -> None:
    """The regular look finds it, too."""
    library = folder / "lib"
    library.mkdir()
    (library / "mine.py").write_text("VALUE = 1")
    lab.profile("lab", f"{FORK}warm: 1\npreload: [mine]\nenv: {{PYTHONPATH: '{library}'}}\n")
    before = waiting(lab)
    lab.ask("POST", "/v1/reload")
    wait_for(lambda: not any(is_alive(one) for one in before.values()), "the first to end")
    wait_for(lambda: lab.get("/v1/health")["warm"] == 1, "another one")
    old = waiting(lab)
    (library / "mine.py").write_text("VALUE = 22")
    lab.ask("POST", "/v1/reload")  # it looks at once then
    wait_for(lambda: not any(is_alive(one) for one in old.values()), "what is old to end")


def test_an_instance_that_differs_is_not_what_is_ready(lab: Daemon) -> None:
    old = waiting(lab)
    lab.profile("lab", f"{FORK}warm: 1\nenv: {{WHICH: 'no {{instance}}'}}\n")
    lab.ask("POST", "/v1/reload")
    wait_for(lambda: not any(is_alive(one) for one in old.values()), "the old one to end")
    wait_for(lambda: lab.get("/v1/health")["warm"] == 1, "a new one")
    found = start(lab, "lab@two")
    assert found["launcher_note"] is None
    assert run(found["connection_file"], "import os; print(os.environ['WHICH'])") == "no two\n"
    assert start_warm(lab, "lab")


def test_with_tcp_the_ports_are_the_named_kernels(daemon: Daemon) -> None:
    daemon.profile("net", f"python: {sys.executable}\ntransport: tcp\nwarm: 1\n")
    daemon.start()
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")
    found = start_warm(daemon, "net")
    daemon.profile("net", f"python: {sys.executable}\ntransport: tcp\n")
    daemon.ask("POST", "/v1/reload")
    wait_for(lambda: not waiting(daemon), "the next one to end")

    def grants() -> dict[str, list[int]]:
        content: dict[str, list[int]] = json.loads((daemon.runtime / "ports.json").read_bytes())
        return content

    wait_for(lambda: list(grants()) == ["net"], "the ports of the next one to be released")
    assert found["connection"]["shell_port"] in grants()["net"]
    assert run(found["connection_file"], "print(1)") == "1\n"


def test_one_that_dies_is_replaced(lab: Daemon) -> None:
    old = waiting(lab)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: waiting(lab) and not set(waiting(lab)) & set(old), "another one")


def test_a_kernel_that_cannot_learn_its_name_has_a_path_that_leads_to_its_file(
    daemon: Daemon,
) -> None:
    daemon.profile("other", f"{SMALL}transport: ipc\nwarm: 1\n")
    daemon.start()
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")
    info = start_warm(daemon, "other")
    command = Path(f"/proc/{info['pid']}/cmdline").read_bytes().split(b"\0")
    environment = Path(f"/proc/{info['pid']}/environ").read_bytes().split(b"\0")
    path = Path(os.fsdecode(command[-2]))
    assert b"KCONND_CONNECTION_FILE=" + command[-2] in environment
    assert not [text for text in environment if text.startswith(b"KCONND_KERNEL=")]
    assert path.resolve() == Path(info["connection_file"])
    daemon.kill()
    daemon.start()
    assert daemon.wait_state("other", "running")["pid"] == info["pid"]
    assert path.resolve() == Path(info["connection_file"]), "over a restart of the daemon"
    daemon.post("other", "stop")
    wait_for(lambda: not path.is_symlink(), "the link to be removed")


def test_a_kernel_of_unknown_software_is_private_when_it_is_used(daemon: Daemon) -> None:
    """A start by itself would be on plain tcp, to measure how long it takes."""
    daemon.profile("other", f"{SMALL}warm: 1\n")
    daemon.start()
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready", TRIALS_LIMIT_S)
    info = start_warm(daemon, "other")
    assert (info["connection"]["transport"], info["warnings"]) == ("ipc", [])
    assert "answered on Unix sockets" in daemon.said()


def test_a_kernel_that_ignores_private_wires_is_kept_warm_on_plain_tcp(daemon: Daemon) -> None:
    daemon.profile("other", f"{SMALL}warm: 1\nenv: {{SMALL_KERNEL_WIRE: colon}}\n")
    daemon.start()
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready", TRIALS_LIMIT_S)
    connection = start_warm(daemon, "other")["connection"]
    assert (connection["transport"], connection["encrypted"]) == ("tcp", False)
    for evidence in ("other~", "does not encrypt"):
        assert any(evidence in line for line in daemon.said().splitlines() if "learned" in line)


def test_a_kernel_of_another_language_is_outdated_by_a_startup_file(
    daemon: Daemon, folder: Path
) -> None:
    """The kernel itself cannot say which files it has read."""
    daemon.profile("other", f"{SMALL}transport: ipc\nwarm: 1\nenv: {{HOME: '{folder}'}}\n")
    daemon.start()
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")
    (folder / ".Rprofile").write_text("x <- 1")
    assert start(daemon, "other")["launcher_note"] is None


def test_a_kernel_that_exits_at_once_is_reported_at_once(daemon: Daemon) -> None:
    argv = f"argv: [{sys.executable}, -c, 'raise SystemExit(3)', '{{connection_file}}']\n"
    daemon.profile("other", f"{argv}transport: ipc\nwarm: 1\n")
    daemon.start()
    wait_for(lambda: "it exited with code 3" in daemon.said(), "the log to say so")


def test_a_hand_over_does_not_wait_for_starts_that_take_long(lab: Daemon) -> None:
    """However many may be starting at once: those never answer."""
    many = max(4, 2 * (os.cpu_count() or 1))
    sleep = f"argv: [{sys.executable}, -c, 'import time; time.sleep(99)', '{{connection_file}}']\n"
    lab.profile("slow", f"{sleep}transport: ipc\n")
    lab.ask("POST", "/v1/reload")
    for number in range(many):
        lab.post(f"slow@{number}", "start", wait=False)
    for number in range(many):
        lab.wait_state(f"slow@{number}", "starting")
    lab.post("lab", "start", wait=False)
    wait_for(lambda: lab.state_of("lab") == "running", "it to be handed over", limit=10)
    assert lab.info("lab")["launcher_note"] == "it was kept warm"


def test_it_gives_way_to_others_until_it_is_ready(daemon: Daemon, folder: Path) -> None:
    if Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() != "1":
        pytest.skip("this Linux does not group processes by session")
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    lines = "import os, time\nnices = set()\nuntil = time.monotonic() + 20\n"
    wait = (
        "while 'nice 19' not in open('/proc/self/autogroup').read():\n"
        "    time.sleep(0.01)\n    assert time.monotonic() < until\ngave_way = True\n"
    )
    (startup / "a.py").write_text(lines + wait)
    daemon.profile("lab", f"{FORK}warm: 1\nenv: {{IPYTHONDIR: {folder / 'ipython'}}}\n")
    daemon.start()
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "it to be ready")
    found = start_warm(daemon, "lab")
    seen = "print(gave_way, open('/proc/self/autogroup').read().split()[-1])"
    assert run(found["connection_file"], seen) == "True 0\n"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_nobody_else_gets_one(lab: Daemon) -> None:
    """Even one who can reach the socket, which the folder's mode prevents by itself."""
    before = waiting(lab)
    for path in (lab.folder, lab.runtime):
        path.chmod(0o755)
    lab.socket.chmod(0o666)
    script = """
import http.client, os, socket, sys
os.setgid(65534); os.setuid(65534)
for name in ("lab", "lab@mine"):
    connection = http.client.HTTPConnection("x")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(sys.argv[1])
    connection.request("POST", f"/v1/kernels/{name}/start", "{}")
    print(connection.getresponse().status)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(lab.socket)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["403", "403"]
    assert lab.get("/v1/health")["warm"] == 1
    assert start_warm(lab, "lab")["pid"] in before
