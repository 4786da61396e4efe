"""The shim's own parts: its plan, its log, its files."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.plan import LaunchPlan
from kconnd.launchers.base import Handle
from kconnd.launchers.local import LocalLauncher
from kconnd.launchers.shim_plan import plan_records
from kconnd.programs import shim
from kconnd.system.files.kernel_lock import read_holder
from kconnd.system.process.processes import ProcessId
from tests.launchers.fake import files_in

WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NAME = st.from_regex(r"[A-Z_]{1,8}", fullmatch=True)


@given(st.lists(WORD, min_size=1), st.dictionaries(NAME, WORD), WORD, st.integers(0, 10**12))
def test_the_shim_reads_the_plan_that_the_launcher_writes(
    argv: list[str], env: dict[str, str], cwd: str, limit: int
) -> None:
    plan = LaunchPlan("k", 7, tuple(argv), env, cwd, files_in(Path("/")), log_max=limit)
    text = b"".join(plan_records(plan, ("lock", "5")))
    read = shim.Plan(text)
    assert [arg.decode() for arg in read.args] == argv
    assert {key.decode(): value.decode() for key, value in read.env.items()} == env
    assert read.values["cwd"].decode() == cwd
    assert (read.number("generation"), read.number("log_max")) == (7, limit)
    assert read.number("umask", 8) == 0o022


class PlanText(Protocol):
    def __call__(self, script: str, exit_file: str = "", facts: str = "") -> bytes: ...


@pytest.fixture
def plan_text(tmp_path: Path) -> PlanText:
    """Give the text of a plan that runs a script of the shell."""

    def make(script: str, exit_file: str = "", facts: str = "") -> bytes:
        lock = ("lock_file", str(tmp_path / "lab.lock"))
        plan = LaunchPlan(
            name="k",
            generation=7,
            argv=("/bin/sh", "-c", script),
            env={},
            cwd="/",
            files=files_in(tmp_path, facts=facts or "lab.shim.json", exit=exit_file or "exit"),
        )
        return b"".join(plan_records(plan, lock))

    return make


def test_a_plan_that_is_cut_short_is_not_acted_on(tmp_path: Path) -> None:
    text = f"arg=touch\0arg={tmp_path}/made\0cwd=/\0".encode()
    done = subprocess.run(
        [sys.executable, "-I", "-S", shim.__file__, "k"],
        input=text,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    assert not list(tmp_path.iterdir())


CHILD = """\
import os, sys
sys.path.insert(0, sys.argv[1])
import shim
def prepare(): raise OSError("a fault of its own")
def become(plan, trouble): raise AssertionError("it has no plan")
try:
    child = shim.Child(become, prepare)
except OSError:
    child = None
print(os.getpid(), flush=True)
if child: print(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]))
"""


def test_a_child_never_goes_on_as_the_shim() -> None:
    command = [sys.executable, "-c", CHILD, str(Path(shim.__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=30)
    assert said == f"{process.pid}\n1\n"


@given(sizes=st.lists(st.integers(1, 300), min_size=4, max_size=30), keep=st.integers(0, 3))
def test_a_log_keeps_the_newest_and_never_grows_beyond_its_size(
    sizes: list[int], keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = shim.RotatingLog(os.fsencode(folder / "log"), 500, keep)
    written = bytes(number % 251 for number in range(sum(sizes)))
    for end, size in zip(itertools.accumulate(sizes), sizes, strict=True):
        log.write(written[end - size : end])
    kept = [folder / "log", *(folder / f"log.{number}" for number in range(1, keep + 1))]
    existing = [path for path in kept if path.exists()]
    assert sorted(existing) == sorted(folder.iterdir())
    assert all(path.stat().st_size <= 500 for path in existing)
    text = b"".join(path.read_bytes() for path in reversed(existing))
    assert written.endswith(text)
    assert len(text) >= min(len(written), 200 if keep else sizes[-1])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in existing)


def test_what_a_full_disk_swallowed_is_counted_and_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = shim.RotatingLog(b"/dev/full", 0, 0)
    log.write(b"lost")
    log.write(b"too")
    assert log.dropped_bytes == 7
    os.close(log.file)
    log.path, log.file = shim.OutputPath(os.fsencode(path)), -1
    log.write(b"back\n")
    assert path.read_bytes() == b"\n[kconnd: 7 bytes of output could not be kept]\nback\n"


def test_a_shim_whose_caller_has_died_goes_on(tmp_path: Path, plan_text: PlanText) -> None:
    """The daemon is killed between sending the plan and reading the answer."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", shim.__file__, "k"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.write(plan_text("exit 7"))
        process.stdin.close()
        assert process.wait(30) == 0
    assert json.loads((tmp_path / "lab.shim.json").read_bytes())["generation"] == 7
    assert json.loads((tmp_path / "exit").read_bytes())["code"] == 7


