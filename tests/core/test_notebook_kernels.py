"""Which kernel belongs to a notebook, over sequences of renames, copies, deletions and restarts."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from kconnd.core.launch.notebook import Notebook
from kconnd.core.names import parse_name
from kconnd.core.notebook_kernels import choose_instance, instance_name, notebooks_of

KERNEL_ID = "0123456789abcdef"
ONE, TWO = Notebook("/h", "/h/one.ipynb", "file-1"), Notebook("/h", "/h/two.ipynb", "file-2")


def test_a_notebook_finds_its_kernel_by_its_file_whatever_its_path() -> None:
    first = choose_instance(ONE, KERNEL_ID, {})
    assert first.startswith("one-")
    assert choose_instance(ONE, "another", {}) == first, "two servers may open it at once"
    moved = Notebook("/h/sub", "/h/sub/new.ipynb", "file-1")
    assert choose_instance(moved, "another", {first: ONE, "two-1": TWO}) == first


def test_another_file_under_the_old_name_gets_a_kernel_of_its_own() -> None:
    first = choose_instance(ONE, KERNEL_ID, {})
    other = Notebook(ONE.folder, ONE.name, "file-3")
    assert choose_instance(other, "another", {first: ONE}) != first


def test_a_name_that_another_notebook_took_over_is_not_used() -> None:
    """It was saved under another name while its kernel ran, and the old file is opened again."""
    first = choose_instance(ONE, KERNEL_ID, {})
    assert choose_instance(ONE, KERNEL_ID, {first: TWO}) != first


def test_where_nobody_can_tell_it_is_a_new_kernel() -> None:
    console = Notebook("/h", "/h/Console 1")
    first = choose_instance(console, KERNEL_ID, {})
    assert choose_instance(console, "another", {first: console}) != first
    both = {"one-1": ONE, "one-2": ONE}
    assert choose_instance(ONE, KERNEL_ID, both) not in both


def test_a_kernel_of_an_earlier_version_belongs_to_the_path_of_its_name() -> None:
    earlier = instance_name(ONE.name, ONE.name)
    assert choose_instance(ONE, KERNEL_ID, {earlier: None}) == earlier
    assert choose_instance(ONE, KERNEL_ID, {earlier: TWO}) != earlier


@given(st.text(), st.text(), st.text(alphabet="0123456789abcdef-", min_size=8))
def test_every_notebook_has_a_kernel_with_a_valid_name(
    name: str, file: str, kernel_id: str
) -> None:
    chosen = choose_instance(Notebook("/h", name, file), kernel_id, {})
    assert parse_name(f"lab@{chosen}") == ("lab", chosen)
    assert (chosen == "run-" + kernel_id[:8]) == (not name)


@pytest.mark.parametrize("row", [{}, {"notebook": None}])
def test_rows_of_the_profile_are_read(row: dict[str, None]) -> None:
    shown = {"path": ONE.name, "folder": ONE.folder, "file": ONE.file}
    rows: list[dict[str, Any]] = [
        {"name": "lab", "notebook": shown},
        {"name": "lab@one", "notebook": shown},
        {"name": "lab@two", **row},
        {"name": "other@one", "notebook": shown},
    ]
    assert notebooks_of("lab", rows) == {"one": ONE, "two": None}


class Notebooks(RuleBasedStateMachine):
    """Users and servers do what they can with files; each file keeps the kernel that it got."""

    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.paths: dict[str, str] = {}  # of each file that exists
        self.kernels: dict[str, Notebook | None] = {}  # as the daemon has recorded them
        self.owners: dict[str, str] = {}  # the instance of each file that was opened

    def _free(self, path: str) -> bool:
        return path not in self.paths.values()

    @rule(target=files, path=st.sampled_from("abc"))
    def create(self, path: str) -> str:
        """A notebook is created, or a copy of another one; both are files of their own."""
        for file, other in list(self.paths.items()):
            if other == path:
                del self.paths[file]
        file = f"file-{next(self.numbers)}"
        self.paths[file] = path
        return file

    @rule(file=files, path=st.sampled_from("abcd"))
    def rename(self, file: str, path: str) -> None:
        if file in self.paths and self._free(path):
            self.paths[file] = path

    @rule(file=consumes(files))
    def delete(self, file: str) -> None:
        self.paths.pop(file, None)

    @rule(file=files)
    def open(self, file: str) -> None:
        """A server that knows no kernel of it yet, for example a new one, opens the notebook."""
        if file not in self.paths:
            return
        notebook = Notebook("/", f"/{self.paths[file]}.ipynb", file)
        instance = choose_instance(notebook, f"id-{next(self.numbers)}", self.kernels)
        if file in self.owners:
            assert instance == self.owners[file], "it keeps its kernel"
        else:
            assert instance not in self.owners.values(), "nobody else's"
        self.kernels[instance] = notebook
        self.owners[file] = instance

    @rule(target=files, file=files, path=st.sampled_from("xyz"))
    def save_as(self, file: str, path: str) -> str:
        """An open notebook is saved as another file, and its kernel goes on under that name."""
        saved = f"file-{next(self.numbers)}"
        if file not in self.owners or file not in self.paths or not self._free(path):
            return saved
        self.paths[saved] = path
        instance = self.owners.pop(file)
        self.kernels[instance] = Notebook("/", f"/{path}.ipynb", saved)
        self.owners[saved] = instance
        return saved

    @invariant()
    def each_kernel_has_one_owner(self) -> None:
        assert len(set(self.owners.values())) == len(self.owners)


TestNotebooks = Notebooks.TestCase
