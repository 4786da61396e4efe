"""JupyterLab in a real browser: a variable outlives Lab.

With ``KCONND_PICTURES=DIR`` the pictures of the README are made there.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.end_to_end.daemon import Daemon
from tests.jupyter.test_server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here"),
    # Playwright leaves closing its pipe to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Lab(Server):
    """JupyterLab in the place of a bare server."""

    def __init__(self, home: Path, env: dict[str, str], *options: str) -> None:
        super().__init__(home, env, *options)
        extensions = "--ServerApp.jpserver_extensions={}"
        words = [word for word in self.command if word != extensions]
        words[words.index("jupyter_server")] = "jupyterlab"
        self.command = words
        settings = home / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        self.env = {**self.env, "JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}


@contextmanager
def page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # where there is a browser

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser.new_page(viewport={"width": 860, "height": 260})
        browser.close()


def write(home: Path, name: str, code: str) -> None:
    """Write a notebook that says which kernel it wants, as one that was saved does."""
    found = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    found.metadata["kernelspec"] = {"name": "kconnd-lab", "display_name": "lab (kconnd)"}
    nbformat.write(found, home / "root" / name)


def run_first_cell(lab: Any, kernel: str) -> str:
    """Run the first cell of the notebook that Lab opens, and give what it printed."""
    lab.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    # Before it knows the kernel, Lab shows the status idle, and runs no cell.
    lab.wait_for_selector(f'.jp-Toolbar-kernelName:has-text("{kernel}")', timeout=60_000)
    lab.wait_for_selector('[data-status="idle"]', timeout=60_000)
    lab.click(".jp-Cell .cm-content")
    lab.keyboard.press("Shift+Enter")
    lab.wait_for_selector(".jp-OutputArea-output pre", timeout=60_000)
    printed: str = lab.inner_text(".jp-OutputArea-output pre")
    return printed


def run_in_lab(lab: Lab, name: str) -> str:
    """Open a notebook, run its cell, and give what it printed."""
    with page() as found:
        found.goto(f"http://127.0.0.1:{lab.port}/doc/tree/{name}?token={lab.token}")
        printed = run_first_cell(found, "lab (kconnd)")
        if folder := os.environ.get("KCONND_PICTURES"):
            found.screenshot(path=str(Path(folder) / f"{Path(name).stem}.png"))
        return printed


def test_a_variable_outlives_jupyterlab(
    daemon: Daemon, home: Path, jupyter: dict[str, str]
) -> None:
    with Lab(home, jupyter) as lab:
        write(home, "lab-first.ipynb", "import os\nkept = 6 * 7\nprint('in process', os.getpid())")
        first = run_in_lab(lab, "lab-first.ipynb")
    assert daemon.info("lab")["state"] == "running", "Lab has ended, and its kernel has not"
    with Lab(home, jupyter) as lab:
        write(home, "lab-again.ipynb", "print(kept, 'is still there, in process', os.getpid())")
        again = run_in_lab(lab, "lab-again.ipynb")
    pid = daemon.info("lab")["pid"]
    assert first.strip() == f"in process {pid}"
    assert again.strip() == f"42 is still there, in process {pid}"