def test_an_exit_that_its_own_disk_does_not_take_is_beside_the_facts(
    tmp_path: Path, plan_text: PlanText
) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", shim.__file__, "k"],
        input=plan_text("exit 7", exit_file="/dev/null/exit"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    process = ProcessId(1 << 22, 1)
    lock = str(tmp_path / "lab.lock")
    handle = Handle("local", 7, "", process, process, "/dev/null/exit", lock)
    found = asyncio.run(LocalLauncher(tmp_path).wait(handle))
    assert found.code == 7


def test_an_exit_that_no_disk_takes_is_in_the_room_that_was_taken_in_the_lock(
    tmp_path: Path, plan_text: PlanText
) -> None:
    live = tmp_path / "live"
    live.mkdir()
    script = f"rm -r {live}; touch {live}; exit 7"  # nothing can be written beside the facts
    done = subprocess.run(
        [sys.executable, "-I", "-S", shim.__file__, "k"],
        input=plan_text(script, exit_file="/dev/null/exit", facts=str(live / "lab.shim.json")),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    lock = tmp_path / "lab.lock"
    assert lock.stat().st_size == shim.LOCK_BYTES, "one block, that was taken at the start"
    holder = read_holder(lock)
    assert holder is not None
    facts = str(live / "lab.shim.json")
    handle = Handle(
        "local", 7, "", holder.shim, holder.kernel, "/dev/null/exit", str(lock), facts=facts
    )
    wait = LocalLauncher(tmp_path).wait
    assert asyncio.run(wait(handle)).code == 7
    assert asyncio.run(wait(replace(handle, generation=8))).lost, "that of another launch"


def test_a_log_does_not_follow_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"dear")
    (tmp_path / "log").symlink_to(victim)
    log = shim.RotatingLog(os.fsencode(tmp_path / "log"), 100, 1)
    log.write(b"x")
    assert victim.read_bytes() == b"dear"
    assert log.dropped_bytes == 1


def test_what_is_written_follows_a_folder_that_was_moved(tmp_path: Path) -> None:
    """The folder that takes its place can be another user's, as the number of the user is."""
    folder, aside = tmp_path / "lab", tmp_path / "aside"
    folder.mkdir()
    log = shim.RotatingLog(bytes(folder / "log"), 10, 2)
    place = shim.OutputPath(bytes(folder / "exit.json"))
    log.write(b"before..")
    folder.rename(aside)
    folder.mkdir()
    (folder / "log").write_bytes(b"theirs")
    for text in (b"after...", b"again..."):
        log.write(text)
    shim.write_whole(place.current(), b"{}", durable=True)
    kept = {file.name: file.read_bytes() for file in aside.iterdir()}
    assert kept == {
        "log": b"again...",
        "log.1": b"after...",
        "log.2": b"before..",
        "exit.json": b"{}",
    }
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"log": b"theirs"}


def test_a_folder_that_was_removed_and_made_again_is_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    log, place = (
        shim.RotatingLog(bytes(folder / "log"), 10, 1),
        shim.OutputPath(bytes(folder / "exit.json")),
    )
    log.write(b"before..")
    (folder / "log").unlink()
    folder.rmdir()
    folder.mkdir()
    log.write(b"after...")  # it goes to the file that is removed, which is still open
    log.write(b"again...")
    shim.write_whole(place.current(), b"{}", durable=True)
    assert (folder / "exit.json").read_bytes() == b"{}"
    assert (folder / "log").read_bytes() == b"again..."


