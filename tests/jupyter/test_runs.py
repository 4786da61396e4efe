"""The kernel that a run has to itself ends with the run; that of a notebook does not."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.consoleapp import JupyterConsoleApp
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_client.multikernelmanager import MultiKernelManager
from jupyter_client.runapp import RunApp
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from kconnd.jupyter.notebook_session import VOILA_MARK, is_run
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon
from tests.jupyter.conftest import FORK, install
from tests.jupyter.test_server import CLASS, Server

RUN_CODE = """\
import os, sys, nbformat
from nbclient import NotebookClient
code = "import time, pathlib; pathlib.Path('here').touch(); time.sleep(60)"
cell = nbformat.v4.new_code_cell(code)
notebook = nbformat.v4.new_notebook(cells=[cell])
path = {"metadata": {"path": sys.argv[1]}}
NotebookClient(notebook, kernel_name="kconnd-each", resources=path).execute()
"""


def notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def instances(daemon: Daemon, profile: str = "each") -> dict[str, str]:
    """Return the states of all kernels of a per-session profile."""
    kernels = daemon.get("/v1/kernels")["kernels"]
    prefix = f"{profile}@"
    return {row["name"]: row["state"] for row in kernels if row["name"].startswith(prefix)}


def test_nothing_is_left_of_a_run(daemon: Daemon, jupyter: dict[str, str], home: Path) -> None:
    NotebookClient(notebook("x = 1"), kernel_name="kconnd-each").execute()
    assert instances(daemon) == {}
    path = home / "nb.ipynb"
    nbformat.write(notebook("x = 1"), path)
    command = [sys.executable, "-W", "ignore", "-m", "papermill", str(path), "-", "-k"]
    subprocess.run(
        [*command, "kconnd-each"], env=jupyter, check=True, capture_output=True, timeout=60
    )
    assert instances(daemon) == {}
    records = daemon.state / "kernels"
    wait_for(lambda: not list(records.glob("each@*")), "their records to go")


def test_a_run_that_was_killed_leaves_nothing(
    daemon: Daemon, jupyter: dict[str, str], home: Path
) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN_CODE, str(home)], env=jupyter)
    wait_for((home / "here").exists, "its cell to run", 60)
    (name,) = instances(daemon)
    daemon.kill()
    daemon.start()
    assert instances(daemon) == {name: "running"}
    run.kill()
    run.wait()
    wait_for(lambda: not instances(daemon), "its kernel to stop")


def test_the_kernel_of_a_run_is_not_restarted_for_nobody(daemon: Daemon) -> None:
    with pytest.raises(DeadKernelError):
        NotebookClient(
            notebook("import os; os._exit(1)"), kernel_name="kconnd-each", timeout=60
        ).execute()
    ((name, state),) = instances(daemon).items()
    assert (state, daemon.info(name)["generation"]) == ("stopped", 1)
    assert daemon.info(name)["last_exit"]["reason"] == "exited with code 1"


def test_detach_keeps_the_kernel_of_a_run(daemon: Daemon, jupyter: dict[str, str]) -> None:
    daemon.profile("stays", f"{FORK}instance: per-session\non_frontend_shutdown: detach\n")
    daemon.ask("POST", "/v1/reload")
    install(jupyter)
    NotebookClient(notebook("x = 1"), kernel_name="kconnd-stays").execute()
    assert list(instances(daemon, "stays").values()) == ["running"]


@pytest.mark.parametrize("options", [(), (f"--ServerApp.kernel_manager_class={CLASS}",)])
def test_the_kernel_of_a_notebook_survives_its_server(
    home: Path, daemon: Daemon, jupyter: dict[str, str], options: tuple[str, ...]
) -> None:
    (home / "root").mkdir()
    nbformat.write(notebook("1"), home / "root/one.ipynb")
    kernel = {"name": "kconnd-each"}
    body = {"path": "one.ipynb", "name": "one.ipynb", "type": "notebook", "kernel": kernel}
    with Server(home, jupyter, *options) as server:
        session = server.ask("POST", "api/sessions", body)
        server.run(session["kernel"]["id"], "kept = 6 * 7")
        (name,) = instances(daemon)
    with Server(home, jupyter, *options) as server:
        session = server.ask("POST", "api/sessions", body)
        assert server.run(session["kernel"]["id"], "print(kept)") == "42\n"
        assert instances(daemon) == {name: "running"}
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    # A run whose process has ended is stopped at once, so this would be seen.
    NotebookClient(notebook("x = 1"), kernel_name="kconnd-each").execute()
    assert instances(daemon) == {name: "running"}


def test_a_stock_server_that_culls_leaves_the_kernel(
    home: Path, daemon: Daemon, jupyter: dict[str, str]
) -> None:
    culling = "--MappingKernelManager.cull_idle_timeout=1", "--MappingKernelManager.cull_interval=1"
    with Server(home, jupyter, *culling) as server:
        kernel = {"name": "kconnd-each"}
        body = {"path": "one.ipynb", "name": "one.ipynb", "type": "notebook", "kernel": kernel}
        server.ask("POST", "api/sessions", body)
        wait_for(lambda: not server.kernels(), "it to be culled")
        assert list(instances(daemon).values()) == ["running"]


def test_whose_kernel_it_is() -> None:
    assert is_run(KernelManager(), {})
    assert is_run(AsyncKernelManager(), {"env": {"A": "1"}})
    assert is_run(KernelManager(parent=RunApp()), {})
    servers = MultiKernelManager()
    assert not is_run(KernelManager(parent=servers), {})
    assert is_run(KernelManager(parent=servers), {"env": {VOILA_MARK: "/"}})

    class Console(JupyterConsoleApp):
        pass

    assert not is_run(KernelManager(parent=Console()), {})
