"""How a front end's notebook is described to the daemon."""

import os

from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.notebook import SESSION_NAME, Notebook
from kconnd.jupyter.notebook_session import read_notebook


def test_a_front_end_in_a_cell_of_a_notebook_is_not_that_notebook() -> None:
    environment = {SESSION_NAME: "/h/outer.ipynb"}
    for env, name in (
        ({SESSION_NAME: "/h/outer.ipynb"}, ""),
        ({SESSION_NAME: "/h/inner.ipynb"}, "/h/inner.ipynb"),
        ({}, ""),
        (None, ""),
    ):
        read = read_notebook({"cwd": "/h", "env": env}, environment)
        assert read == Notebook(folder="/h", name=name)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_folder_is_made_absolute(cwd: str) -> None:
    folder = read_notebook({"cwd": cwd}, {}).folder
    assert folder.startswith("/")
    assert os.path.realpath(folder) == os.path.realpath(cwd or ".")