def test_a_link_that_turns_leads_to_its_new_folder(tmp_path: Path) -> None:
    """The first folder of a kernel that was kept warm stays until that has learned its name."""
    link, first, named = (tmp_path / name for name in ("x~1", "x~1.d", "lab"))
    first.mkdir()
    named.mkdir()
    link.symlink_to(first.name)
    log, place = (
        shim.RotatingLog(bytes(link / "log"), 10, 1),
        shim.OutputPath(bytes(link / "exit.json")),
    )
    log.write(b"before..")
    (first / "log").rename(named / "log")
    (tmp_path / "new").symlink_to(named)
    (tmp_path / "new").rename(link)
    log.write(b"after...")
    shim.write_whole(place.current(), b"{}", durable=True)
    link.unlink()  # the folder that it led to holds
    log.write(b"again...")
    assert not list(first.iterdir())
    kept = {file.name: file.read_bytes() for file in named.iterdir()}
    assert kept == {"log": b"again...", "log.1": b"after...", "exit.json": b"{}"}


# --- whose limit of memory it was

SLICES = "kconnd.slice/kconnd-7.slice"
UNIT = f"{SLICES}/kconnd-kernel-7-lab-1.service"
VERSIONS = {
    "0::": ("", "memory.events", "oom_kill {}\n", "memory.events.local", "max 9\noom {}\n"),
    "4:cpu,memory:": (
        *("memory", "memory.oom_control", "under_oom 0\noom_kill {}\n"),
        *("memory.failcnt", "{}\n"),
    ),
}


class Tree:
    """Control groups of version 1 or 2, as files."""

    def __init__(self, folder: Path, row: str) -> None:
        below, *self._files = VERSIONS[row]
        self._top = folder / "cgroup" / below
        (self._top / UNIT).mkdir(parents=True)
        for group in ("", "kconnd.slice", SLICES, UNIT):
            self.count(group, kills=0, hits=3)  # of a time before the kernel was there
        place = folder / "place"
        place.write_text(f"1:name=systemd:/x\n{row}/{UNIT}\n", encoding="ascii")
        self.memory = shim.MemoryLimits(os.fsencode(folder / "cgroup"), os.fsencode(place))

    def count(self, group: str, *, kills: int, hits: int) -> None:
        kill_file, kill_text, hit_file, hit_text = self._files
        (self._top / group / kill_file).write_text(kill_text.format(kills), encoding="ascii")
        (self._top / group / hit_file).write_text(hit_text.format(hits), encoding="ascii")


@pytest.mark.parametrize("row", VERSIONS)
def test_whose_limit_of_memory_was_reached(tmp_path: Path, row: str) -> None:
    tree = Tree(tmp_path, row)
    assert tree.memory.verdict() == (b"false", b"false", b"")
    tree.count(SLICES, kills=1, hits=4)
    assert tree.memory.verdict() == (b"false", b"false", b""), "another kernel of its user"
    tree.count(UNIT, kills=1, hits=3)
    assert tree.memory.verdict() == (b"true", b"false", b"kconnd-7.slice")
    tree.count(UNIT, kills=1, hits=5)
    assert tree.memory.verdict() == (b"true", b"true", b"kconnd-7.slice"), "nobody can tell"
    tree.count(SLICES, kills=0, hits=3)
    assert tree.memory.verdict() == (b"true", b"true", b"")
    tree.count(UNIT, kills=1, hits=3)
    assert tree.memory.verdict() == (b"true", b"false", b""), "the machine's memory"
    tree.count("kconnd.slice", kills=0, hits=4)
    assert tree.memory.verdict() == (b"true", b"false", b"kconnd.slice")


def test_without_control_groups_nothing_is_said_of_memory(tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path / "place"):
        memory = shim.MemoryLimits(os.fsencode(tmp_path), os.fsencode(place))
        assert memory.verdict() == (b"false", b"false", b"")
        (tmp_path / "place").write_text("0::/x\n", encoding="ascii")
