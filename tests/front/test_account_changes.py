"""A uid that goes to another account: what the front door does about it, and when."""

import asyncio
import errno
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.access import Peer
from kconnd.core.account_history import Account
from kconnd.errors import KconndError, RefusedError
from kconnd.front.account_changes import Accounts
from kconnd.front.front_routes import ROUTES
from kconnd.system.files.account_files import AccountFiles
from kconnd.system.http.peer import UserDirectory
from tests.conftest import LIMIT, wait_until
from tests.front.fake import FakeSystemd, build_owners, request_of

UID = 3_000_000_000


class Moving(FakeSystemd):
    """Has a unit for putting aside that does as the real one."""

    files: AccountFiles
    trouble = ""

    async def run_to_completion(self, unit: str) -> None:
        await super().run_to_completion(unit)
        if self.trouble:
            raise KconndError(self.trouble)
        self.files.put_aside(int(unit.removeprefix("kconnd-aside@").removesuffix(".service")), 0.0)


class Machine:
    """Accounts on a machine whose database of users is a dict."""

    def __init__(self, folder: Path) -> None:
        self.names: dict[int, str] = {}
        self.silent = False
        self.systemd = Moving()
        self.files = self.systemd.files = AccountFiles(folder / "state", folder / "run")
        for place in (self.files.state / "u", self.files.state / "boot", self.files.run / "u"):
            place.mkdir(parents=True)
        self.files.make_folders()
        self.accounts = Accounts(self.systemd, self.files, UserDirectory(self.look_up))

    def look_up(self, uid: int) -> tuple[str, frozenset[str]]:
        if self.silent:
            raise OSError("no answer")
        return self.names.get(uid, ""), frozenset()

    def keep(self, text: str) -> None:
        (self.files.state / "u" / str(UID)).mkdir()
        (self.files.state / "u" / str(UID) / "kept").write_text(text)

    @property
    def kept(self) -> list[str]:
        return [file.read_text() for file in (self.files.state / "u").glob("*/kept")]

    @property
    def moves(self) -> int:
        return sum(call[0] == "run_to_completion" for call in self.systemd.calls)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def test_the_first_account_of_a_uid_has_what_is_there(machine: Machine) -> None:
    machine.names[UID] = "ada"
    machine.keep("ada's")
    for _ in range(2):
        assert await machine.accounts.settle(UID) == Account("ada")
    assert (machine.kept, machine.moves) == (["ada's"], 0)


