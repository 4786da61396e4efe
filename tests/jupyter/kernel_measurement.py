"""Measures one kernel of the table: it is started, used, interrupted, adopted and stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, DaemonError
from tests.end_to_end.test_ctl import Done
from tests.jupyter.kernel_table import KernelRow

NAME = "tested"
# ilua's messages have times without a time zone, of which jupyter_client warns.
WARNINGS = ("-W", "error", "-W", "ignore:Interpreting naive datetime:DeprecationWarning")
CTL = (sys.executable, *WARNINGS, "-m", "kconnd.cli.main")
OWN_FILES = frozenset({"ports.json"})  # of the daemon
INTERRUPT_LIMIT_S = 10.0
WARM_LIMIT_S = 60.0  # it starts at idle priority
INPUT_LIMIT = "3s"  # a kernel that asks for input does so within milliseconds


class Measurement:
    """One kernel under one daemon.

    Parameters
    ----------
    row : KernelRow
        The kernel.
    daemon : Daemon
        A daemon that has the kernel's profile as `NAME`, and `env` as its environment.
    env : dict of str to str
        The environment; HOME and TMPDIR are folders of the test's own.
    """

    def __init__(self, row: KernelRow, daemon: Daemon, env: dict[str, str]) -> None:
        self._row, self._code = row, row.code
        self._daemon, self._env = daemon, env

    def measure(self) -> dict[str, Any]:
        """Return the values of all columns; times in seconds."""
        files = self._files()
        began = time.monotonic()
        info = self._daemon.post(NAME, "start")
        start_s = time.monotonic() - began
        columns = {
            "implementation": info["implementation"],
            "language": info["language"],
            "version": info["implementation_version"],
            "transport": info["connection"]["transport"],
            "error": self._run("error").code if self._says_42() else "hello failed",
            "input": self._input(),
        }
        columns |= self._ctrl_c()
        self._renew(is_stuck=columns["after_ctrl_c"] == "busy")
        columns["interrupt"] = self._interrupt()
        self._renew(is_stuck=columns["interrupt"] in {"has no effect", "is refused"})
        columns["adoption"] = self._adopt()
        columns["restart"] = self._restart()
        before = self._processes()
        began = time.monotonic()
        self._daemon.post(NAME, "stop")
        columns["stop_s"] = round(time.monotonic() - began, 1)
        columns["start_s"] = round(start_s, 1)
        columns["exit"] = self._daemon.info(NAME)["last_exit"]["reason"]
        columns["transport_learned"] = self._learn_transport()
        alive = [process.name() for process in before if process.is_running()]
        columns["left"] = sorted([*alive, *(self._files() - files)])
        return columns

    def measure_warm(self) -> dict[str, Any]:
        """Return what a kernel is like that was kept warm."""
        wait_for(lambda: self._daemon.get("/v1/health")["warm"] == 1, "a kernel", WARM_LIMIT_S)
        info = self._daemon.post(NAME, "start")
        measured: dict[str, Any] = {"warm": info["launcher_note"] == "it was kept warm"}
        measured["runs"] = self._says_42()
        measured["knows_name"] = "name" in self._code and NAME in self._run("name").out.split()
        link = next(path for path in self._warm_files() if path.is_symlink())
        self._daemon.post(NAME, "stop")
        wait_for(lambda: not link.is_symlink(), "its link to be removed")
        own = link.name.partition(".")[0]
        measured["left"] = [path.name for path in self._warm_files() if path.name.startswith(own)]
        return measured

    def _warm_files(self) -> list[Path]:
        folders = (self._daemon.runtime / "live", self._daemon.state / "warm")
        return [path for folder in folders for path in folder.glob(f"{NAME}~*")]

    def _learn_transport(self) -> str:
        """Return the transport of the third start; the second may try Unix sockets, this CURVE."""
        for _ in range(2):
            connection = self._daemon.post(NAME, "start")["connection"]
            self._daemon.post(NAME, "stop", now=True)
        if connection["transport"] == "ipc":
            return "Unix sockets"
        return "tcp with CURVE" if connection["encrypted"] else "tcp"

    def _renew(self, *, is_stuck: bool) -> None:
        """Have the kernel idle, in a new process if it is stuck in a cell or has ended."""
        if is_stuck:
            self._daemon.post(NAME, "restart", now=True)
        else:
            self._daemon.post(NAME, "start")

    def _run(self, cell: str, *options: str, **more: Any) -> Done:
        command = [*CTL, "run", NAME, *options, "-c", self._code[cell]]
        env = {**os.environ, "KCONND_SOCKET": str(self._daemon.socket)}
        return Done(
            subprocess.run(
                command, env=env, capture_output=True, text=True, check=False, timeout=90, **more
            )
        )

    def _says_42(self) -> bool:
        done = self._run("hello", "--timeout", "30s")
        return done.code == 0 and "42" in (done.out + done.err).split()

    def _input(self) -> str:
        if "input" not in self._code:
            return "not tried"
        done = self._run("input", "--timeout", INPUT_LIMIT, input="somebody\n")
        return "answered" if "somebody" in done.out else "not asked"

    @contextlib.contextmanager
    def _endless_cell(self) -> Iterator[subprocess.Popen[str]]:
        """Run the cell that does not end, and wait until it has begun."""
        env = {**os.environ, "KCONND_SOCKET": str(self._daemon.socket)}
        gate = self._daemon.folder / "gate"
        gate.unlink(missing_ok=True)
        command = [*CTL, "run", NAME, "-c", self._code["endless"].replace("{gate}", str(gate))]
        with subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                if self._row.prints_at_once:
                    _read_until_begun(process)
                else:
                    wait_for(gate.exists, "the cell")
                yield process
            finally:
                process.kill()

    def _ctrl_c(self) -> dict[str, Any]:
        pid = self._daemon.info(NAME)["pid"]
        with self._endless_cell() as process:
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            self._await_end(process)
            took_s = time.monotonic() - began
            if process.poll() is None:  # the interrupt has no effect
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=30)
        return {
            "ctrl_c": process.returncode,
            "ctrl_c_s": round(took_s, 1),
            "after_ctrl_c": self._condition(pid),
        }

    def _condition(self, pid: int) -> str:
        info = self._daemon.info(NAME)
        if info["pid"] != pid:
            return "ended"
        return "busy" if info["execution_state"] == "busy" or not self._says_42() else "runs"

    def _await_end(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=INTERRUPT_LIMIT_S)

    def _is_process(self, pid: int) -> bool:
        return bool(self._daemon.info(NAME)["pid"] == pid)

    def _is_up(self) -> bool:
        return self._daemon.state_of(NAME) == "running"

    def _interrupt(self) -> str:
        generation = self._daemon.info(NAME)["generation"]
        with self._endless_cell() as process:
            try:
                self._daemon.post(NAME, "interrupt", wait=True)
            except DaemonError as error:  # the interrupt would end the kernel, or has ended it
                if error.code == "fatal-interrupt":
                    return "is refused"
            self._await_end(process)
            if process.poll() is None:
                return "has no effect"
        same = self._daemon.info(NAME)["generation"] == generation and self._is_up()
        return "ends the cell" if same else "ends the kernel"

    def _adopt(self) -> str:
        pid = self._daemon.info(NAME)["pid"]
        self._daemon.kill()
        self._daemon.start(env=self._env)
        wait_for(self._is_up, "the adoption")
        return "runs" if self._is_process(pid) and self._says_42() else "lost"

    def _restart(self) -> str:
        pid = self._daemon.info(NAME)["pid"]
        self._daemon.post(NAME, "restart")
        return "runs" if self._says_42() and not self._is_process(pid) else "failed"

    def _processes(self) -> list[psutil.Process]:
        kernel = psutil.Process(self._daemon.info(NAME)["pid"])
        return [kernel, *kernel.children(recursive=True)]

    def _files(self) -> set[str]:
        """List the files and sockets in the folders for the sockets and for temporary files."""
        folders = (self._daemon.runtime, Path(self._env["TMPDIR"]))
        paths = (path for folder in folders for path in folder.rglob("*") if not path.is_dir())
        return {path.name for path in paths if path.name not in OWN_FILES and path.suffix != ".pyc"}


def _read_until_begun(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any("begun" in line for line in lines), "the cell ended before it had begun"


def kernel_environment(folder: Path, venv: Path) -> dict[str, str]:
    """Return the environment of a daemon whose kernels are those of a virtual environment."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    (home / ".local/share/jupyter/runtime").mkdir(parents=True)  # ilua exits without it
    shared = {key: value for key, value in os.environ.items() if not key.startswith("JUPYTER")}
    return shared | {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PATH": f"{venv}/bin:{os.environ['PATH']}",
        "JUPYTER_PATH": f"{venv}/share/jupyter",
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONWARNINGS": "ignore",
        "DENO_NO_UPDATE_CHECK": "1",
    }
