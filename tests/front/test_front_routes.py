"""Whom the front door serves, and with what."""

import asyncio
import os
import pwd
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.access import Peer, Right
from kconnd.errors import RefusedError
from kconnd.front.account_changes import Accounts
from kconnd.front.front_routes import ROUTES, FrontRequest
from kconnd.front.machine_config import MachineConfig
from kconnd.front.memory_quota import Slices
from kconnd.front.owners import Owners
from kconnd.system.files.account_files import AccountFiles
from kconnd.system.process.daemon_process import check_lives
from kconnd.system.systemd.unit_control import UNLIMITED
from tests.front.fake import FakeSystemd


def build(folder: Path, settings: str = "", systemd: FakeSystemd | None = None) -> Owners:
    """Build the owners of a machine that has a folder for /etc and /var."""
    for name in ("boot", "limits", "run"):
        (folder / name).mkdir(exist_ok=True)
    file = folder / "kconnd.yaml"
    file.write_text(settings or "connections: 128\n", encoding="utf-8")
    file.chmod(0o644)
    machine = MachineConfig(str(folder / "configs"), str(file), uid=os.geteuid())
    systemd = systemd or FakeSystemd()
    files = AccountFiles(folder, folder / "run")
    files.make_folders()
    slices, accounts = Slices(systemd, folder / "limits"), Accounts(systemd, files)
    return Owners(systemd, folder / "boot", machine, slices, accounts)


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    return build(tmp_path)


def request_of(
    owners: Owners, peer: Peer, name: str = "", body: Mapping[str, Any] = {}
) -> FrontRequest:
    return FrontRequest(owners=owners, peer=peer, name=name, body=body)


@pytest.mark.parametrize("path", [route.path for route in ROUTES])
def test_a_uid_without_an_account_is_nobody(owners: Owners, path: str) -> None:
    route = next(one for one in ROUTES if one.path == path)
    with pytest.raises(RefusedError, match="uid 300000 has no account"):
        request_of(owners, Peer(300000, 7)).authorise(route.right)


def test_what_makes_or_marks_anything_is_for_daemons_alone() -> None:
    for_all = {"/v1/owners/{name}/open"}
    for route in ROUTES:
        assert route.daemons_only == (route.method == "POST" and route.path not in for_all)


def test_a_user_with_an_account_and_root_are_served(owners: Owners) -> None:
    request_of(owners, Peer(1000, 7, "ada")).authorise(Right.SEE)
    request_of(owners, Peer(0, 7)).authorise(Right.MANAGE)


async def test_who_may_not_use_the_service_has_nothing_started_at_boot(tmp_path: Path) -> None:
    ada, bob, *_ = (one for one in pwd.getpwall() if one.pw_uid != 0)
    systemd = FakeSystemd()
    owners = build(tmp_path, f"users: [{ada.pw_name}]\n", systemd)
    for uid in (ada.pw_uid, bob.pw_uid, 300000):
        (tmp_path / "boot" / str(uid)).touch()
    assert await owners.start_at_boot() == 1
    assert set(systemd.units) == {f"kconnd@{ada.pw_uid}.socket", f"kconnd@{ada.pw_uid}.service"}


def unit(number: int, uid: int = 1000) -> str:
    return f"kconnd-kernel-{uid}-lab-{number}.service"


async def test_who_starts_many_at_once_gets_no_more_than_the_quota(tmp_path: Path) -> None:
    systemd = FakeSystemd({unit(1): "active"})
    owners = build(tmp_path, "quotas: {kernels: 3}\n", systemd)
    starts = (owners.make_unit(1000, unit(number), []) for number in range(2, 10))
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    assert [str(one) for one in outcomes if one is not None] == [
        "uid 1000 has 3 kernels, and may have 3"
    ] * 6
    assert len(systemd.units) == 3
    await owners.make_unit(1000, unit(1), [])  # asked for again, it is none more
    await owners.make_unit(1001, unit(1, 1001), [])  # and others have their own


async def test_a_slice_is_limited_before_its_daemon_is_there(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    owners = build(tmp_path, "quotas: {memory: 1G}\n", systemd)
    uid = next(one.pw_uid for one in pwd.getpwall() if one.pw_uid != 0)
    await owners.open(uid, Peer(uid, 7))
    calls = [call[0] for call in systemd.calls]
    assert systemd.memory == {f"kconnd-{uid}.slice": 1 << 30}
    assert calls.index("limit_memory") < calls.index("start")


async def test_what_holds_for_memory_follows_the_settings(tmp_path: Path) -> None:
    systemd = FakeSystemd({"kconnd-1000.slice": "active", "kconnd-1001.slice": "active"})
    systemd.memory["kconnd-1001.slice"] = 5 << 20  # an administrator's, and lower
    await build(tmp_path, "quotas: {memory: 1G}\n", systemd).limit_memory()
    assert systemd.memory == {"kconnd-1000.slice": 1 << 30, "kconnd-1001.slice": 5 << 20}
    await build(tmp_path, "quotas: {memory: 2G}\n", systemd).limit_memory()
    assert systemd.memory["kconnd-1000.slice"] == 2 << 30
    del systemd.units["kconnd-1000.slice"]
    await build(tmp_path, "", systemd).limit_memory()
    assert systemd.memory == {"kconnd-1000.slice": UNLIMITED, "kconnd-1001.slice": 5 << 20}
    systemd.calls.clear()
    await build(tmp_path, "", systemd).make_unit(1000, unit(1), [])
    assert [call[0] for call in systemd.calls] == ["run"]


async def test_a_process_that_ends_while_it_waits_is_not_put_into_a_scope(tmp_path: Path) -> None:
    """Its number can be another's by then, and the manager would move that."""
    process = await asyncio.create_subprocess_exec("sleep", "100")

    class Ending(FakeSystemd):
        async def taken(self, pattern: str) -> list[str]:
            process.kill()
            await process.wait()
            return await super().taken(pattern)

    systemd = Ending()
    owners = build(tmp_path, "quotas: {kernels: 3}\n", systemd)
    handle = os.pidfd_open(process.pid)
    with pytest.raises(RefusedError, match="is not one of the daemon"):
        await owners.make_unit(1000, unit(1), [], partial(check_lives, handle, process.pid, 1000))
    os.close(handle)
    assert [call[0] for call in systemd.calls] == ["taken"]
