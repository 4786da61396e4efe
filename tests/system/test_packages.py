"""Reading the packages of a program's environment: folders, versions, requirements."""

import os
from pathlib import Path
from typing import Any

import pytest

from kconnd.system.hung_calls import ignore_step
from kconnd.system.packages import (
    InstalledPackages,
    may_import,
    package_folders,
    read_stamps,
)


def make_program(folder: Path, *, venv: bool = True, name: str = "python") -> Path:
    program = folder / "bin" / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.touch(0o755)
    if venv:
        (folder / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    return program


def make_package(folder: Path, info: str, metadata: str = "", record: str = "") -> None:
    (folder / info).mkdir(parents=True)
    (folder / info / "METADATA").write_text(metadata)
    (folder / info / "RECORD").write_text(record)


def make_npm_program(prefix: Path, package: str, content: str) -> Path:
    """Lay out a global package of npm; return the link in ``bin``."""
    folder = prefix / "lib/node_modules" / package
    (folder / "bin").mkdir(parents=True)
    (folder / "package.json").write_text(content)
    program = folder / "bin" / "program"
    program.touch(0o755)
    link = prefix / "bin" / package.rpartition("/")[2]
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(os.path.relpath(program, link.parent))
    return link


def folders_of(program: Path, **env: str) -> list[str]:
    return package_folders(str(program), env, ignore_step)


def test_a_virtual_environment_has_its_own_packages_only(tmp_path: Path) -> None:
    (tmp_path / "env/lib/python3.11/site-packages").mkdir(parents=True)
    (tmp_path / "home/.local/lib/python3.11/site-packages").mkdir(parents=True)
    program = make_program(tmp_path / "env")
    env_folder = f"{tmp_path}/env/lib/python3.11"
    own = [f"{env_folder}/site-packages", f"{env_folder}/dist-packages"]
    assert folders_of(program, HOME=str(tmp_path / "home")) == own
    assert folders_of(program, PYTHONPATH=f"/extra::{tmp_path}") == ["/extra", str(tmp_path), *own]


def test_another_python_has_those_of_its_user_first(tmp_path: Path) -> None:
    for folder in ("usr/lib/python3", "home/.local/lib/python3.11", "usr/local/lib/python3.11"):
        (tmp_path / folder).mkdir(parents=True)
    program = make_program(tmp_path / "usr", venv=False)
    folders = folders_of(program, HOME=str(tmp_path / "home"))
    assert folders[0] == f"{tmp_path}/home/.local/lib/python3.11/site-packages"
    assert f"{tmp_path}/usr/lib/python3/dist-packages" in folders
    assert folders[-1] == f"{tmp_path}/usr/local/lib/python3.11/dist-packages"


def test_a_link_to_a_program_leads_to_its_packages(tmp_path: Path) -> None:
    (tmp_path / "opt/lib/python3.11").mkdir(parents=True)
    program = make_program(tmp_path / "opt", name="xkernel")
    (tmp_path / "usr/bin").mkdir(parents=True)
    link = tmp_path / "usr/bin/xkernel"
    link.symlink_to(program)
    assert f"{tmp_path}/opt/lib/python3.11/site-packages" in folders_of(link)


def test_a_package_is_stamped_by_its_folder(tmp_path: Path) -> None:
    before = read_stamps([str(tmp_path), str(tmp_path / "missing")], ignore_step)
    assert len(before) == 1
    os.utime(tmp_path, ns=(1, 1))
    assert read_stamps([str(tmp_path)], ignore_step) != before


@pytest.fixture
def packages(tmp_path: Path) -> InstalledPackages:
    first, second = tmp_path / "first", tmp_path / "second"
    make_package(first, "bash_kernel-0.10.0.dist-info", "Name: bash_kernel\nRequires-Dist: a\n")
    make_package(second, "bash_kernel-0.9.dist-info")
    make_package(
        second,
        "My.Kernel-2.0rc1.dist-info",
        "Name: x\nRequires-Dist: ipykernel (>=4)\n"
        "Requires-Dist: Meta_Kernel>=1; os_name>'3'\n"
        "Requires-Dist: pytest ; extra == 'test'\n\nRequires-Dist: not-a-header\n",
        "mymodule/__init__.py,sha256=x,1\nsingle.py,,\n../../../bin/mykernel,sha256=y,2\n",
    )
    (second / "old-1.5-py3.11.egg-info").mkdir()
    (second / "old-1.5-py3.11.egg-info/requires.txt").write_text(
        "metakernel>=1\n\n[test]\npytest\n"
    )
    (second / "IRkernel").mkdir()
    (second / "IRkernel/DESCRIPTION").write_text("Package: IRkernel\nVersion: 1.3.2\n")
    os.mkfifo(second / "My.Kernel-2.0rc1.dist-info/PKG-INFO")
    return InstalledPackages([str(first), str(second), str(tmp_path / "none")], ignore_step)


def test_versions_are_those_that_are_imported(packages: InstalledPackages) -> None:
    assert packages.versions == {"bash-kernel": "0.10.0", "my-kernel": "2.0rc1", "old": "1.5"}
    assert packages.version_of("Bash-Kernel") == "0.10.0"
    assert packages.version_of("IRkernel") == "1.3.2"
    assert packages.version_of("missing") == ""


@pytest.mark.parametrize(
    ("module", "program", "name"),
    [
        ("bash_kernel", "python", "bash_kernel"),
        ("mymodule.app", "python", "My.Kernel"),
        ("single", "python", "My.Kernel"),
        ("", "mykernel", "My.Kernel"),
        ("mymod", "python", None),
        ("", "python", None),
    ],
)
def test_the_package_of_a_module_or_program(
    packages: InstalledPackages, module: str, program: str, name: str | None
) -> None:
    package = packages.find_package(module, program)
    assert (package.name if package else None) == name


def test_only_what_is_always_required_counts(packages: InstalledPackages) -> None:
    def requirements(module: str) -> Any:
        package = packages.find_package(module, "")
        assert package is not None
        return packages.read_requirements(package)

    assert requirements("mymodule") == ["ipykernel", "Meta_Kernel"]
    assert requirements("old") == ["metakernel"]
    assert requirements("bash_kernel") == ["a"]


@pytest.mark.parametrize(
    ("content", "version"),
    [
        ('{"name": "deno", "version": "2.9.6"}', "2.9.6"),
        ('{"version": 2}', ""),
        ("[]", ""),
        ("{", ""),
        ("[" * 100_000, ""),
    ],
)
@pytest.mark.parametrize("package", ["deno", "@scope/deno"])
def test_a_package_of_npm_has_its_version(
    tmp_path: Path, package: str, content: str, version: str
) -> None:
    program = make_npm_program(tmp_path, package, content)
    folders = folders_of(program)
    assert folders[0] == f"{tmp_path}/lib/node_modules"
    assert InstalledPackages(folders, ignore_step).version_of(package) == version


def test_the_package_that_contains_the_program_has_precedence(tmp_path: Path) -> None:
    make_package(tmp_path / "lib/python3.11/site-packages", "deno-1.0.dist-info")
    program = make_npm_program(tmp_path, "deno", '{"version": "2.9.6"}')
    assert InstalledPackages(folders_of(program), ignore_step).version_of("deno") == "2.9.6"
    other = make_program(tmp_path, venv=False, name="other")
    assert InstalledPackages(folders_of(other), ignore_step).version_of("deno") == "1.0"


def test_a_package_within_another_is_in_the_inner_folder(tmp_path: Path) -> None:
    program = make_npm_program(tmp_path, "outer/node_modules/deno", '{"version": "2.9.6"}')
    folders = folders_of(program)
    assert folders[0] == f"{tmp_path}/lib/node_modules/outer/node_modules"
    assert InstalledPackages(folders, ignore_step).version_of("deno") == "2.9.6"


def make_r_package(folder: Path, name: str, version: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "DESCRIPTION").write_text(f"Package: {name}\nVersion: {version}\n")


@pytest.mark.parametrize("below", ["usr/lib/R", "usr"])
@pytest.mark.parametrize(
    ("variables", "version"),
    [
        ({}, "1.3.9"),  # in the folder of the user for this version of R
        ({"R_LIBS_USER": "/missing"}, "1.3.2"),
        ({"R_LIBS_USER": "{home}/R/x-library/4.1"}, "1.0"),
        ({"R_LIBS": "{home}/R/x-library/4.1"}, "1.0"),
    ],
)
def test_r_uses_the_packages_of_its_user_first(
    tmp_path: Path, below: str, variables: dict[str, str], version: str
) -> None:
    home = tmp_path / "home"
    program = make_program(tmp_path / below, venv=False, name="R")
    make_r_package(tmp_path / "usr/lib/R/library", "base", "4.2.2")
    make_r_package(tmp_path / "usr/lib/R/site-library", "IRkernel", "1.3.2")
    make_r_package(home / "R/x-library/4.2", "IRkernel", "1.3.9")
    make_r_package(home / "R/x-library/4.1", "IRkernel", "1.0")
    env = {name: text.format(home=home) for name, text in variables.items()}
    folders = folders_of(program, HOME=str(home), **env)
    assert InstalledPackages(folders, ignore_step).version_of("IRkernel") == version


def test_a_module_may_be_imported_from_folders_links_and_editable_installations(
    tmp_path: Path,
) -> None:
    cwd, site, project = (tmp_path / name for name in ("cwd", "site-packages", "project/src"))
    for folder in (cwd, site, project):
        folder.mkdir(parents=True)
    folders = [str(cwd), str(site)]
    assert not may_import("acme", folders, ignore_step)
    assert may_import("acme", [str(cwd)], ignore_step), "no package folder is known"
    assert may_import("acme", [str(cwd), str(tmp_path / "no")], ignore_step)
    for place, name in ((cwd, "acme.py"), (site, "acme"), (site, "acme.cpython-311.so")):
        (place / name).touch()
        assert may_import("acme", folders, ignore_step)
        (place / name).unlink()
    (site / "acme-1.0.dist-info").mkdir()
    (project / "acme").mkdir()
    assert not may_import("acme", folders, ignore_step)
    (site / "acme.pth").write_text(f"# a comment\nimport sys\n{project}\n{site}\n")
    assert may_import("acme", folders, ignore_step)
    (site / "acme.pth").write_text("import __editable___acme_1_0_finder\n")
    (site / "__editable___acme_1_0_finder.py").write_text("MAPPING = {'acme': '/x/acme'}\n")
    assert may_import("acme", folders, ignore_step)
    assert not may_import("other", folders, ignore_step)
