"""The facts of installed kernels, and the store of learned facts."""

import itertools
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from kconnd.core.launch.capabilities import CURVE, UNIX_SOCKETS, Fact, FactSource, Software
from kconnd.core.launch.kernelspec_file import KernelSpec, ipykernel_spec
from kconnd.system.hung_calls import ignore_step
from kconnd.system.kernel_software import (
    LEARNED,
    REUSE_S,
    LearnedCapabilities,
    SoftwareReader,
)
from tests.system.test_packages import make_npm_program, make_package, make_program

SOFTWARE = Software("key", "mine")
YES = {UNIX_SOCKETS: Fact(True, FactSource.START, "it answered", 5.0)}  # noqa: FBT003  # the value
DATA = Path(__file__).parents[1] / "data"


def read(spec: KernelSpec, reader: SoftwareReader | None = None) -> Software:
    return (reader or SoftwareReader()).read(spec, spec.argv, os.environ, (), ignore_step)


def make_kernel(folder: Path, requires: str) -> KernelSpec:
    program = make_program(folder)
    packages = folder / "lib/python3.11/site-packages"
    make_package(packages, "mykernel-1.dist-info", f"Name: x\nRequires-Dist: {requires}\n")
    make_package(packages, "ipykernel-6.29.5.dist-info")
    return KernelSpec("mine", (str(program), "-m", "mykernel", "{connection_file}"))


def test_the_installed_ipykernel_is_known_by_what_was_measured() -> None:
    facts = read(ipykernel_spec(sys.executable)).facts
    assert facts[UNIX_SOCKETS].source is FactSource.MEASURED
    assert facts[CURVE].value is True


def test_a_kernel_is_known_by_its_requirements(tmp_path: Path) -> None:
    facts = read(make_kernel(tmp_path / "a", "ipykernel")).facts
    assert (facts[UNIX_SOCKETS].value, facts[CURVE].value) == (True, False)
    assert "requires ipykernel; ipykernel 6.29.5 is installed" in facts[CURVE].evidence
    assert read(make_kernel(tmp_path / "b", "twisted")).facts == {}


def test_what_a_kernel_spec_declares_is_weaker_than_what_is_installed(tmp_path: Path) -> None:
    spec = make_kernel(tmp_path / "a", "ipykernel")
    declares = KernelSpec("mine", spec.argv, encryptions=("curve",))
    assert read(declares).facts[CURVE].value is False
    alone = KernelSpec("mine", ("/bin/sh", "-c", "x"), encryptions=("curve",))
    assert read(alone).facts[CURVE].source is FactSource.DECLARED


def test_the_key_follows_the_kernel_spec_and_the_packages(tmp_path: Path) -> None:
    now = itertools.count(0.0, REUSE_S)
    spec, reader = make_kernel(tmp_path, "twisted"), SoftwareReader(clock=lambda: next(now))
    first = read(spec, reader)
    assert read(spec, reader) == first
    other = KernelSpec("mine", (*spec.argv, "--quiet"))
    assert read(other, reader).key != first.key
    make_package(tmp_path / "lib/python3.11/site-packages", "new-1.dist-info")
    assert read(spec, reader).key != first.key


@pytest.mark.parametrize(("version", "is_measured"), [("1.0.22", True), ("2.0.0", False)])
def test_a_kernel_of_npm_is_known_by_its_version(
    tmp_path: Path,
    version: str,
    is_measured: bool,  # noqa: FBT001  # pytest's way
) -> None:
    program = make_npm_program(tmp_path, "tslab", json.dumps({"version": version}))
    facts = read(KernelSpec("tslab", (str(program), "kernel", "{connection_file}"))).facts
    assert (UNIX_SOCKETS in facts) is is_measured


def test_an_update_by_npm_changes_the_key(tmp_path: Path) -> None:
    now = itertools.count(0.0, REUSE_S)
    program = make_npm_program(tmp_path, "tslab", "{}")
    spec = KernelSpec("tslab", (str(program), "kernel", "{connection_file}"))
    reader = SoftwareReader(clock=lambda: next(now))
    first = read(spec, reader)
    folder = tmp_path / "lib/node_modules/tslab"
    folder.rename(tmp_path / "lib/node_modules/.tslab-old")
    folder.mkdir()
    assert read(spec, reader).key != first.key