async def test_another_account_finds_nothing_and_is_told_of_as_such(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.names[UID] = "ada"
    machine.keep("ada's")
    await machine.accounts.settle(UID)
    live = f"kconnd-kernel-{UID}-lab-1.service"
    machine.systemd.units[live] = "active"
    machine.names[UID] = "bob"
    found = await asyncio.gather(*(machine.accounts.settle(UID) for _ in range(5)))
    assert found == [Account("bob", 2)] * 5
    assert (machine.kept, machine.moves) == ([], 1)
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"uid {UID} was the account ada and is bob now" in line.message
    assert live in line.message
    assert vars(line)["KCONND_EVENT"] == "put-aside"
    (remains,) = await machine.accounts.list_earlier(UID)
    assert (remains.aside.name, remains.units, remains.pids) == ("ada", [live], [])
    assert await machine.accounts.list_earlier(7) == []
    # The one that lives is not among bob's, whose own have other names.
    assert await machine.accounts.live_kernels(UID, 2) == []


async def test_where_it_cannot_be_put_aside_nobody_gets_there(machine: Machine) -> None:
    machine.names[UID] = "ada"
    machine.keep("ada's")
    await machine.accounts.settle(UID)
    machine.names[UID], machine.systemd.trouble = "bob", "no room"
    for _ in range(2):
        with pytest.raises(KconndError, match="no room"):
            await machine.accounts.settle(UID)
    with pytest.raises(RefusedError, match="belongs to the deleted account ada"):
        machine.accounts.expect(UID, "bob")
    machine.systemd.trouble = ""
    assert await machine.accounts.settle(UID) == Account("bob", 2)


@pytest.mark.parametrize("silent", [True, False])
async def test_an_account_that_cannot_be_looked_up_loses_nothing(
    machine: Machine, silent: object
) -> None:
    """A database of users that is away for a while looks as if there were no such user."""
    machine.names[UID] = "ada"
    machine.keep("ada's")
    await machine.accounts.settle(UID)
    del machine.names[UID]
    machine.silent = bool(silent)
    await machine.accounts.settle_all()
    assert (machine.kept, machine.moves) == (["ada's"], 0)


async def test_accounts_that_came_before_us_are_learned_and_checked(machine: Machine) -> None:
    machine.names[UID] = "ada"
    machine.keep("ada's")
    await machine.accounts.settle_all()
    assert machine.files.read(UID) == Account("ada")
    machine.names[UID] = "bob"
    await machine.accounts.settle_all()
    assert machine.kept == []


async def test_a_change_of_the_accounts_file_is_seen_at_once(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwd = tmp_path / "passwd"
    passwd.touch()
    monkeypatch.setattr("kconnd.front.account_changes.PASSWD", passwd)
    machine.names[UID] = "ada"
    machine.keep("ada's")
    watching = asyncio.create_task(machine.accounts.watch())
    await wait_until(lambda: machine.files.read(UID), "it to be known")
    machine.names[UID] = "bob"
    new = tmp_path / "passwd+"  # as useradd does
    new.touch()
    new.rename(passwd)
    await wait_until(lambda: machine.kept == [], "it to be put aside")
    watching.cancel()


async def test_root_is_root_by_any_name(machine: Machine) -> None:
    machine.names[0] = "toor"
    assert (await machine.accounts.settle(0)).number == 1
    assert machine.accounts.expect(0, "").number == 1
    assert machine.files.uids() == []


async def test_an_owner_is_found_by_name_and_number(machine: Machine) -> None:
    name = "root"
    assert await machine.accounts.find(name) == 0
    machine.names[UID] = "ada"
    assert await machine.accounts.find(str(UID)) == UID
    for none in ("nobody-of-this-name", "7", "65535", "4294967295", "4294967296", "٣", "9" * 5000):
        assert await machine.accounts.find(none) is None, none
    for odd in ("", "a\0b", "\ud800", "-1", "\udcff"):
        assert await machine.accounts.find(odd) is None, odd


async def test_a_uid_that_systemd_does_not_know_is_refused_in_plain_words(tmp_path: Path) -> None:
    owners = build_owners(tmp_path)
    with pytest.raises(RefusedError, match="systemd does not accept it") as caught:
        await owners.open(65535, Peer(0, 7))
    assert "usermod -u" in caught.value.hint
    assert owners.systemd.calls == []  # type: ignore[attr-defined]  # it is the fake


async def test_a_socket_is_opened_once_what_is_there_is_settled(tmp_path: Path) -> None:
    owners = build_owners(tmp_path)
    files = owners.accounts.files
    uid = next(iter({os.getuid() or 1}))
    files.write(uid, Account("somebody-else"))
    await owners.open(uid, Peer(uid, 7, "now"))
    calls = [call[0] for call in owners.systemd.calls]  # type: ignore[attr-defined]  # the fake
    assert calls.index("run_to_completion") < calls.index("start")
    assert files.read(uid) == Account("now", 2)


async def test_what_is_put_aside_is_listed_to_whom_it_concerns(tmp_path: Path) -> None:
    owners = build_owners(tmp_path)
    for uid in (1000, 1001):
        owners.accounts.files.write(uid, Account("gone"))
        owners.accounts.files.put_aside(uid, 0.0)
    route = next(one for one in ROUTES if one.path == "/v1/aside")
    told: Any = await route.function(request_of(owners, Peer(1000, 7, "ada")))
    assert [one["uid"] for one in told["aside"]] == [1000]
    assert set(told["aside"][0]) == {"uid", "name", "number", "at", "folder", "units", "pids"}
    told = await route.function(request_of(owners, Peer(0, 7)))
    assert [one["uid"] for one in told["aside"]] == [1000, 1001]


async def test_a_full_disk_refuses_no_user_that_is_the_first(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.names[UID] = "ada"
    (machine.files.state / "owners").rmdir()  # so that nothing can be written there
    assert await machine.accounts.settle(UID) == Account("ada")
    assert machine.accounts.expect(UID, "ada") == Account("ada")
    assert f"recording that uid {UID} belongs to ada" in caplog.text
    await machine.accounts.settle_all()


async def test_a_full_disk_hands_nothing_to_another_account(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.names[UID] = "ada"
    await machine.accounts.settle(UID)
    machine.keep("ada's")
    machine.names[UID] = "bob"

    def full(_uid: int, _account: Account) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(machine.files, "write", full)
        with pytest.raises(KconndError, match="No space left"):
            await machine.accounts.settle(UID)
    assert machine.kept == []
    assert await machine.accounts.settle(UID) == Account("bob", 2)
    assert machine.kept == []


async def test_a_database_that_hangs_does_not_keep_the_front_door_from_starting(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kconnd.front.account_changes.START_TIMEOUT_S", 0.1)
    hanging = threading.Event()
    slow = UserDirectory(lambda _uid: (str(hanging.wait(LIMIT)), frozenset()))
    for uid in range(1, 50):
        machine.files.write(uid, Account("ada"))
    began = time.monotonic()
    await Accounts(machine.systemd, machine.files, slow).settle_at_start()
    assert time.monotonic() - began < LIMIT / 2
    hanging.set()
