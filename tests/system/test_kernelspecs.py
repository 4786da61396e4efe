"""Finding and reading the kernel specs that a user has installed."""

import json
import os
from pathlib import Path

import pytest

from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.names import derived_name
from kconnd.core.profile.model import Profile
from kconnd.errors import StartFailedError
from kconnd.system.hung_calls import StuckError
from kconnd.system.kernelspecs import KernelspecIndex, environment_of, installed_names, python_spec


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


def test_a_spec_is_read_by_both_of_its_names(roots: tuple[Path, Path]) -> None:
    install(roots[0], "C++ 17", {"argv": ["x"], "language": "C++"})
    assert "c++ 17" in installed_names()
    index = KernelspecIndex()
    for _ in range(2):  # by a scan, then from the index
        for name in ("C++ 17", "c++ 17", derived_name("c++ 17")):
            spec = index.read(name)
            assert (spec.name, spec.display_name, spec.language) == ("c++ 17", "c++ 17", "C++")
        index.folders = installed_names()
        assert {spec for spec in index.folders if spec.startswith("c+")} == {"c++ 17"}


@pytest.mark.parametrize(
    "name",
    [b"evil\nline", b"\x1b]0;title\x07", "\u202ereversed".encode(), b"bad\xff", b"\xff" * 255],
)
def test_a_hostile_name_is_shown_escaped(name: bytes, roots: tuple[Path, Path]) -> None:
    folder = install(roots[0], os.fsdecode(name), {"argv": "x"})
    (spec,) = [spec for spec, path in installed_names().items() if path == folder]
    Profile(name="lab", kernel=spec)  # raises if the name is no valid text
    steps: list[str] = []
    with pytest.raises(StartFailedError, match="argv is not a list") as broken:
        KernelspecIndex().read(derived_name(spec), steps.append)
    with pytest.raises(StartFailedError, match="is not installed") as missing:
        KernelspecIndex().read(f"{spec}x", steps.append)
    texts = (broken.value.message, missing.value.message, missing.value.hint, *steps)
    assert all(text.isprintable() for text in texts)


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


def test_the_environment_of_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, env = tmp_path / "home/.local", tmp_path / "env"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(home / "share/jupyter"))
    in_home = install(home / "share/jupyter/kernels", "lab")
    in_env = install(env / "share/jupyter/kernels", "lab")
    linked = home / "share/jupyter/kernels/linked"
    linked.symlink_to(in_env)
    file_linked = home / "share/jupyter/kernels/file"
    file_linked.mkdir()
    (file_linked / "kernel.json").symlink_to(in_env / "kernel.json")
    shared = install(tmp_path / "shared/kernels", "lab")
    folders = {in_home: "", in_env: env, linked: env, file_linked: env, shared: ""}
    for folder, environment in folders.items():
        spec = KernelSpec("lab", ("x",), resource_dir=str(folder))
        assert environment_of(spec) == str(environment)


def test_a_data_folder_behind_a_link_is_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(tmp_path / "disk/share/jupyter/kernels", "lab")
    (tmp_path / "home").symlink_to("disk")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "home/share/jupyter"))
    linked = str(folder).replace("/disk/", "/home/")
    assert environment_of(KernelSpec("lab", ("x",), resource_dir=linked)) == ""
