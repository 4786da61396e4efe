"""What can be launched by name, and how rarely anybody looks at a disk for that."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from kconnd.core.names import derived_name
from kconnd.core.profile.model import Profile
from kconnd.daemon.catalog import Catalog, Source
from kconnd.errors import StartFailedError
from kconnd.system import kernelspecs
from kconnd.system.hung_calls import BeginStep, PathSteps, StuckError
from kconnd.system.kernelspecs import KernelspecIndex
from kconnd.system.profiles.faults import Fault
from kconnd.system.profiles.loader import LoadedProfiles, SourcedProfile

LAB = Profile(name="lab", argv=("/bin/lab", "{connection_file}"), cwd="/home/{instance}")


class Shelf:
    """A catalog over folders of kernel specs that a test chooses."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {"python3": Path("/k/python3"), "a b": Path("/k/a b")}
        self.scans = 0
        self.stuck = False
        self.index = KernelspecIndex()
        self.catalog = Catalog(PathSteps(), self.index, self.scan)

    def scan(self, _begin: BeginStep) -> Mapping[str, Path]:
        self.scans += 1
        if self.stuck:
            raise StuckError("looking for kernel specs in /k")
        return dict(self.folders)

    def hold(self, *profiles: Profile, **more: Mapping[str, Fault]) -> None:
        sourced = {one.name: SourcedProfile(one, f"{one.name}.yaml", 1) for one in profiles}
        self.catalog.replace(LoadedProfiles(sourced, (), **more))  # type: ignore[arg-type]  # of one field


async def test_kernel_specs_are_profiles_and_files_go_before_them() -> None:
    shelf = Shelf()
    assert shelf.catalog.find("python3") is None
    await shelf.catalog.refresh()
    entry = shelf.catalog.find("python3")
    assert entry is not None
    assert (entry.profile.name, entry.profile.kernel) == ("python3", "python3")
    assert shelf.catalog.find("python3") is entry
    other_case = shelf.catalog.find("Python3@x")
    assert other_case is not None
    assert other_case.profile.name == "Python3"
    written = LAB.model_copy(update={"name": "python3", "cwd": "/"})
    shelf.hold(written)
    found = shelf.catalog.find("python3")
    assert found is not None
    assert found.profile is written


async def test_a_kernel_spec_without_a_kernel_name_has_a_derived_name() -> None:
    shelf = Shelf()
    name = derived_name("a b")
    await shelf.catalog.refresh()
    for kernel in (name, f"{name}@x"):
        entry = shelf.catalog.find(kernel)
        assert entry is not None
        assert (entry.profile.name, entry.profile.kernel) == (name, "a b")
    other_case = shelf.catalog.find(name.upper())
    assert other_case is not None
    assert (other_case.profile.name, other_case.profile.kernel) == (name.upper(), "a b")


async def test_a_kernel_spec_that_has_a_derived_name_literally_takes_precedence() -> None:
    shelf = Shelf()
    name = derived_name("a b")
    await shelf.catalog.refresh()
    shelf.folders[name] = Path("/k", name)
    await shelf.catalog.refresh()
    entry = shelf.catalog.find(name)
    assert entry is not None
    assert entry.profile.kernel == name
    assert shelf.catalog.spec_names.clashes == {"a b": name}
    del shelf.folders[name]
    await shelf.catalog.refresh()
    entry = shelf.catalog.find(name)
    assert entry is not None
    assert entry.profile.kernel == "a b"


SPEC = "c++ 17"
NAME = derived_name(SPEC)


def profile(**fields: object) -> dict[str, SourcedProfile]:
    return {NAME: SourcedProfile(Profile(name=NAME, **fields), "/c/x.yaml", 1)}


async def holder_of(specs: tuple[str, ...], **loaded: object) -> str:
    shelf = Shelf()
    shelf.folders = {spec: Path("/k", spec) for spec in specs}
    await shelf.catalog.refresh()
    shelf.catalog.replace(LoadedProfiles(**{"profiles": {}, "faults": (), **loaded}))  # type: ignore[arg-type]  # of one field
    return shelf.catalog.find_holder("C++ 17", NAME)


