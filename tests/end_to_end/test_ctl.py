"""kconnd-ctl as a person and a program use it: real commands on a real daemon."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli.grammar import VERBS
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, run

CTL = (sys.executable, "-W", "error", "-m", "kconnd.cli.main")
IPYKERNEL = f"python: {sys.executable}\n"
QUICK = "argv: [sh, -c, 'exit 3', '{connection_file}']\n"


class Done:
    """What a command did."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ctl(daemon: Daemon, *arguments: str, **more: Any) -> Done:
    env = {**os.environ, "KCONND_SOCKET": str(daemon.socket)}
    return Done(
        subprocess.run(
            [*CTL, *arguments], capture_output=True, text=True, check=False, env=env, **more
        )
    )


@pytest.fixture
def lab(daemon: Daemon) -> Daemon:
    daemon.profile("lab", IPYKERNEL)
    daemon.profile("quick", QUICK)
    return daemon.start()


def test_help_is_there_for_everything(daemon: Daemon) -> None:
    overview = ctl(daemon, "--help")
    assert overview.code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb}\b", overview.out, re.MULTILINE), verb
        shown = ctl(daemon, verb, "--help")
        assert shown.code == 0
        assert shown.out.startswith(f"usage: kconnd-ctl {verb}")
        assert "--json" in shown.out
        assert ctl(daemon, "help", verb).out == shown.out
    assert ctl(daemon, "--version").out.startswith("kconnd-ctl ")
    assert ctl(daemon).code == 2


def test_exit_codes_and_errors(lab: Daemon, folder: Path) -> None:
    cases = {
        2: ["lsit"],
        3: ["interrupt", "lab"],
        4: ["info", "nobody"],
        6: ["--socket", str(folder / "none"), "info", "lab"],
        1: ["start", "quick"],
    }
    for code, arguments in cases.items():
        done = ctl(lab, *arguments)
        assert (done.code, done.out) == (code, ""), arguments
        sentence, *_, hint = done.err.splitlines()
        assert sentence.startswith("kconnd-ctl: ")
        assert hint.startswith("  ")
    assert "did you mean 'list'?" in ctl(lab, "lsit").err
    assert ctl(lab, "info").code == 2
    assert ctl(lab, "signal", "lab").code == 2


def test_the_first_failure_decides_and_all_are_tried(lab: Daemon) -> None:
    done = ctl(lab, "start", "nobody", "quick", "lab")
    assert done.code == 4
    assert done.out.startswith("lab is ready: ")
    assert "there is no kernel nobody" in done.err
    assert "exited with code 3" in done.err


def test_json_is_json_and_nothing_else(lab: Daemon) -> None:
    started = ctl(lab, "start", "lab", "--json")
    assert started.json["kernels"][0]["state"] == "running"
    info = ctl(lab, "info", "lab", "--json").json
    assert info.keys() >= FIELDS
    assert {"transport", "ip", "signature_scheme", "encrypted"} <= info["connection"].keys()
    assert "key" not in info["connection"]
    assert [one["name"] for one in ctl(lab, "info", "la*", "--json").json] == ["lab"]
    assert {one["name"] for one in ctl(lab, "list", "--json").json["kernels"]} == {"lab", "quick"}
    assert ctl(lab, "why", "lab", "--json").json["decisions"]
    assert len(ctl(lab, "connection", "lab").json["key"]) == 44
    assert ctl(lab, "profiles", "--json").json["faults"] == []
    assert ctl(lab, "reload", "--json").json["unchanged"] == 2
    assert ctl(lab, "health", "--json").json["running"] == 1
    assert ctl(lab, "doctor", "--json").json["findings"]
    assert ctl(lab, "schema").json["title"] == "A file of kconnd profiles"
    assert ctl(lab, "check", "--json", str(lab.configs)).json["faults"] == []
    for line in ctl(lab, "events", "--json").out.splitlines():
        assert json.loads(line)["kernel"] == "lab"
    for line in ctl(lab, "logs", "lab", "--json").out.splitlines():
        assert json.loads(line)["name"] == "lab"
    assert ctl(lab, "wait", "lab", "--json").json["kernels"][0]["state"] == "running"
    stopped = ctl(lab, "stop", "lab", "--json")
    assert stopped.json["kernels"][0]["state"] == "stopped"


FIELDS = {
    *("name", "profile", "owner", "state", "wanted", "pid", "generation", "restarts"),
    *("started_at", "ready_after", "launcher", "kernel_name", "language", "connection_file"),
    *("connection", "heartbeat", "execution_state", "last_activity", "last_exit", "log_file"),
}


def test_text_is_for_people(lab: Daemon) -> None:
    assert ctl(lab, "start", "lab").out.startswith("lab is ready: ")
    head, row, *_ = ctl(lab, "list").out.splitlines()
    assert head.split() == ["NAME", "STATE", "PID", "MEMORY", "IDLE", "UP", "RESTARTS", "NOTE"]
    assert re.match(r"lab +running +\d+ +[\d.]+M +\ds +\ds +0", row)
    shown = ctl(lab, "info", "lab").out
    assert re.search(r"state  running \(it answered kernel_info_request\)", shown)
    assert "closed to other users" in shown
    key = ctl(lab, "connection", "lab").json["key"]
    assert key not in shown
    assert "start was requested" in ctl(lab, "why", "lab").out
    assert "lab  starting → running" in ctl(lab, "events").out
    assert ctl(lab, "restart", "lab").out.startswith("lab is ready: ")
    # On a slow machine, the kernel may not show in time that it is idle.
    idle = "lab was idle; nothing to interrupt\n"
    wait_for(lambda: ctl(lab, "interrupt", "lab").out == idle, "an answer in time")
    assert ctl(lab, "stop", "lab").out == "lab is stopped\n"
    assert "\033[" not in shown


