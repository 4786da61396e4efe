"""A kernel starts in the folder of its notebook, as Jupyter's own kernels do: side by side."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, run
from tests.jupyter.conftest import FORK, install
from tests.jupyter.test_server import CLASS, Server

SHOW = 'import os, json; print(json.dumps([os.getcwd(), os.environ.get("JPY_SESSION_NAME")]))'
STOCK, OURS = "python3", "kconnd-each"
# How each of these runs a notebook, in a folder of its own: {python} -m …
NBCLIENT = """\
import nbformat, sys
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
options = {"resources": {"metadata": {"path": sys.argv[3]}}} if len(sys.argv) > 3 else {}
NotebookClient(notebook, kernel_name=sys.argv[2], **options).execute()
nbformat.write(notebook, sys.argv[1])
"""
RUNS = {
    "papermill": ("-m", "papermill", "sub/nb.ipynb", "out.ipynb", "-k", "{kernel}"),
    "papermill --cwd": (
        *("-m", "papermill", "sub/nb.ipynb", "out.ipynb", "-k", "{kernel}", "--cwd", "sub"),
    ),
    "nbclient": ("-c", NBCLIENT, "sub/nb.ipynb", "{kernel}"),
    "nbclient, path": ("-c", NBCLIENT, "sub/nb.ipynb", "{kernel}", "sub"),
    "jupyter execute": (
        *("-m", "jupyter", "execute", "sub/nb.ipynb", "--kernel_name={kernel}", "--inplace"),
    ),
}
OFTEN = ("papermill --cwd", "jupyter execute")  # the others take another 10 s


def shown(printed: str) -> list[str | None]:
    content: list[str | None] = json.loads(printed)
    return content


def run_in(folder: Path, runner: str, kernel: str, env: dict[str, str]) -> list[str | None]:
    """Run a notebook from a folder that contains it in ``sub``; return what its cell shows."""
    notebook = folder / "sub/nb.ipynb"
    notebook.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOW)]), notebook)
    command = [word.format(kernel=kernel) if "{kernel}" in word else word for word in RUNS[runner]]
    subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=folder,
        env=env,
        check=True,
        capture_output=True,
        timeout=60,
    )
    written = folder / "out.ipynb" if "papermill" in runner else notebook
    cells = nbformat.read(written, 4).cells
    return shown(cells[-1].outputs[0].text)


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    "runner",
    [
        runner if runner in OFTEN else pytest.param(runner, marks=pytest.mark.nightly)
        for runner in RUNS
    ],
)
def test_a_run_has_the_folder_that_jupyter_gives_it(
    tmp_path: Path, jupyter: dict[str, str], runner: str
) -> None:
    with ThreadPoolExecutor() as pool:
        stock, ours = pool.map(
            lambda kernel: run_in(tmp_path / kernel, runner, kernel, jupyter), (STOCK, OURS)
        )
    assert [str(ours[0]), ours[1]] == [str(stock[0]).replace(STOCK, OURS), None]
    assert stock[1] is None


@pytest.mark.parametrize("options", [(), (f"--ServerApp.kernel_manager_class={CLASS}",)])
def test_a_notebook_in_a_sub_folder_has_folder_and_name_as_with_a_stock_kernel(
    home: Path, daemon: Daemon, jupyter: dict[str, str], options: tuple[str, ...]
) -> None:
    daemon.profile("here", f"{FORK}cwd: notebook\n")
    daemon.profile("fixed", f"{FORK}cwd: {home}\ninstance: per-session\n")
    daemon.ask("POST", "/v1/reload")
    install(jupyter)
    (home / "root/sub folder").mkdir(parents=True)
    with Server(home, jupyter, *options) as server:

        def in_notebook(kernel: str, path: str) -> list[str | None]:
            name = path.rpartition("/")[2]
            body = {"path": path, "name": name, "type": "notebook", "kernel": {"name": kernel}}
            session = server.ask("POST", "api/sessions", body)
            return shown(server.run(session["kernel"]["id"], SHOW))

        stock = in_notebook(STOCK, "sub folder/0.ipynb")
        folder, name = str(home / "root/sub folder"), str(home / "root/sub folder/{}.ipynb")
        assert stock == [folder, name.format(0)]
        assert in_notebook(OURS, "sub folder/1.ipynb") == [folder, name.format(1)]
        assert in_notebook("kconnd-here", "sub folder/2.ipynb") == [folder, name.format(2)]
        assert in_notebook("kconnd-fixed", "sub folder/3.ipynb") == [str(home), name.format(3)]
        # Shared: the second notebook finds it where the first one has started it.
        assert in_notebook("kconnd-here", "4.ipynb") == [folder, name.format(2)]
        assert in_notebook("kconnd-lab", "5.ipynb")[0] == str(Path.home())
        restarted = daemon.post("here", "restart")
        assert in_notebook("kconnd-here", "6.ipynb") == [folder, name.format(2)]
    assert restarted["generation"] == 2


def test_a_warm_kernel_enters_the_folder(home: Path, daemon: Daemon) -> None:
    daemon.profile("each", f"{FORK}instance: per-session\nwarm: 1\n")
    daemon.ask("POST", "/v1/reload")
    folder = home / "it's a \\ folder"
    folder.mkdir()
    notebook = {"folder": str(folder), "name": "x.ipynb"}
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "a warm kernel")
    started = daemon.post("each@1", "start", notebook=notebook)
    assert started["launcher_note"] == "it was kept warm"
    assert in_kernel(started) == [str(folder), "x.ipynb"]
    # R and others read a file in the folder when they start: a warm kernel has not.
    (folder / ".Rprofile").touch()
    wait_for(lambda: daemon.get("/v1/health")["warm"] == 1, "a warm kernel")
    started = daemon.post("each@2", "start", notebook=notebook)
    assert started["launcher_note"] != "it was kept warm"
    assert in_kernel(started) == [str(folder), "x.ipynb"]


def in_kernel(state: dict[str, Any]) -> list[str | None]:
    return shown(run(state["connection_file"], SHOW))


def test_the_folder_is_kept_for_restarts_by_the_next_daemon(home: Path, daemon: Daemon) -> None:
    folder = home / "sub"
    folder.mkdir()
    daemon.post("each@1", "start", notebook={"folder": str(folder), "name": "x.ipynb"})
    daemon.kill()
    daemon.start()
    assert in_kernel(daemon.post("each@1", "restart")) == [str(folder), "x.ipynb"]
    # The notebook was moved: its next front end says so, and the next process starts there.
    daemon.post("each@1", "start", notebook={"folder": str(home), "name": "y.ipynb"})
    assert in_kernel(daemon.info("each@1")) == [str(folder), "x.ipynb"]
    assert in_kernel(daemon.post("each@1", "restart")) == [str(home), "y.ipynb"]
