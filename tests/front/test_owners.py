"""`Owners` with a fake service manager: sockets, daemons at boot, kernel units and quotas."""

import asyncio
import os
import pwd
from functools import partial
from pathlib import Path

import pytest

from kconnd.core.access import Peer
from kconnd.errors import NoSuchKernelError, RefusedError
from kconnd.system.process.daemon_process import check_is_alive
from kconnd.system.systemd.unit_control import UNLIMITED
from tests.front.fake import FakeSystemd, build_owners

USER = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)


async def test_opening_a_closed_socket_starts_it_and_returns_its_path(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    path = await build_owners(tmp_path, systemd=systemd).open(USER.pw_uid, Peer(USER.pw_uid, 7))
    assert path == f"/run/kconnd/s/{USER.pw_uid}"
    assert systemd.units == {f"kconnd@{USER.pw_uid}.socket": "active"}


async def test_nobody_starts_the_daemon_of_another_user(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    owners = build_owners(tmp_path, systemd=systemd)
    with pytest.raises(RefusedError, match=f"may not start the daemon of uid {USER.pw_uid}"):
        await owners.open(USER.pw_uid, Peer(300000, 7))
    assert systemd.units == {}
    systemd.units[f"kconnd@{USER.pw_uid}.socket"] = "active"
    await owners.open(USER.pw_uid, Peer(300000, 7))  # a running daemon decides itself


async def test_a_shared_kernel_of_the_machine_lets_others_start_its_daemon(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    profile = tmp_path / "configs" / "shared.yaml"
    profile.parent.mkdir()
    profile.write_text(f"kernel: python3\nuser: {USER.pw_name}\nstart: boot\n", encoding="utf-8")
    owners = build_owners(tmp_path, systemd=systemd)
    await owners.open(USER.pw_uid, Peer(300000, 7))
    assert systemd.units == {f"kconnd@{USER.pw_uid}.socket": "active"}
    assert await owners.start_at_boot() == 1


async def test_a_mark_makes_a_daemon_start_at_boot_until_it_is_removed(tmp_path: Path) -> None:
    owners = build_owners(tmp_path)
    owners.boot.write(USER.pw_uid, marked=True)
    assert await owners.start_at_boot() == 1
    assert await owners.active_uids() == [USER.pw_uid]
    owners.boot.write(USER.pw_uid, marked=False)
    assert await owners.start_at_boot() == 0


async def test_a_profile_for_boot_starts_a_daemon_as_it_is_dropped_in(tmp_path: Path) -> None:
    systemd, configs = FakeSystemd(), tmp_path / "configs"
    configs.mkdir()
    owners = build_owners(tmp_path, systemd=systemd)
    assert await owners.start_at_boot() == 0

    async def drop(name: str, start: str) -> int:
        text = f"kernel: python3\nuser: {USER.pw_name}\nstart: {start}\n"
        (configs / f"{name}.yaml").write_text(text, encoding="utf-8")
        owners.machine.reload()
        return await owners.start_for_new_profiles()

    assert await drop("later", "on-demand") == 0
    assert await drop("nightly", "boot") == 1
    assert systemd.units[f"kconnd@{USER.pw_uid}.service"] == "active"
    # Somebody has stopped the daemon since: only another profile starts it again.
    systemd.units.clear()
    assert await drop("unrelated", "manual") == 0
    assert systemd.units == {}
    assert await drop("weekly", "boot") == 1


async def test_a_sharing_owner_is_listed_while_the_daemon_runs(tmp_path: Path) -> None:
    systemd = FakeSystemd({"kconnd@7.service": "active", "kconnd@8.service": "active"})
    owners = build_owners(tmp_path, systemd=systemd)
    assert await owners.sharing_uids() == []
    assert systemd.calls == [], "without a mark, systemd is not asked"
    for uid in (8, 9):
        owners.sharing.write(uid, marked=True)
    assert await owners.sharing_uids() == [8]
    owners.sharing.write(8, marked=False)
    assert await owners.sharing_uids() == []


async def test_an_unknown_user_is_an_error(tmp_path: Path) -> None:
    owners = build_owners(tmp_path)
    assert await owners.find(USER.pw_name) == USER.pw_uid
    with pytest.raises(NoSuchKernelError, match="there is no user 'nobody-of-this-name'"):
        await owners.find("nobody-of-this-name")


async def test_who_may_not_use_the_service_has_nothing_started_at_boot(tmp_path: Path) -> None:
    ada, bob, *_ = (one for one in pwd.getpwall() if one.pw_uid != 0)
    systemd = FakeSystemd()
    owners = build_owners(tmp_path, f"users: [{ada.pw_name}]\n", systemd)
    for uid in (ada.pw_uid, bob.pw_uid, 300000):
        (tmp_path / "boot" / str(uid)).touch()
    assert await owners.start_at_boot() == 1
    assert set(systemd.units) == {f"kconnd@{ada.pw_uid}.socket", f"kconnd@{ada.pw_uid}.service"}


def unit(number: int, uid: int = 1000) -> str:
    return f"kconnd-kernel-{uid}-lab-{number}.service"


async def test_who_starts_many_at_once_gets_no_more_than_the_quota(tmp_path: Path) -> None:
    systemd = FakeSystemd({unit(1): "active"})
    owners = build_owners(tmp_path, "quotas: {kernels: 3}\n", systemd)
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
    owners = build_owners(tmp_path, "quotas: {memory: 1G}\n", systemd)
    uid = next(one.pw_uid for one in pwd.getpwall() if one.pw_uid != 0)
    await owners.open(uid, Peer(uid, 7))
    calls = [call[0] for call in systemd.calls]
    assert systemd.memory == {f"kconnd-{uid}.slice": 1 << 30}
    assert calls.index("limit_memory") < calls.index("start")


async def test_what_holds_for_memory_follows_the_settings(tmp_path: Path) -> None:
    systemd = FakeSystemd({"kconnd-1000.slice": "active", "kconnd-1001.slice": "active"})
    systemd.memory["kconnd-1001.slice"] = 5 << 20  # an administrator's, and lower
    await build_owners(tmp_path, "quotas: {memory: 1G}\n", systemd).limit_memory()
    assert systemd.memory == {"kconnd-1000.slice": 1 << 30, "kconnd-1001.slice": 5 << 20}
    await build_owners(tmp_path, "quotas: {memory: 2G}\n", systemd).limit_memory()
    assert systemd.memory["kconnd-1000.slice"] == 2 << 30
    del systemd.units["kconnd-1000.slice"]
    await build_owners(tmp_path, "", systemd).limit_memory()
    assert systemd.memory == {"kconnd-1000.slice": UNLIMITED, "kconnd-1001.slice": 5 << 20}
    systemd.calls.clear()
    await build_owners(tmp_path, "", systemd).make_unit(1000, unit(1), [])
    assert [call[0] for call in systemd.calls] == ["start_transient"]


async def test_a_process_that_ends_while_it_waits_is_not_put_into_a_scope(tmp_path: Path) -> None:
    """Its number can be another's by then, and the manager would move that."""
    process = await asyncio.create_subprocess_exec("sleep", "100")

    class Ending(FakeSystemd):
        async def list_up(self, pattern: str) -> list[str]:
            process.kill()
            await process.wait()
            return await super().list_up(pattern)

    systemd = Ending()
    owners = build_owners(tmp_path, "quotas: {kernels: 3}\n", systemd)
    handle = os.pidfd_open(process.pid)
    with pytest.raises(RefusedError, match="does not belong to the daemon"):
        await owners.make_unit(
            1000, unit(1), [], partial(check_is_alive, handle, process.pid, 1000)
        )
    os.close(handle)
    assert [call[0] for call in systemd.calls] == ["list_up"]