def test_what_was_learned_is_kept_in_a_private_file(tmp_path: Path) -> None:
    assert LearnedCapabilities(tmp_path).learn(SOFTWARE, YES) == YES
    path = tmp_path / LEARNED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    learned = LearnedCapabilities(tmp_path)
    assert learned.facts(SOFTWARE) == YES
    assert learned.facts(Software("other")) == {}
    inode = path.stat().st_ino
    assert learned.learn(SOFTWARE, YES) == {}
    assert path.stat().st_ino == inode
    assert learned.forget("key")
    assert not learned.forget("key")
    assert LearnedCapabilities(tmp_path).facts(SOFTWARE) == {}


def test_what_a_dead_daemon_was_writing_is_removed(tmp_path: Path) -> None:
    LearnedCapabilities(tmp_path).learn(SOFTWARE, YES)
    unfinished, other = tmp_path / ".capabilities.json.0123abcd", tmp_path / ".other"
    for path in (unfinished, other):
        path.touch()
    LearnedCapabilities(tmp_path).tidy()
    assert not unfinished.exists()
    assert other.exists()
    LearnedCapabilities().tidy()


def test_nothing_is_learned_of_what_has_no_key(tmp_path: Path) -> None:
    assert LearnedCapabilities(tmp_path).learn(Software(), YES) == {}
    assert not (tmp_path / LEARNED).exists()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"version": 9}', b"[" * 100_000])
def test_a_damaged_file_is_put_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / LEARNED
    path.write_bytes(content)
    learned = LearnedCapabilities(tmp_path)
    assert learned.facts(SOFTWARE) == {}
    assert (tmp_path / f"{LEARNED}.bad").read_bytes() == content
    learned.learn(SOFTWARE, YES)
    assert json.loads(path.read_bytes())["version"] == 1


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    learned = LearnedCapabilities(tmp_path / "missing")
    learned.learn(SOFTWARE, YES)
    assert learned.facts(SOFTWARE) == YES


def test_the_file_of_the_first_version_loads(tmp_path: Path) -> None:
    (tmp_path / LEARNED).write_bytes((DATA / "capabilities-1.json").read_bytes())
    facts = LearnedCapabilities(tmp_path).facts(Software("0123456789abcdef0123456789abcdef"))
    assert {name: fact.value for name, fact in facts.items()} == {
        "unix_sockets": False,
        "curve": False,
        "seconds_to_start": 1.25,
    }


def test_starts_of_the_same_moment_share_one_look_at_the_files(tmp_path: Path) -> None:
    now = [100.0]
    steps: list[str] = []
    reader = SoftwareReader(clock=lambda: now[0])
    spec = make_kernel(tmp_path, "twisted")

    def key(settings: tuple[str, ...] = ()) -> str:
        return reader.read(spec, spec.argv, os.environ, settings, steps.append).key

    first = key()
    steps.clear()
    now[0] += 0.9
    assert (key(), len(steps)) == (first, 1)
    assert key(("bash",)) != first, "another command is looked up"
    steps.clear()
    now[0] += 0.2
    assert key() == first
    assert len(steps) > 1


def test_the_software_tells_when_it_has_changed(tmp_path: Path) -> None:
    spec = make_kernel(tmp_path, "twisted")
    packages = tmp_path / "lib/python3.11/site-packages"
    newest = max(path.stat().st_mtime for path in (Path(spec.argv[0]), packages))
    assert read(spec).changed_at >= newest
    os.utime(packages, (newest + 1000, newest + 1000))
    assert read(spec).changed_at == pytest.approx(newest + 1000)


def test_a_fact_is_known_of_any_version_of_a_kernel() -> None:
    learned = LearnedCapabilities()
    learned.learn(SOFTWARE, YES)
    assert learned.has_learned("mine", UNIX_SOCKETS)
    assert not learned.has_learned("mine", CURVE)
    assert not learned.has_learned("other", UNIX_SOCKETS)
