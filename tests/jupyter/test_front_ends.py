"""JupyterLab, Notebook 7 and nbclassic in a real browser: a notebook over restarts of its kernel.

The notebook is on an external kernel (``publish: jupyter``) or, in nbclassic, which refuses kernels
without a kernel spec of their name, on a kernel of a spec. A request and a crash each cut off a
cell that ignores interrupts.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon
from tests.jupyter.conftest import FORK
from tests.jupyter.test_lab import CHROMIUM, Lab, page
from tests.jupyter.test_server import CLASS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here"),
    # Playwright leaves closing its pipe to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]
STUBBORN = """import time
print('begun', flush=True)
while True:
    try:
        time.sleep(0.1)
    except KeyboardInterrupt:
        pass"""
# A server's iopub socket reconnects within 100 ms of a restart; earlier messages are lost.
WHERE = "import os, time; time.sleep(1); print('in process', os.getpid())"
RESTARTED = "was restarted (restart was requested): its variables are gone"
TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class FrontEnd:
    """A front end: how its server is started, and CSS selectors of what it shows.

    Parameters
    ----------
    module : str
        The Python module that runs the server.
    path : str
        The path of a notebook's page, without the name.
    cell, prompt, output : str
        A cell's editor, its prompt, and the text of its output.
    kernel, idle : str
        The name of the notebook's kernel, and the indicator of an idle kernel.
    dialog : str
        The button that closes the dialog about a crash.
    takes_external : bool
        Whether it opens a notebook on an external kernel.
    pip : tuple of str
        The packages of its own environment; empty if it is in the tests' environment.
    """

    module: str
    path: str
    cell: str
    prompt: str
    output: str
    kernel: str
    idle: str
    dialog: str
    takes_external: bool = True
    pip: tuple[str, ...] = ()


LAB = FrontEnd(
    module="jupyterlab",
    path="doc/tree/",
    cell=".jp-Cell .cm-content",
    prompt=".jp-CodeCell .jp-InputPrompt",
    output=".jp-OutputArea-output pre",
    kernel='.jp-Toolbar-kernelName:has-text("seen")',
    idle='.jp-Notebook-ExecutionIndicator[data-status="idle"]',
    dialog=".jp-Dialog button.jp-mod-accept",
)
NOTEBOOK = replace(LAB, module="notebook", path="notebooks/", pip=("notebook>=7",))
CLASSIC = FrontEnd(
    module="nbclassic",
    path="nbclassic/notebooks/",
    cell=".code_cell .CodeMirror",
    prompt=".code_cell .input_prompt",
    output=".code_cell .output_text pre",
    kernel='.kernel_indicator_name:has-text("lab")',
    idle=".kernel_idle_icon",
    dialog=".modal-dialog .btn-primary",
    takes_external=False,
    pip=("notebook>=7", "nbclassic"),  # without Notebook 7, its pages have other paths
)


class Notebook:
    """A page with a notebook of two cells: `STUBBORN` and `WHERE`."""

    def __init__(self, front_end: FrontEnd, found: Any) -> None:
        self._front_end, self.page = front_end, found

    def open(self, server: Lab) -> None:
        url = f"http://127.0.0.1:{server.port}/{self._front_end.path}n.ipynb"
        self.page.goto(f"{url}?token={server.token}")
        self.page.wait_for_selector(self._front_end.cell, timeout=TIMEOUT_MS)
        # Before a kernel is attached, the indicator says idle, too.
        self.page.wait_for_selector(self._front_end.kernel, timeout=TIMEOUT_MS)
        self.wait_until_idle()

    def run(self, number: int) -> None:
        """Run a cell; the first has the number 0."""
        self.page.locator(self._front_end.cell).nth(number).click()
        self.page.keyboard.press("Shift+Enter")

    def wait_for_output(self, text: str) -> None:
        output = self.page.locator(self._front_end.output, has_text=text)
        output.first.wait_for(timeout=TIMEOUT_MS)

    def wait_until_idle(self) -> None:
        """Wait until the indicator says that the kernel is idle, and no cell shows ``[*]``."""
        self.page.wait_for_selector(self._front_end.idle, timeout=TIMEOUT_MS, state="attached")
        prompt = self.page.locator(self._front_end.prompt)
        wait_for(lambda: not any("*" in text for text in prompt.all_inner_texts()), "no [*]", 60)

    def close_dialog(self) -> None:
        self.page.click(self._front_end.dialog, timeout=TIMEOUT_MS)


@pytest.fixture(scope="session")
def environment_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[FrontEnd], str]:
    """Give a function that returns the Python of a front end's environment."""

    def make(front_end: FrontEnd) -> str:
        if not front_end.pip:
            return sys.executable
        folder = tmp_path_factory.mktemp("front-end") / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", str(ROOT), *front_end.pip]
        subprocess.run(pip, check=True, capture_output=True, text=True)
        return str(folder / "bin/python")

    return make


def serve(front_end: FrontEnd, python: str, home: Path, env: dict[str, str]) -> Lab:
    """Return the front end's server, to be started, and write the notebook."""
    code = [nbformat.v4.new_code_cell(cell) for cell in (STUBBORN, WHERE)]
    server = Lab(home, env, f"--ServerApp.kernel_manager_class={CLASS}")
    notebook = nbformat.v4.new_notebook(cells=code)
    if not front_end.takes_external:
        notebook.metadata["kernelspec"] = {"name": "kconnd-lab", "display_name": "lab (kconnd)"}
    nbformat.write(notebook, home / "root" / "n.ipynb")
    command = [front_end.module if word == "jupyterlab" else word for word in server.command]
    server.command = [python, *command[1:]]
    return server


@pytest.mark.parametrize(
    "front_end",
    [
        pytest.param(LAB, id="JupyterLab"),
        pytest.param(NOTEBOOK, id="Notebook 7", marks=pytest.mark.nightly),
        pytest.param(CLASSIC, id="nbclassic", marks=pytest.mark.nightly),
    ],
)
def test_a_notebook_goes_on_after_a_restart_and_a_crash(
    front_end: FrontEnd,
    environment_of: Callable[[FrontEnd], str],
    daemon: Daemon,
    home: Path,
    jupyter: dict[str, str],
) -> None:
    daemon.profile("seen", f"{FORK}publish: jupyter\n")
    daemon.ask("POST", "/v1/reload")
    name = "seen" if front_end.takes_external else "lab"
    daemon.post(name, "start")
    with serve(front_end, environment_of(front_end), home, jupyter) as server, page() as found:
        kernel = {"name": "kconnd-lab"}
        if front_end.takes_external:
            wait_for(server.kernels, "the server to list the kernel")
            kernel = {"id": server.kernels()[0]["id"]}
        session = {"path": "n.ipynb", "type": "notebook", "name": "n.ipynb", "kernel": kernel}
        server.ask("POST", "api/sessions", session)
        notebook = Notebook(front_end, found)
        notebook.open(server)

        notebook.run(0)
        notebook.wait_for_output("begun")
        daemon.post(name, "restart", now=True)
        notebook.wait_for_output(f"{name} {RESTARTED}")
        notebook.wait_until_idle()
        notebook.run(1)
        notebook.wait_for_output(f"in process {daemon.info(name)['pid']}")

        notebook.run(0)
        notebook.wait_for_output("begun")
        os.kill(daemon.info(name)["pid"], signal.SIGKILL)
        notebook.close_dialog()
        notebook.wait_until_idle()
        notebook.run(1)
        notebook.wait_for_output(f"in process {daemon.info(name)['pid']}")
    assert daemon.info(name)["generation"] == 3
