"""The routes of the front door: the peers that each one serves, and their replies."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.access import Peer, Right
from kconnd.errors import KconndError, RefusedError, UsageError
from kconnd.front.front_routes import (
    ROUTES,
    _wait_until_moved,
    boot,
    health,
    make_scope,
    make_unit,
    open_,
    openapi,
    share,
    sharing,
)
from kconnd.front.owners import Owners
from kconnd.system.process.cgroups import unit_of
from tests.front.fake import FakeSystemd, build_owners, request_of


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    return build_owners(tmp_path)


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


async def test_health_counts_running_daemons(tmp_path: Path) -> None:
    owners = build_owners(tmp_path, systemd=FakeSystemd({"kconnd@1000.service": "active"}))
    reply: Any = await health(request_of(owners, Peer(0, 7)))
    assert (reply["pid"], reply["owners"]) == (os.getpid(), 1)


async def test_the_document_describes_every_route(owners: Owners) -> None:
    reply: Any = await openapi(request_of(owners, Peer(0, 7)))
    assert set(reply["paths"]) == {route.path for route in ROUTES}


async def test_self_opens_the_callers_socket(owners: Owners) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    for name in ("self", "nobody", str(uid)):
        reply = await open_(request_of(owners, Peer(uid, 7), name))
        assert reply == {"uid": uid, "socket": f"/run/kconnd/s/{uid}"}


@pytest.mark.parametrize(("mark", "folder"), [(boot, "boot"), (share, "sharing")])
async def test_a_daemon_marks_its_own_uid(
    owners: Owners, tmp_path: Path, mark: Callable[[Any], Any], folder: str
) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    for enabled in (True, False):
        body = {"wanted": enabled}
        assert await mark(request_of(owners, Peer(uid, 7, "nobody"), body=body)) == body
        assert (tmp_path / folder / str(uid)).exists() is enabled
    with pytest.raises(UsageError, match="wanted: 'yes' is neither true nor false"):
        await mark(request_of(owners, Peer(uid, 7, "nobody"), body={"wanted": "yes"}))


async def test_sharing_owners_are_listed_to_users_other_than_administrators(
    tmp_path: Path,
) -> None:
    owners = build_owners(tmp_path, systemd=FakeSystemd({"kconnd@1000.service": "active"}))
    owners.sharing.write(1000, marked=True)

    async def listed(peer: Peer) -> object:
        request = request_of(owners, peer)
        request.authorise(Right.SEE)
        return await sharing(request)

    assert await listed(Peer(1001, 7, "bob")) == {"uids": [1000]}
    assert await listed(Peer(1000, 7, "ada")) == {"uids": []}
    assert await listed(Peer(0, 7, "root")) == {"uids": []}
    assert await listed(Peer(1001, 7, "bob", frozenset({"kconnd-admin"}))) == {"uids": []}


async def test_a_unit_runs_as_the_caller_within_the_machines_limits(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "lab.yaml").write_text("kernel: python3\nlimits: {tasks: 7}\n")
    systemd = FakeSystemd()
    owners = build_owners(tmp_path, systemd=systemd)
    body = {"name": "lab", "generation": 2, "program": "/shim", "plan": "/plan"}
    body["limits"] = {"tasks": 9, "cpu": 1}
    reply: Any = await make_unit(request_of(owners, Peer(1000, 7, "ada"), body=body))
    assert reply == {
        "unit": "kconnd-kernel-1000-lab-2.service",
        "limits": {"tasks": 7.0, "cpu": 1.0},
    }
    assert list(systemd.units) == [reply["unit"]]


async def test_a_scope_is_for_processes_of_the_callers_daemon_alone(owners: Owners) -> None:
    body = {"name": "lab", "generation": 1, "pid": os.getpid()}
    with pytest.raises(RefusedError, match=f"process {os.getpid()} does not belong to the daemon"):
        await make_scope(request_of(owners, Peer(1000, 7, "ada"), body=body))


async def test_a_process_that_systemd_does_not_move_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kconnd.front.front_routes.SCOPE_TIMEOUT_S", 0.01)
    await _wait_until_moved(os.getpid(), unit_of(os.getpid()) or "")
    with pytest.raises(KconndError, match=r"into other\.scope: systemd did not do it within 0\.01"):
        await _wait_until_moved(os.getpid(), "other.scope")
