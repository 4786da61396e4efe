"""Kernel records on disk: saved, read back, and restored after damage."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.kernel.lifecycle import Lifecycle, State
from kconnd.core.kernel.record import KernelRecord, Origin
from kconnd.errors import StateFileError
from kconnd.system.store import Store, records_elsewhere

HERE = Origin("m1", "host", "boot")
LAB = KernelRecord("lab", Lifecycle(State.RUNNING, generation=3))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "m1", HERE, flush=lambda _path: None)
    yield store
    store.close()


def test_a_record_is_saved_privately_with_its_origin_and_read_back(store: Store) -> None:
    store.save(LAB)
    assert store.read("lab") == replace(LAB, origin=HERE)
    assert list(store.names()) == ["lab"]
    file = store.path("lab") / "record.json"
    assert (file.stat().st_mode & 0o777, store.path("lab").stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_save_is_written_through_to_disk_at_the_latest_on_close(tmp_path: Path) -> None:
    flushed: list[Path] = []
    store = Store(tmp_path, HERE, flush=flushed.append)
    store.save(LAB)
    store.close()
    assert flushed == [tmp_path / "kernels/lab/record.json"]


def test_a_damaged_record_is_replaced_by_the_previous_version(store: Store) -> None:
    store.save(LAB)
    store.save(replace(LAB, lifecycle=Lifecycle(generation=4)))
    file = store.path("lab") / "record.json"
    file.write_bytes(b"")
    assert store.peek("lab") is None
    assert store.read("lab").lifecycle.generation == 3
    assert (store.path("lab") / "record.bad-1.json").read_bytes() == b""
    assert store.peek("lab") == store.read("lab")


def test_a_damaged_record_without_a_previous_version_is_put_aside(store: Store) -> None:
    file = store.folder("lab") / "record.json"
    for number in (1, 2):
        file.write_text("{}", encoding="utf-8")
        with pytest.raises(StateFileError, match=rf"it is now .*/record.bad-{number}.json"):
            store.read("lab")
    assert not file.exists()


def test_a_record_under_another_name_is_none(store: Store) -> None:
    store.save(LAB)
    store.path("lab").rename(store.path("work"))
    assert store.peek("work") is None


def test_records_of_other_machines_are_listed_and_the_own_ones_are_not(
    store: Store, tmp_path: Path
) -> None:
    store.save(LAB)
    other = Store(tmp_path / "m2", replace(HERE, machine="m2"), flush=lambda _path: None)
    other.save(replace(LAB, name="far"))
    other.close()
    assert [record.name for record in records_elsewhere(tmp_path, HERE)] == ["far"]
