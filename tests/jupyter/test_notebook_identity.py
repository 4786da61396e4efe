"""A kernel belongs to its notebook and not to a path, over the restart of a Jupyter server."""

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon
from tests.jupyter.test_server import CLASS, Server

NAMES = ("renamed", "moved", "original", "deleted", "replaced", "saved")
OURS = pytest.param((f"--ServerApp.kernel_manager_class={CLASS}",), marks=pytest.mark.nightly)


class Root:
    """The root folder of a server, with notebooks that differ in nothing but their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def write(self, name: str) -> None:
        cells = [nbformat.v4.new_code_cell("1")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), self.path / f"{name}.ipynb")

    def rename(self, old: str, new: str) -> None:
        (self.path / f"{new}.ipynb").parent.mkdir(exist_ok=True)
        (self.path / f"{old}.ipynb").rename(self.path / f"{new}.ipynb")


def open_notebook(server: Server, name: str) -> dict[str, Any]:
    path = f"{name}.ipynb"
    body = {"path": path, "name": path.rpartition("/")[2], "type": "notebook"}
    session: dict[str, Any] = server.ask(
        "POST", "api/sessions", {**body, "kernel": {"name": "kconnd-each"}}
    )
    return session


def value_in(server: Server, name: str) -> str:
    """Return the value of x in the kernel of a notebook."""
    session = open_notebook(server, name)
    return server.run(session["kernel"]["id"], "print(globals().get('x'))").strip()


@pytest.mark.parametrize("options", [(), OURS])
def test_each_notebook_keeps_its_kernel_whatever_becomes_of_its_name(
    home: Path, daemon: Daemon, jupyter: dict[str, str], options: tuple[str, ...]
) -> None:
    root = Root(home / "root")
    with Server(home, jupyter, *options) as server:
        sessions = {}
        for name in NAMES:
            root.write(name)
            sessions[name] = open_notebook(server, name)
            server.run(sessions[name]["kernel"]["id"], f"x = {name!r}")
        # As JupyterLab does it: the file first, then the session.
        server.ask("PATCH", "api/contents/renamed.ipynb", {"path": "new name.ipynb"})
        new = {"path": "new name.ipynb", "name": "new name.ipynb"}
        server.ask("PATCH", f"api/sessions/{sessions['renamed']['id']}", new)
        root.write("other")
        server.ask("PATCH", f"api/sessions/{sessions['saved']['id']}", {"path": "other.ipynb"})
        # By another program while it is open, as `git checkout` does it.
        root.write("replacement")
        root.rename("replacement", "replaced")
        server.ask("DELETE", f"api/sessions/{sessions['deleted']['id']}")
        server.ask("DELETE", "api/contents/deleted.ipynb")
        root.write("deleted")
        assert value_in(server, "deleted") == "None"
    root.rename("moved", "sub/moved")
    root.write("moved")
    shutil.copy2(root.path / "original.ipynb", root.path / "copy.ipynb")
    with Server(home, jupyter, *options) as server:
        kept = {"new name": "renamed", "sub/moved": "moved", "original": "original"}
        kept |= {"replaced": "replaced", "other": "saved"}
        assert {name: value_in(server, name) for name in kept} == kept
        for name in ("moved", "copy", "deleted", "saved"):
            assert value_in(server, name) == "None", name
    kernels = [row for row in daemon.get("/v1/kernels")["kernels"] if "@" in row["name"]]
    assert len(kernels) == len(NAMES) + 4
    assert {row["state"] for row in kernels} == {"running"}


@pytest.mark.nightly
def test_a_killed_server_has_said_where_its_notebooks_are(
    home: Path, daemon: Daemon, jupyter: dict[str, str]
) -> None:
    root = Root(home / "root")
    root.write("one")
    with Server(home, jupyter) as server:
        session = open_notebook(server, "one")
        server.run(session["kernel"]["id"], "x = 1")
        root.write("two")
        server.ask("PATCH", f"api/sessions/{session['id']}", {"path": "two.ipynb"})
        (kernel,) = (row for row in daemon.get("/v1/kernels")["kernels"] if "@" in row["name"])
        two = str(root.path / "two.ipynb")
        # The server polls its kernels every three seconds.
        wait_for(lambda: daemon.info(kernel["name"])["notebook"]["path"] == two, "it to be noted")
        server.process.kill()
        server.process.wait()
    with Server(home, jupyter) as server:
        assert value_in(server, "two") == "1"
        assert value_in(server, "one") == "None"