def test_no_wait_returns_at_once(lab: Daemon) -> None:
    done = ctl(lab, "start", "--no-wait", "lab")
    assert done.out in {"lab is launching\n", "lab is starting\n"}
    assert ctl(lab, "wait", "lab", "--timeout", "30s").code == 0
    late = ctl(lab, "wait", "lab", "--for", "stopped", "--timeout", "100ms")
    assert late.code == 1
    assert "it is running after 0.1 s" in late.err
    assert ctl(lab, "wait", "lab", "--timeout", "soon").code == 2


def test_a_pattern_asks_before_it_ends_anything(lab: Daemon) -> None:
    ctl(lab, "start", "lab", "lab@a", "lab@b")
    refused = ctl(lab, "stop", "lab@*", stdin=subprocess.DEVNULL)
    assert refused.code == 2
    assert "lab@a, lab@b" in refused.err
    assert talk(lab, ["stop", "lab@*"], "n\n").count("Continue? [y/N]") == 1
    assert lab.state_of("lab@a") == "running"
    assert "lab@a is stopped" in talk(lab, ["stop", "lab@*"], "y\n")
    assert lab.state_of("lab") == "running"
    assert ctl(lab, "stop", "none*", "--yes").code == 4
    assert ctl(lab, "stop", "--all", "--yes").out == "lab is stopped\n"
    assert ctl(lab, "stop", "--all", "--yes").err == "nothing to stop\n"
    assert ctl(lab, "stop").code == 2


def test_colour_on_a_terminal_only(lab: Daemon) -> None:
    assert "\033[90mstopped" in talk(lab, ["list"], "")
    assert "\033[" not in talk(lab, ["list"], "", NO_COLOR="1")


def test_logs_into_a_closed_pipe_end_quietly(lab: Daemon) -> None:
    ctl(lab, "start", "lab")
    command = " ".join([*CTL, "--socket", str(lab.socket), "logs", "lab", "|", "head", "-c1"])
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_console_attaches_starts_and_leaves_the_kernel(lab: Daemon) -> None:
    command = ["console", "lab", "--", "--simple-prompt"]
    said = talk(lab, command, "print(6 * 7)\nx = 5\n", until="42", then="exit\n")
    assert "42" in said
    assert "keeping kernel alive" in said
    info = lab.wait_state("lab", "running")
    wait_for(lambda: lab.info("lab")["execution_state"] == "idle", "the kernel to be idle")
    assert run(info["connection_file"], "print(x)") == "5\n"


def test_ctrl_c_in_a_console_interrupts_the_kernel(lab: Daemon) -> None:
    command = ["console", "lab", "--", "--simple-prompt"]
    typed = "import time; print(6 * 7); time.sleep(100)\n"
    then = "print('after', 1)\nexit\n"
    said = talk(lab, command, typed, until="42", then=then, interrupt=True)
    assert "KeyboardInterrupt" in said
    assert "after 1" in said
    assert lab.info("lab")["state"] == "running"


def talk(  # what a person types, and when
    daemon: Daemon,
    arguments: list[str],
    typed: str,
    until: str = "",
    then: str = "",
    *,
    interrupt: bool = False,
    **env: str,
) -> str:
    """Run a command on a terminal, type something, and give all that it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CTL, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "KCONND_SOCKET": str(daemon.socket), **env},
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    typed_all = not then
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side has closed its terminal
            break
        shown += piece
        if not typed_all and until.encode() in shown.rpartition(b"print")[2]:
            if interrupt:  # what Ctrl-C does on a terminal of one's own
                process.send_signal(signal.SIGINT)
            os.write(ours, then.encode())
            typed_all = True
    os.close(ours)
    process.wait(30)
    return shown.decode(errors="replace")


def test_check_and_schema_need_no_daemon(daemon: Daemon, folder: Path) -> None:
    daemon.profile("good", IPYKERNEL)
    assert ctl(daemon, "check", str(daemon.configs)).out == "1 profile, 0 faults\n"
    daemon.profile("bad", "kernel: x\nmemmory: 1\n")
    done = ctl(daemon, "check", str(daemon.configs))
    assert done.code == 1
    assert "bad.yaml:2:1: memmory: unknown key" in done.out
    assert ctl(daemon, "check", str(folder / "none")).code == 2
    assert ctl(daemon, "doctor").code in {0, 1}


def test_a_look_up_imports_nothing_heavy(lab: Daemon) -> None:
    script = (
        "import sys; from kconnd.cli.main import main; main(['info', 'lab', '--json']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KCONND_SOCKET": str(lab.socket)},
    )
    loaded = set(done.stderr.split())
    heavy = {
        *("dataclasses", "typing", "inspect", "pathlib", "subprocess", "asyncio", "http"),
        *("http.client", "importlib.metadata", "logging", "yaml", "pydantic", "zmq", "tornado"),
        *(
            "psutil",
            "jupyter_client",
            "jupyter_core",
            "kconnd.core.launch.plan",
            "concurrent.futures",
        ),
    }
    with_pip_hook = {"pathlib", "typing"} & set(_of_a_bare_python())
    assert not (heavy - with_pip_hook) & loaded


def _of_a_bare_python() -> list[str]:
    script = "import sys; print(*sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_manual_kernel_is_not_started_in_passing(lab: Daemon) -> None:
    lab.profile("byhand", IPYKERNEL + "start: manual\n")
    ctl(lab, "reload")
    refused = ctl(lab, "console", "byhand")
    assert refused.code == 3
    assert "its profile says start: manual" in refused.err
    assert ctl(lab, "start", "byhand").code == 0