async def test_a_derived_name_leads_to_the_kernel_of_its_spec() -> None:
    for specs in ((), (SPEC,), (SPEC, "python3")):
        assert await holder_of(specs) == ""
    assert await holder_of((SPEC,), profiles=profile(kernel="C++ 17")) == ""


@pytest.mark.parametrize(
    ("loaded", "holder"),
    [
        ({"profiles": profile(python="/usr/bin/python3")}, "the profile in /c/x.yaml"),
        ({"profiles": profile(kernel="python3")}, "the profile in /c/x.yaml"),
        (
            {"first_faults": {NAME: Fault("/c/b.yaml", 1, 1, "", "wrong")}},
            "the profile in /c/b",
        ),
        ({"elsewhere": {NAME: "ada"}}, "a kernel of ada"),
    ],
)
async def test_a_derived_name_that_a_profile_has_is_not_taken(
    loaded: dict[str, object], holder: str
) -> None:
    assert (await holder_of((SPEC,), **loaded)).startswith(holder)


async def test_a_derived_name_that_another_spec_has_is_not_taken() -> None:
    for specs in ((SPEC, NAME), (NAME,)):
        assert await holder_of(specs) == f"the kernel spec {NAME}"


async def test_a_profile_with_faults_hides_the_kernel_spec_of_its_name() -> None:
    shelf = Shelf()
    await shelf.catalog.refresh()
    shelf.hold(first_faults={"python3": Fault("python3.yaml", 1, 1, "", "wrong")})
    assert shelf.catalog.find("python3") is None


def test_an_instance_has_its_own_profile() -> None:
    shelf = Shelf()
    shelf.hold(LAB)
    entry = shelf.catalog.find("lab@x")
    assert entry is not None
    assert entry.profile.cwd == "/home/x"
    assert entry.plain["cwd"] == "/home/x"
    assert shelf.catalog.find("lab@x") is not entry, "whoever asks for many would fill the memory"


async def test_a_kernel_asks_again_only_once_something_has_changed() -> None:
    shelf = Shelf()
    shelf.hold(LAB)
    source = Source(shelf.catalog, "lab@x")
    entry = source()
    assert source() is entry
    await shelf.catalog.refresh()
    version = shelf.catalog.version
    await shelf.catalog.refresh()
    assert shelf.catalog.version == version, "nothing was installed or removed"
    entry = source()
    shelf.hold()
    assert entry is not None
    assert source() is None


async def test_those_who_ask_during_a_scan_share_the_next_one() -> None:
    shelf = Shelf()
    await asyncio.gather(*(shelf.catalog.refresh() for _ in range(5)))
    assert shelf.scans == 2


async def test_what_was_known_holds_while_a_folder_hangs() -> None:
    shelf = Shelf()
    await shelf.catalog.refresh()
    shelf.stuck = True
    await shelf.catalog.refresh()
    assert shelf.catalog.find("python3")
    shelf.stuck = False
    shelf.folders.clear()
    await shelf.catalog.refresh()
    assert not shelf.catalog.find("python3")
    assert shelf.index.folders == {}


def test_a_spec_is_read_where_it_was_and_looked_for_once_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[str] = []
    monkeypatch.setattr(kernelspecs, "search_path", lambda: [tmp_path / "new"])
    index = KernelspecIndex()
    for name in ("old", "new"):
        folder = tmp_path / name / "python3"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text('{"argv": ["python", "-m", "x"]}')
    index.folders = {"python3": tmp_path / "old/python3"}
    assert index.read("Python3", scanned.append).resource_dir == str(tmp_path / "old/python3")
    assert not [step for step in scanned if "looking for kernel specs" in step]
    (tmp_path / "old/python3/kernel.json").unlink()
    assert index.read("python3", scanned.append).resource_dir == str(tmp_path / "new/python3")
    with pytest.raises(StartFailedError, match="it is not installed"):
        index.read("r")
