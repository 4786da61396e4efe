"""What a kernel inherits from the terminal in which it is started, beside what Jupyter gives it.

jupyter_client and ``kconnd-ctl`` are run in the same environment, with the same umask and the same
kernel spec. The kernel writes down its environment, umask and folder at each launch.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.launch.plan import SYSTEM_PATH
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL_KERNEL, Daemon
from tests.end_to_end.test_ctl import CTL

RECORDER = """\
import json, os, sys
umask = os.umask(0)
os.umask(umask)
seen = {"env": dict(os.environ), "umask": umask, "cwd": os.getcwd(), "argv": sys.argv}
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps(seen) + "\\n")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
BY_JUPYTER = """\
import json, os, sys, time
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="recorder")
manager.start_kernel()
record = os.environ["RECORD"]
while not (os.path.exists(record) and os.path.getsize(record)):
    time.sleep(0.01)
manager.shutdown_kernel(now=True)
"""
PASSED = ("TMPDIR", "KRB5CCNAME", "SSH_AUTH_SOCK", "LD_LIBRARY_PATH", "MODULEPATH")
UNASKED = ("LANG", "LANGUAGE", "LC_TIME", "TZ", "http_proxy", "HTTPS_PROXY", "no_proxy")
BIN = str(Path(sys.executable).parent)


@dataclass
class Terminal:
    """A terminal of the owner: an environment and a umask in which commands run."""

    daemon: Daemon
    env: dict[str, str]
    umask: int = 0o027
    records: Path = field(init=False)

    def __post_init__(self) -> None:
        self.records = self.daemon.folder / "records"

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command that has to succeed."""
        run = subprocess.run(
            words,
            env={**self.env, **env},
            umask=self.umask,
            cwd=self.daemon.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run

    def ctl(self, *words: str, **env: str) -> str:
        return self.run(*CTL, *words, KCONND_SOCKET=str(self.daemon.socket), **env).stdout

    def seen(self) -> dict[str, Any]:
        """Return what the latest process of the kernel has written down."""
        seen: dict[str, Any] = json.loads(self.records.read_text().splitlines()[-1])
        return seen


@pytest.fixture
def terminal(daemon: Daemon) -> Terminal:
    """Give a terminal, and a daemon that was started from another environment."""
    home = daemon.folder / "home"
    folder = daemon.folder / "jupyter-path/kernels/recorder"
    for path in (home, folder):
        path.mkdir(parents=True)
    (home / ".profile").write_text("echo junk\nPATH=/from/login/shell:$PATH\n")
    recorder = daemon.folder / "recorder.py"
    recorder.write_text(RECORDER)
    argv = [sys.executable, str(recorder), str(SMALL_KERNEL), "{connection_file}"]
    spec = {"argv": argv, "display_name": "r", "language": "small"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    own = {"HOME": str(home), "JUPYTER_PATH": str(folder.parents[1]), "PATH": SYSTEM_PATH}
    daemon.profile("lab", profile(daemon))
    daemon.start(env={**own, "TZ": "of the daemon", "LC_ALL": "C.UTF-8"}, umask=0o022)
    values = {name: f"/x/{name}" for name in PASSED}
    values |= {**dict.fromkeys(UNASKED, "x"), "LANG": "C.UTF-8", "UNNAMED": "s3cret"}
    values |= {"JUPYTER_RUNTIME_DIR": str(daemon.folder), "PATH": f"{BIN}:/opt/x/bin:{SYSTEM_PATH}"}
    return Terminal(daemon, own | values)


def profile(daemon: Daemon, **keys: object) -> str:
    """Return a profile that passes all variables of the terminal that people name."""
    known = {"kernel": "recorder", "transport": "ipc", "pass_env": [*PASSED, "NOT_SET"]}
    env = {"RECORD": str(daemon.folder / "records")}
    return json.dumps({**known, "env": env, **keys})


def comparable(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a kernel of Jupyter and one of kconnd have to have in common."""
    ours = ("KCONND_", "RECORD", "JPY_", "SHLVL", "UNNAMED", "JUPYTER_", "USER", "LOGNAME", "SHELL")
    env = {name: value for name, value in seen["env"].items() if not name.startswith(ours)}
    env.pop("XDG_RUNTIME_DIR", None)
    return {"env": env, "umask": seen["umask"]}


