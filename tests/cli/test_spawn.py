"""Starting a daemon for a user who has none: what it gets, that it stays, how it fails."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kconnd import spawn
from kconnd.cli.console import find_console
from kconnd.errors import RefusedError, UnreachableError
from kconnd.jupyter.console_app import is_exit
from kconnd.qtconsole_argv import qtconsole_command
from kconnd.spawn import client_or_start
from tests.cli.conftest import Ctl, ctl_process
from tests.cli.fake_daemon import FakeDaemon, Raw

# A daemon that tells, for its health, what it was given. It ends once its folder is gone.
DAEMON = """
import json, os, socket, sys
path = sys.argv[sys.argv.index("--socket") + 1]
print("listening on", path, flush=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path + ".part")
listener.listen()
os.rename(path + ".part", path)
with open(os.path.dirname(path) + "/starts", "a") as starts:
    print(os.getpid(), file=starts)
facts = {
    "pid": os.getpid(), "session": os.getsid(0), "folder": os.getcwd(), "env": dict(os.environ),
    "files": sorted(os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)),
    "open": len(os.listdir("/proc/self/fd")),
}
text = json.dumps(facts).encode()
while True:
    connection, _ = listener.accept()
    with connection:
        if connection.recv(10000):
            head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(text)}\\r\\n\\r\\n".encode()
            connection.sendall(head + text)
"""


@pytest.fixture(name="home")
def _home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a home without a daemon; end those that a test starts there."""
    monkeypatch.setenv("KCONND_SOCKET", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("SECRET_OF_THE_SESSION", "1")
    monkeypatch.setenv("LC_TIME", "C")
    yield folder
    starts = folder / "starts"
    for pid in starts.read_text().split() if starts.exists() else ():
        os.kill(int(pid), signal.SIGKILL)


def command(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def test_a_daemon_is_started_apart_from_the_terminal_and_its_session(home: Path) -> None:
    socket = str(home / "d.sock")
    facts: dict[str, Any] = client_or_start(socket, command(DAEMON)).get("/v1/health")
    assert facts["session"] == facts["pid"] != os.getsid(0)
    assert facts["folder"] == "/"
    log = next((home / "state/kconnd").glob("*/daemon.log"))
    assert facts["files"] == sorted(["/dev/null", str(log), str(log)])
    assert facts["open"] <= 6  # these three, its listener, and the folder it looks at
    assert log.read_text() == f"listening on {socket}\n"
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "SECRET_OF_THE_SESSION" not in facts["env"]
    assert facts["env"]["LC_TIME"] == "C"
    assert facts["env"]["XDG_STATE_HOME"] == str(home / "state")


def test_a_daemon_that_runs_is_used(home: Path) -> None:
    socket = str(home / "d.sock")
    first = client_or_start(socket, command(DAEMON)).get("/v1/health")
    assert client_or_start(socket, command("raise SystemExit(9)")).get("/v1/health") == first


def test_of_several_at_the_same_time_one_starts_it(home: Path) -> None:
    socket = str(home / "d.sock")
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(client_or_start, socket, command(DAEMON)) for _ in range(8)]
        pids = {one.result().get("/v1/health")["pid"] for one in found}
    assert len(pids) == 1
    assert (home / "starts").read_text().split() == [str(pid) for pid in pids]


def test_a_daemon_that_ends_is_told_with_its_last_words(home: Path) -> None:
    program = command("raise SystemExit('no room left')")
    with pytest.raises(UnreachableError, match="it ended") as failure:
        client_or_start(str(home / "d.sock"), program)
    assert failure.value.output == "no room left"
    assert "daemon.log" in failure.value.hint


def test_a_daemon_that_never_answers_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "START_TIMEOUT_S", 0.3)
    program = f"import os, time; open({str(home / 'starts')!r}, 'w').write(str(os.getpid()))"
    with pytest.raises(UnreachableError, match=r"no answer within 0\.3 s"):
        client_or_start(str(home / "d.sock"), command(f"{program}; time.sleep(60)"))


def test_where_something_else_listens_none_is_started(home: Path) -> None:
    path = home / "d.sock"
    with FakeDaemon(path) as other:
        other.replies["GET", "/v1/health"] = Raw((b"220 mail.example.org\r\n",))
        with pytest.raises(UnreachableError, match="does not speak HTTP"):
            client_or_start(str(path), command(DAEMON))
    assert not (home / "starts").exists()


