"""Whom the front door serves, and with what."""

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
    machine = Machine(str(tmp_path / "configs"), str(tmp_path / "kconnd.yaml"))
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
