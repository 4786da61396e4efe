"""``kconnd-ctl kernelspec`` against the fake daemon, in a prefix of the test's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from kconnd.client import kernel_path
from kconnd.core.names import derived_name
from kconnd.errors import ElsewhereError, NoSuchKernelError
from tests.cli.conftest import Ctl, Outcome
from tests.cli.fake_daemon import FakeDaemon


class Specs:
    """The verb with a prefix, and the kernel specs in it.

    Parameters
    ----------
    ctl : callable
        Runs ``kconnd-ctl``.
    prefix : Path
        The folder of an environment.
    """

    def __init__(self, ctl: Ctl, prefix: Path) -> None:
        self._ctl, self._prefix = ctl, prefix
        self.folder = prefix / "share/jupyter/kernels"

    def run(self, action: str, *words: str) -> Outcome:
        return self._ctl("kernelspec", action, "--prefix", str(self._prefix), *words)

    def content(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name / "kernel.json").read_bytes())
        return content


@pytest.fixture
def specs(ctl: Ctl, daemon: FakeDaemon, folder: Path) -> Specs:
    (folder / "logo-svg.svg").write_text("<svg/>", encoding="utf-8")
    rows = [
        {
            "name": "lab",
            "file": "/c/lab.yaml",
            "language": "R",
            "resource_dir": str(folder),
            "display_name": "R",
            "interrupt_mode": "message",
            "metadata": {"debugger": True, "kernel_provisioner": {}, "supported_encryption": "x"},
        },
        {"name": "Work", "language": None, "resource_dir": ""},
    ]
    daemon.replies["GET", "/v1/profiles"] = {"profiles": rows, "faults": []}
    return Specs(ctl, folder / "env")


def test_the_name_of_a_spec_has_characters_of_jupyter_alone(
    specs: Specs, daemon: FakeDaemon
) -> None:
    name = r"EXAMPLE\jürgen o'doe/lab"
    daemon.replies["GET", kernel_path(name)] = {"language": "R"}
    outcome = specs.run("install", name)
    assert outcome.code == 0, outcome.err
    content = specs.content("kconnd-example-j-rgen-o-doe-lab")
    assert content["metadata"]["kernel_provisioner"]["config"]["profile"] == name
    assert specs.run("remove", name).code == 0


def test_a_spec_leads_to_its_profile(specs: Specs) -> None:
    outcome = specs.run("install", "lab")
    assert outcome.code == 0, outcome.err
    assert "its name in papermill and nbclient is kconnd-lab" in outcome.out
    content = specs.content("kconnd-lab")
    assert content["display_name"] == "lab (kconnd)"
    assert content["language"] == "R"
    assert content["interrupt_mode"] == "message"
    assert content["metadata"] == {
        "debugger": True,
        "supported_encryption": "curve",
        "kernel_provisioner": {"provisioner_name": "kconnd", "config": {"profile": "lab"}},
    }
    files = sorted(file.name for file in (specs.folder / "kconnd-lab").iterdir())
    assert files == ["kernel.json", "logo-svg.svg"]


def test_a_kernel_spec_keeps_its_display_name(specs: Specs, daemon: FakeDaemon) -> None:
    row = {"name": "ir", "file": None, "display_name": "R 4.5", "language": "R"}
    daemon.replies["GET", "/v1/profiles"]["profiles"].append(row)
    assert "Jupyter shows ir as 'R 4.5 (kconnd)'" in specs.run("install", "ir").out
    content = specs.content("kconnd-ir")
    assert (content["display_name"], content["interrupt_mode"]) == ("R 4.5 (kconnd)", "signal")


def test_the_list_has_a_profile_and_a_path_in_each_line(specs: Specs) -> None:
    assert specs.run("install", "lab").code == 0
    assert specs.run("list").out == f"lab: {specs.folder}/kconnd-lab\n"


def test_all_are_installed_listed_and_removed(specs: Specs) -> None:
    assert specs.run("install", "--all", "--json").code == 0
    (specs.folder / "kconnd-foreign").mkdir()
    listed = specs.run("list", "--json").json()["kernelspecs"]
    assert [(row["name"], row["profile"]) for row in listed] == [
        ("kconnd-lab", "lab"),
        ("kconnd-work", "Work"),
    ]
    assert specs.run("remove", "lab").code == 0
    assert specs.run("remove", "lab").code == NoSuchKernelError.exit_code
    assert specs.run("remove", "--all").code == 0
    assert [file.name for file in specs.folder.iterdir()] == ["kconnd-foreign"]


def test_two_profiles_that_jupyter_cannot_tell_apart_are_refused(
    specs: Specs, daemon: FakeDaemon
) -> None:
    specs.run("install", "Work")
    daemon.replies["GET", "/v1/profiles"]["profiles"].append({"name": "work"})
    outcome = specs.run("install", "work")
    assert (outcome.code, "kconnd-ctl kernelspec remove Work" in outcome.err) == (2, True)
    assert specs.content("kconnd-work")["metadata"]["kernel_provisioner"]["config"] == {
        "profile": "Work"
    }


def test_the_kernel_of_another_owner_has_the_language_that_it_reports(
    specs: Specs, daemon: FakeDaemon
) -> None:
    profiles = daemon.replies["GET", "/v1/profiles"]

    def reply(request: Any) -> Any:
        return ElsewhereError("it is ada's") if "kernel=" in request.query else profiles

    daemon.replies["GET", "/v1/profiles"] = reply
    daemon.add("shared", language="julia")
    assert specs.run("install", "shared").code == 0
    assert specs.content("kconnd-shared")["language"] == "julia"


def test_jupyters_name_of_a_kernel_spec_leads_to_its_kernel(
    specs: Specs, daemon: FakeDaemon
) -> None:
    name = derived_name("c++ 17")
    row = {"name": name, "file": None, "display_name": "C++ (17)", "language": "C++"}
    profiles = daemon.replies["GET", "/v1/profiles"]

    def reply(request: Any) -> Any:
        is_named = request.query == "kernel=C%2B%2B%2017"
        return {"profiles": [row], "faults": []} if is_named else profiles

    daemon.replies["GET", "/v1/profiles"] = reply
    outcome = specs.run("install", "C++ 17")
    assert outcome.code == 0, outcome.err
    content = specs.content(f"kconnd-{name}")
    assert content["argv"][1:] == ["start", name]
    assert content["display_name"] == "C++ (17) (kconnd)"
    assert content["metadata"]["kernel_provisioner"]["config"] == {"profile": name}
    assert specs.run("remove", "c++ 17").code == 0
    assert list(specs.folder.iterdir()) == []


def test_without_a_name_it_is_a_usage_error(specs: Specs) -> None:
    outcome = specs.run("install")
    assert (outcome.code, "PROFILE is missing" in outcome.err) == (2, True)
