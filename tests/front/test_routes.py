"""Whom the front door serves, and with what."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.access import Peer, Right
from kconnd.errors import RefusedError
from kconnd.front.machine import Machine
from kconnd.front.owners import Owners
from kconnd.front.routes import ROUTES, Request
from tests.front.fake import FakeSystemd


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    boot = tmp_path / "boot"
    boot.mkdir()
    machine = Machine(str(tmp_path / "configs"), str(tmp_path / "kconnd.yaml"), uid=os.geteuid())
    return Owners(FakeSystemd(), boot, machine)


def asked(owners: Owners, peer: Peer, name: str = "", body: Mapping[str, Any] = {}) -> Request:
    return Request(owners=owners, peer=peer, name=name, body=body)


@pytest.mark.parametrize("path", [route.path for route in ROUTES])
def test_a_uid_without_an_account_is_nobody(owners: Owners, path: str) -> None:
    route = next(one for one in ROUTES if one.path == path)
    with pytest.raises(RefusedError, match="uid 300000 has no account"):
        asked(owners, Peer(300000, 7)).authorise(route.right)


def test_a_user_with_an_account_and_root_are_served(owners: Owners) -> None:
    asked(owners, Peer(1000, 7, "ada")).authorise(Right.SEE)
    asked(owners, Peer(0, 7)).authorise(Right.MANAGE)


async def test_who_may_not_use_the_service_has_nothing_started_at_boot(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    ada, bob, *_ = (one for one in pwd.getpwall() if one.pw_uid != 0)
    for uid in (ada.pw_uid, bob.pw_uid, 300000):
        (tmp_path / "boot" / str(uid)).touch()
    settings = tmp_path / "kconnd.yaml"
    settings.write_text(f"users: [{ada.pw_name}]\n", encoding="utf-8")
    settings.chmod(0o644)
    machine = Machine(str(tmp_path / "configs"), str(settings), uid=os.geteuid())
    systemd = FakeSystemd()
    assert await Owners(systemd, tmp_path / "boot", machine).start_at_boot() == 1
    assert set(systemd.units) == {f"kconnd@{ada.pw_uid}.socket", f"kconnd@{ada.pw_uid}.service"}