def test_a_kernel_has_the_environment_and_umask_that_jupyter_gives_it(terminal: Terminal) -> None:
    terminal.ctl("start", "lab")
    mine, theirs = terminal.seen(), terminal.daemon.folder / "records-of-jupyter"
    run = [sys.executable, "-c", BY_JUPYTER]
    terminal.run(*run, RECORD=str(theirs))
    of_jupyter = json.loads(theirs.read_text())
    assert comparable(mine) == comparable(of_jupyter)
    assert mine["umask"] == 0o027
    assert mine["env"]["PATH"] == terminal.env["PATH"]
    assert {"UNNAMED", "LC_ALL", "NOT_SET"}.isdisjoint(mine["env"])
    assert mine["cwd"] == terminal.env["HOME"]


def test_the_folder_of_the_interpreter_comes_first_on_path(terminal: Terminal) -> None:
    for path in (f"/usr/local/bin:{BIN}:/bin", "/usr/local/bin:/bin"):
        terminal.ctl("restart" if terminal.records.exists() else "start", "lab", PATH=path)
        assert terminal.seen()["env"]["PATH"] == f"{BIN}:{path}"


def test_a_restart_and_the_next_daemon_keep_the_session(terminal: Terminal) -> None:
    terminal.ctl("start", "lab")
    first = comparable(terminal.seen())
    daemon = terminal.daemon
    daemon.kill()
    daemon.start(
        env={"PATH": SYSTEM_PATH, "HOME": terminal.env["HOME"], "TZ": "x"}
        | {"JUPYTER_PATH": terminal.env["JUPYTER_PATH"]}
    )
    for verb in ("restart", "stop", "start"):
        daemon.post("lab", verb)  # by a client that sends no session
    assert comparable(terminal.seen()) == first
    os.kill(daemon.info("lab")["pid"], 9)
    wait_for(lambda: len(terminal.records.read_text().splitlines()) == 4, "the restart")
    assert comparable(terminal.seen()) == first
    other = Terminal(daemon, {**terminal.env, "TMPDIR": "/other", "PATH": SYSTEM_PATH}, 0o077)
    other.ctl("restart", "lab")
    seen = terminal.seen()
    assert (seen["env"]["TMPDIR"], seen["umask"]) == ("/other", 0o077)


def test_without_a_session_path_is_that_of_the_login_shell(terminal: Terminal) -> None:
    terminal.daemon.post("lab", "start")
    seen = terminal.seen()
    assert "/from/login/shell" in seen["env"]["PATH"].split(":")
    assert seen["env"]["TZ"] == "of the daemon"
    assert {*PASSED, "http_proxy"}.isdisjoint(seen["env"])
    assert seen["umask"] == 0o022
    decisions = terminal.daemon.get("/v1/kernels/lab/why")["decisions"]
    (without,) = [row["reason"] for row in decisions if row["what"] == "without variables"]
    assert all(name in without for name in PASSED)
    shown = terminal.ctl("info", "lab")
    assert "no client has sent them" in shown
    assert "kconnd-ctl restart lab takes them from your session" in shown


def test_the_umask_of_the_profile_decides_and_its_env_comes_last(terminal: Terminal) -> None:
    text = profile(
        terminal.daemon,
        umask="007",
        env={"RECORD": str(terminal.records), "TMPDIR": "$TMPDIR/mine", "TZ": "UTC"},
    )
    terminal.daemon.profile("lab", text)
    terminal.daemon.ask("POST", "/v1/reload", {})
    terminal.ctl("start", "lab")
    seen = terminal.seen()
    assert (seen["umask"], seen["env"]["TZ"]) == (0o007, "UTC")
    assert seen["env"]["TMPDIR"] == "/x/TMPDIR/mine"
    assert terminal.daemon.info("lab")["umask_source"] == "profile"


