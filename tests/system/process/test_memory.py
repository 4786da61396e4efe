"""The memory that is left within the limits of cgroups, in trees like those of both versions."""

from pathlib import Path

import psutil
import pytest

from kconnd.system.process.memory import available_in_cgroups, available_memory

V1_ROWS, V2_ROWS = "9:cpu,memory:/a/b\n8:pids:/other\n", "0::/a/b\n"


def limit(folder: Path, version: int, allowed: str, used: int) -> None:
    """Set the limit of a cgroup."""
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    names = names if version == 1 else ("memory.max", "memory.current")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, (allowed, str(used)), strict=True):
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


@pytest.mark.parametrize(("version", "rows"), [(1, V1_ROWS), (2, V2_ROWS)])
def test_the_own_cgroup_and_each_one_above_it_count(
    version: int, rows: str, tmp_path: Path
) -> None:
    place, root = tmp_path / "place", tmp_path / "cgroup"
    place.write_text(rows, encoding="utf-8")
    top = root / "memory" if version == 1 else root
    limit(top / "a/b", version, "1000", 300)
    limit(top / "a", version, "500", 400)
    limit(top / "other", version, "1", 1)
    assert sorted(available_in_cgroups(place, root)) == [100, 700]


def test_a_cgroup_without_a_limit_or_without_the_controller_counts_for_nothing(
    tmp_path: Path,
) -> None:
    place = tmp_path / "place"
    assert list(available_in_cgroups(place, tmp_path)) == []
    place.write_text(V2_ROWS, encoding="utf-8")
    limit(tmp_path / "a/b", 2, "max", 300)
    assert list(available_in_cgroups(place, tmp_path)) == []


def test_there_is_some_memory_left_here() -> None:
    assert 0 < available_memory() < psutil.virtual_memory().total
