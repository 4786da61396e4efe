"""Limits are read from the files of control groups, of either version, and of a process."""

import os
import resource
from pathlib import Path

import pytest

from kconnd.system.process.process_limits import read_cgroup_limits, read_limits

V2_ROWS = "0::/user.slice/k.scope\n"
V1_ROWS = "3:cpu,cpuacct:/k.scope\n2:pids:/k.scope\n1:memory:/k.scope\n0::/elsewhere\n"
V2 = {"memory.max": "1073741824\n", "cpu.max": "150000 100000\n", "pids.max": "61\n"}
V1 = {
    "memory/k.scope/memory.limit_in_bytes": "1073741824\n",
    "cpu/k.scope/cpu.cfs_quota_us": "150000\n",
    "cpu/k.scope/cpu.cfs_period_us": "100000\n",
    "pids/k.scope/pids.max": "61\n",
}
LIMITS = {"memory": 1 << 30, "cpu": 1.5, "tasks": 61}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (V2, LIMITS),
        ({"memory.max": "max\n", "cpu.max": "max 100000\n", "pids.max": "max\n"}, {}),
        ({"pids.max": "7\n"}, {"tasks": 7}),  # only this controller is delegated
        ({"memory.max": "odd"}, {}),
        ({}, {}),
    ],
)
def test_the_unified_tree(tmp_path: Path, files: dict[str, str], limits: dict[str, float]) -> None:
    write(tmp_path, {f"user.slice/k.scope/{name}": text for name, text in files.items()})
    (tmp_path / "cgroup.controllers").touch()
    assert read_cgroup_limits(V2_ROWS, tmp_path) == limits


def test_the_trees_of_version_1(tmp_path: Path) -> None:
    write(tmp_path, V1)
    assert read_cgroup_limits(V1_ROWS, tmp_path) == LIMITS
    write(tmp_path, {"cpu/k.scope/cpu.cfs_quota_us": "-1\n", "pids/k.scope/pids.max": "max\n"})
    assert read_cgroup_limits(V1_ROWS, tmp_path) == {"memory": 1 << 30}
    assert read_cgroup_limits(V2_ROWS, tmp_path) == {}, "no controller is in that tree here"


def test_open_files_are_those_of_the_kernel() -> None:
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert read_limits(os.getpid(), os.getpid())["open_files"] == own
    assert read_limits(1 << 22, 1 << 22) == {}, "no process has a number as large"