def test_info_names_what_was_taken_from_whom_and_no_value(terminal: Terminal) -> None:
    terminal.ctl("start", "lab")
    shown, as_json = terminal.ctl("info", "lab"), json.loads(terminal.ctl("info", "lab", "--json"))
    session = as_json["session"]
    assert session["variables"] == sorted([*PASSED, *UNASKED, "PATH"])
    assert (session["absent"], session["unsent"]) == (["NOT_SET"], [])
    assert (as_json["umask"], as_json["umask_source"]) == ("027", "client")
    assert f"(pid {session['pid']})" in shown
    assert "umask 027 (of its client)" in shown
    assert "not set there: NOT_SET" in shown
    assert "/x/TMPDIR" not in shown + json.dumps(as_json)
    assert session["taken_at"] <= as_json["started_at"]


def test_a_second_start_from_the_same_terminal_is_warm(terminal: Terminal) -> None:
    terminal.daemon.profile("lab", profile(terminal.daemon, warm=1))
    terminal.daemon.ask("POST", "/v1/reload", {})
    terminal.ctl("start", "lab")
    warm_up = terminal.seen()

    def is_warm() -> bool:
        latest = terminal.seen()
        is_mine = "KCONND_KERNEL" not in latest["env"] and comparable(latest) == comparable(warm_up)
        return is_mine and bool(terminal.daemon.get("/v1/health")["warm"] == 1)

    wait_for(is_warm, "a warm kernel that inherits from the terminal")
    terminal.ctl("start", "lab@second")
    info = terminal.daemon.info("lab@second")
    assert info["launcher_note"] == "it was kept warm"
    assert (info["umask"], info["umask_source"]) == ("027", "client")
    other = Terminal(terminal.daemon, {**terminal.env, "http_proxy": "other"})
    wait_for(is_warm, "the next warm kernel")
    other.ctl("start", "lab@third")
    assert terminal.daemon.info("lab@third")["launcher_note"] is None


@pytest.mark.parametrize("launcher", ["local", "fork"])
def test_an_ipykernel_inherits_however_it_is_launched(launcher: str, terminal: Terminal) -> None:
    keys = {"python": sys.executable, "launcher": launcher, "pass_env": ["TMPDIR"]}
    terminal.daemon.profile("ipy", json.dumps(keys))
    terminal.daemon.ask("POST", "/v1/reload", {})
    code = "import json, os; m = os.umask(0); os.umask(m); print(json.dumps([dict(os.environ), m]))"
    for umask, temporary in ((0o027, "/x/TMPDIR"), (0o077, "/other")):
        other = Terminal(terminal.daemon, {**terminal.env, "TMPDIR": temporary}, umask)
        other.ctl("restart" if umask == 0o077 else "start", "ipy")
        env, inside = json.loads(other.ctl("run", "ipy", "-c", code))
        assert (env["TMPDIR"], inside) == (temporary, umask)
        assert env["http_proxy"] == "x"
        assert env["PATH"].startswith(f"{BIN}:/opt/x/bin:")
        assert "SSH_AUTH_SOCK" not in env
    assert terminal.daemon.info("ipy")["launcher"] == launcher


def test_a_login_shell_that_hangs_delays_no_start_with_a_session(terminal: Terminal) -> None:
    (Path(terminal.env["HOME"]) / ".profile").write_text("sleep 60\n")
    terminal.daemon.profile("other", profile(terminal.daemon))
    terminal.daemon.ask("POST", "/v1/reload", {})
    terminal.daemon.post("lab", "start", wait=False)  # this one waits for the shell
    terminal.ctl("start", "other")
    assert terminal.daemon.info("lab")["state"] == "launching"
    terminal.daemon.ask("GET", "/v1/kernels/lab/wait?for=ready")
    assert terminal.seen()["env"]["PATH"] == f"{BIN}:{SYSTEM_PATH}"
    assert "asking the login shell for PATH" in terminal.daemon.said()