def test_a_state_folder_that_is_open_to_others_is_not_used(home: Path) -> None:
    client_or_start(str(home / "d.sock"), command(DAEMON))
    state = next((home / "state/kconnd").iterdir())
    state.chmod(0o777)
    (home / "d.sock").unlink()
    with pytest.raises(Exception, match="0777"):
        client_or_start(str(home / "d.sock"), command(DAEMON))


# --- console


@pytest.fixture
def connection_file(folder: Path) -> str:
    """Give the path of one of our own."""
    path = folder / "kernel-a.json"
    path.touch()
    return str(path)


def test_console_starts_the_kernel_and_becomes_jupyter_console(
    ctl: Ctl, daemon: FakeDaemon, connection_file: str
) -> None:
    daemon.add("a", connection_file=connection_file)
    shown = ctl("console", "a", "--json", "--", "--simple-prompt").json()
    assert shown["command"] == [
        *find_console("a"),
        "--existing",
        connection_file,
        "--simple-prompt",
    ]
    assert daemon.requests[-1].path == "/v1/kernels/a/start"


def test_a_console_of_another_environment_is_not_opened_on_an_encrypted_kernel(
    daemon: FakeDaemon, folder: Path, connection_file: str
) -> None:
    """It would wait for ever."""
    program = folder / "jupyter-console"
    program.write_text("#!/bin/sh\necho opened")
    program.chmod(0o755)
    hide = "import importlib.util as u\nu.find_spec = lambda *_: None\n"
    script = f"{hide}import sys; from kconnd.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "--socket", str(daemon.path), "console", "a"]

    def opened(*, encrypted: bool) -> "subprocess.CompletedProcess[str]":
        connection = {"transport": "tcp", "encrypted": encrypted}
        daemon.add("a", connection_file=connection_file, connection=connection)
        env = {**os.environ, "PATH": str(folder)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert opened(encrypted=False).stdout == "opened\n"
    refused = opened(encrypted=True)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "a: its connection is encrypted (CURVE), and" in refused.stderr
    assert "pip install jupyter_console" in refused.stderr


def test_console_passes_on_a_failed_start(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.replies["POST", "/v1/kernels/a/start"] = RefusedError("it is not yours")
    assert ctl("console", "a").code == 5


def test_console_execs_with_options_before_and_after_the_verb(
    daemon: FakeDaemon, folder: Path, connection_file: str
) -> None:
    """A stand-in for jupyter console says what it was given."""
    daemon.add("a", connection_file=connection_file)
    program = folder / "jupyter_console"
    program.mkdir()
    (program / "__init__.py").write_text("")
    (program / "app.py").write_text(
        "import json\n"
        "class ZMQTerminalIPythonApp:\n"
        "    @classmethod\n"
        "    def launch_instance(cls, argv):\n"
        "        print(json.dumps([cls.kernel, cls.socket, *argv]))\n"
    )
    env = os.environ | {"PYTHONPATH": str(folder)}
    arguments = ("--socket", str(daemon.path), "console", "a", "--", "--ZMQTerminalIPythonApp.x=1")
    process = ctl_process(*arguments, stdout=-1, env=env)
    out, _ = process.communicate()
    assert process.returncode == 0
    ours = ["a", str(daemon.path)]
    expected = [*ours, "--existing", connection_file, "--ZMQTerminalIPythonApp.x=1"]
    assert json.loads(out) == expected


@pytest.mark.parametrize("command", [find_console("a"), qtconsole_command("/none", [])])
def test_a_console_runs_no_module_of_the_folder_that_it_is_called_in(
    folder: Path, command: list[str]
) -> None:
    """Root may stand in a folder of somebody else's."""
    for name in ("kconnd", "jupyter_console", "qtconsole", "re"):
        (folder / name).mkdir()
        planted = f"open({str(folder / 'planted')!r}, 'w')"
        (folder / name / "__init__.py").write_text(planted, encoding="utf-8")
    env = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [*command, "--version"], cwd=folder, env=env, capture_output=True, check=True, text=True
    )
    assert done.stdout[0].isdigit()
    assert not (folder / "planted").exists()


@pytest.mark.parametrize("typed", ["exit", "quit()", " exit() ", "q()", "quit;"])
def test_words_that_leave_a_console(typed: str) -> None:
    assert is_exit(typed)


@pytest.mark.parametrize("typed", ["exit(keep_kernel=False)", "exit_code", "x = exit", "exit\n1"])
def test_words_that_do_not_leave_a_console(typed: str) -> None:
    assert not is_exit(typed)
