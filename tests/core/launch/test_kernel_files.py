"""Where a kernel's files are: one module spells each path, and no other does."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.kernel_files import (
    kernel_files,
    kernel_of_connection_file,
    kernel_of_facts,
    spare_exit_of,
    warm_files,
    warm_kernel_of,
    warm_name,
    without_warm_suffix,
)
from kconnd.core.names import NAME_PATTERN
from kconnd.programs import shim

ROOT = Path(__file__).parents[3]
HOME = "kconnd/core/launch/kernel_files.py"
SPELLING = re.compile(
    r"\.shim\.json|\bexit\.json|\.connection\.json|\brecord\.json|~\[0-9a-f"
    r"|^(live|/live/?|/ipc/?)$|^/(lock|log)$|^\.(lock|plan|d|new)$|^/?kernel-(\*\.json)?$"
)
MAY_SPELL = {
    HOME: "it is the one",
    "kconnd/programs/shim.py": "it imports nothing of ours, and derives one path: the spare exit's",
    "kconnd/attach.py": "its files are private copies, which are named as Jupyter names them",
    "kconnd/system/files/account_files.py": "its .new file is none of a kernel",
    "kconnd/connect.py": "its files are jupyter_client's own",
    "kconnd/connection_search.py": "a pattern may name any kernel",
}
NAME = st.from_regex(NAME_PATTERN, fullmatch=True)
DIGITS = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)


def spelled_in(source: str) -> list[str]:
    """List the texts of a module, docstrings aside, that spell a part of such a path."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings and SPELLING.search(node.value)
    ]


def test_no_other_module_spells_a_path_of_a_kernel() -> None:
    spelled = {
        name: texts
        for path in (ROOT / "kconnd").rglob("*.py")
        if (name := str(path.relative_to(ROOT))) not in MAY_SPELL
        if (texts := spelled_in(path.read_text(encoding="utf-8")))
    }
    assert spelled == {}


@pytest.mark.parametrize(
    "code",
    [
        "runtime / 'live' / name",
        "f'{folder}/exit.json'",
        "f'{runtime}/ipc/{name}'",
        "f'{link.name}.d'",
        "f'{live}/{name}.lock'",
        "path.glob('*.shim.json')",
        "f'{runtime}/kernel-{name}.json'",
    ],
)
def test_a_path_that_is_spelled_elsewhere_would_be_seen(code: str) -> None:
    assert spelled_in(code)


@given(NAME, NAME, DIGITS)
def test_no_two_files_have_the_same_path(name: str, profile: str, digits: str) -> None:
    warm = warm_name(profile, digits)
    files, others = vars(kernel_files("/r", "/s", name)), vars(warm_files("/r", "/s", warm))
    paths = [path for path in (*files.values(), *others.values()) if path not in {name, warm}]
    assert len(set(paths)) == len(paths)


@given(NAME, DIGITS)
def test_names_are_read_back_from_paths(name: str, digits: str) -> None:
    files = kernel_files("/r", "/s", name)
    assert kernel_of_facts(Path(files.facts).name) == name
    assert kernel_of_connection_file(Path(files.connection_file).name) == name
    assert spare_exit_of(files.facts, files.lock) == files.spare_exit
    assert spare_exit_of("", files.old_lock) == files.spare_exit
    warm = warm_files("/r", "/s", warm_name(name, digits))
    assert without_warm_suffix(warm.name) == name == without_warm_suffix(name)
    for path in (warm.folder, warm.first_folder, warm.next_link, *warm.live):
        assert warm_kernel_of(Path(path).name) == warm.name
    assert not any(warm_kernel_of(Path(path).name) for path in vars(files).values())


def test_the_shim_writes_the_spare_exit_where_it_is_looked_for() -> None:
    source = Path(shim.__file__).read_text(encoding="utf-8")
    assert 'removesuffix(b".shim.json") + b".exit.json"' in source
