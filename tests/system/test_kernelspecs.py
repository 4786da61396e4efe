"""Finding and reading the kernel specs that a user has installed."""

import json
import os
from pathlib import Path

import pytest

from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.errors import StartFailedError
from kconnd.system.hung_calls import StuckError
from kconnd.system.kernelspecs import KernelspecIndex, installed_names, program_of, python_spec


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Give two folders in which Jupyter looks for kernel specs, the first one first."""
    roots = tmp_path / "mine", tmp_path / "all"
    monkeypatch.setenv("JUPYTER_PATH", os.pathsep.join(map(str, roots)))
    return roots[0] / "kernels", roots[1] / "kernels"


def install(root: Path, name: str, content: object = None) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    text = json.dumps(content or {"argv": [str(root), "{connection_file}"]})
    (folder / "kernel.json").write_text(text, encoding="utf-8")
    return folder


def test_the_first_folder_counts_and_our_own_specs_do_not(roots: tuple[Path, Path]) -> None:
    mine = install(roots[0], "Lab")
    install(roots[1], "lab")
    install(roots[0], "kconnd-lab")
    (roots[0] / "empty").mkdir()
    installed = installed_names()
    assert installed["lab"] == mine
    assert installed.keys().isdisjoint({"kconnd-lab", "empty"})


def test_a_spec_is_read_anew_from_where_the_index_or_else_a_scan_finds_it(
    roots: tuple[Path, Path],
) -> None:
    index = KernelspecIndex()
    install(roots[1], "lab", {"argv": ["x"], "language": "R"})
    assert index.read("LAB").language == "R"
    index.folders = {"lab": install(roots[0], "lab", {"argv": ["x"], "language": "julia"})}
    assert index.read("lab").language == "julia"


def test_a_spec_that_cannot_be_used_is_an_error_with_its_folder(roots: tuple[Path, Path]) -> None:
    folder = install(roots[0], "lab", {"argv": "x"})
    with pytest.raises(StartFailedError, match=f"{folder}/kernel.json:1:10: argv is not a list"):
        KernelspecIndex().read("lab")
    with pytest.raises(StartFailedError, match="'no-such': it is not installed") as caught:
        KernelspecIndex().read("no-such")
    assert str(roots[1]) in caught.value.hint


def test_a_spec_may_be_in_a_folder_that_hangs(roots: tuple[Path, Path]) -> None:
    install(roots[1], "lab")

    def begin(step: str) -> None:
        if str(roots[0]) in step:
            raise StuckError(step)

    assert KernelspecIndex().read("lab", begin).name == "lab"
    with pytest.raises(StuckError):
        KernelspecIndex().read("no-such", begin)


def test_an_interpreter_runs_ipykernel_with_what_its_own_spec_supports(tmp_path: Path) -> None:
    python = str(tmp_path / "bin/python")
    assert python_spec(python).encryptions == ()
    metadata = {"supported_encryption": "curve"}
    root = tmp_path / "share/jupyter/kernels"
    folder = install(root, "python3", {"argv": ["x"], "metadata": metadata})
    spec = python_spec(python)
    assert (spec.argv[0], spec.encryptions, spec.resource_dir) == (python, ("curve",), str(folder))


@pytest.mark.parametrize("name", ["python3", "kernel"])
def test_a_bare_program_is_that_of_the_specs_environment(name: str, tmp_path: Path) -> None:
    spec = KernelSpec("lab", (name,), resource_dir=f"{tmp_path}/share/jupyter/kernels/lab")
    assert program_of(spec) == ""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).touch()
    assert program_of(spec) == str(tmp_path / "bin" / name)
