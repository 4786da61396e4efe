"""The machine's profiles, while somebody writes them."""

import asyncio
import os
from pathlib import Path

import pytest

from kconnd.front.machine_config import MachineConfig
from kconnd.system.files.stamps import Stamp

ME = os.geteuid()


def write(file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    file.chmod(0o644)


def set_mode(folder: Path, mode: int) -> None:
    folder.chmod(mode)


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def machine(configs: Path) -> MachineConfig:
    return MachineConfig(str(configs), str(configs.parent / "kconnd.yaml"), uid=ME)


async def tasks(machine: MachineConfig) -> dict[str, float | None]:
    found = (await machine.profiles()).profiles
    return {name: one.profile.limits.tasks for name, one in found.items()}


async def test_who_asks_while_a_profile_is_being_written_gets_it_complete(
    configs: Path, machine: MachineConfig
) -> None:
    """Each time a daemon may know what it says, so nothing before it confines a kernel."""
    assert await tasks(machine) == {}
    write(configs / "lab.yaml", "kernel: python3\nlimits: {tasks: 7}\n")
    assert await tasks(machine) == {"lab": 7}
    write(configs / "lab.yaml", "")
    asking = asyncio.create_task(tasks(machine))
    await asyncio.sleep(0)  # it has looked once, at half of what is to come
    write(configs / "lab.yaml", "kernel: python3\nlimits: {tasks: 8}\n")
    assert await asking == {"lab": 8}


async def test_what_is_written_without_an_end_is_waited_for_no_longer_than_said(
    configs: Path,
    machine: MachineConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("kconnd.front.machine_config.SETTLE_TIMEOUT_S", 0.1)
    write(configs / "lab.yaml", "kernel: python3\nlimits: {tasks: 7}\n")
    assert await tasks(machine) == {}, "what was before still holds"
    assert f"the profiles in {configs} have been changing for 0.1 s" in caplog.text


async def test_an_editors_files_keep_nobody_waiting(
    configs: Path, machine: MachineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(configs / "lab.yaml", "kernel: python3\nlimits: {tasks: 7}\n")
    machine.reload()
    monkeypatch.setattr("kconnd.front.machine_config.SETTLE_TIMEOUT_S", 0)
    for name in (".lab.yaml.swp", "lab.yaml~", "README"):
        write(configs / name, "for a person")
        assert await tasks(machine) == {"lab": 7}
    assert machine._read_if_settled(), "and were not taken for a change"


async def test_who_may_write_there_now_is_seen(configs: Path, machine: MachineConfig) -> None:
    set_mode(configs, 0o777)
    write(configs / "lab.yaml", "kernel: python3\n")
    assert await tasks(machine) == {}, "anybody could have written it"
    set_mode(configs, 0o755)
    assert await tasks(machine) == {"lab": None}


async def test_one_look_is_for_all_who_wait(
    configs: Path, machine: MachineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = 0, machine._stamp

    def counted() -> Stamp:
        nonlocal looks
        looks += 1
        return look()

    monkeypatch.setattr(machine, "_stamp", counted)
    write(configs / "lab.yaml", "kernel: python3\n")
    found = await asyncio.gather(*(tasks(machine) for _ in range(50)))
    assert found == [{"lab": None}] * 50
    assert looks < 150, "of which 50 were one each"


async def test_who_says_that_it_is_written_has_it_read_at_once(
    configs: Path, machine: MachineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kconnd.front.machine_config.SETTLE_TIMEOUT_S", 0)
    write(configs / "lab.yaml", "kernel: python3\nlimits: {tasks: 9}\n")
    machine.reload()
    assert await tasks(machine) == {"lab": 9}
