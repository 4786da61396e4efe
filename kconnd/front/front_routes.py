"""The front door's HTTP routes, which open owners' sockets, list kernels and start units.

Routes with ``daemons_only`` refuse all callers except owners' daemons. The caller's cgroup proves
that the caller is a daemon (see `kconnd.system.process.daemon_process`). Every process of the owner
in the daemon's cgroup counts as the daemon. This is harmless: these routes act only for the user as
whom the caller runs, and only within this user's quota.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import kconnd
from kconnd.core.access import Peer, Right, may
from kconnd.core.account_history import unit_of_account
from kconnd.core.paths import owner_socket
from kconnd.core.profile.settings import check_admitted
from kconnd.core.unit_names import unit_name
from kconnd.errors import KconndError, RefusedError, UsageError
from kconnd.front.marks import Marks
from kconnd.front.owner_client import get_json
from kconnd.front.owner_kernels import sound_kernels
from kconnd.front.owners import Owners
from kconnd.front.unit_properties import (
    PAM_SERVICE,
    parse_request,
    parse_scope,
    profile_of,
    properties,
    scope_properties,
    stricter,
)
from kconnd.system.http.openapi import document
from kconnd.system.http.route_table import Parameter, Reply, Route
from kconnd.system.machine import user_name
from kconnd.system.process.cgroups import unit_of
from kconnd.system.process.daemon_process import daemon_process
from kconnd.system.process.processes import user_of

SCOPE_TIMEOUT_S = 5.0  # the limit for systemd to move a process into a scope
POLL_INTERVAL_S = 0.001
MAX_CONCURRENT_QUERIES = 16  # concurrent requests to owners' daemons


@dataclass(frozen=True)
class FrontRequest:
    """A request to the front door, and the peer that sent the request."""

    owners: Owners
    peer: Peer
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def authorise(self, right: Right) -> None:
        """Refuse a peer that may not use the service or may not list all kernels.

        The right to use a kernel is checked by the daemon of the kernel's owner. A uid without an
        account is refused, because a user can have a range of such uids (subuid(5)) and could
        create too many units with them.
        """
        if self.peer.uid != 0 and not self.peer.name:
            raise RefusedError(
                f"uid {self.peer.uid} has no account on this machine",
                hint="kconnd serves users that getent passwd lists",
            )
        check_admitted(self.owners.machine.settings, self.peer)
        if right is Right.MANAGE and not may(self.peer, right, owner=0):
            raise RefusedError(
                f"uid {self.peer.uid} may not list the kernels of all users",
                hint="only root and members of the group kconnd-admin may",
            )


async def health(request: FrontRequest) -> Reply:
    """Report the version of the front door and the number of running daemons."""
    active = await request.owners.active_uids()
    return {"version": kconnd.__version__, "pid": os.getpid(), "owners": len(active)}


async def openapi(_request: FrontRequest) -> Reply:
    """Return the table of routes as an OpenAPI document."""
    return document(ROUTES)


async def open_(request: FrontRequest) -> Reply:
    """Open the socket of an owner's daemon, and return the path of the socket."""
    uid = request.peer.uid if request.name == "self" else await request.owners.find(request.name)
    return {"uid": uid, "socket": await request.owners.open(uid, request.peer)}


async def boot(request: FrontRequest) -> Reply:
    """Record whether the calling daemon has kernels that start at boot."""
    return _mark(request, request.owners.boot)


async def share(request: FrontRequest) -> Reply:
    """Record whether the calling daemon has kernels that profiles of its owner share."""
    return _mark(request, request.owners.sharing)


def _mark(request: FrontRequest, marks: Marks) -> Reply:
    marked = request.body.get("wanted")
    if not isinstance(marked, bool):
        raise UsageError(f"wanted: {marked!r} is neither true nor false")
    request.owners.accounts.expect(request.peer.uid, request.peer.name)
    marks.write(request.peer.uid, marked=marked)
    return {"wanted": marked}


async def sharing(request: FrontRequest) -> Reply:
    """List the other users who share kernels by profiles of their own and whose daemons run.

    Whom an owner lets see which kernel, only the daemon of this owner knows. The list is empty for
    administrators, who may see all kernels of all users.
    """
    if may(request.peer, Right.MANAGE, owner=0):
        return {"uids": []}
    return {"uids": [uid for uid in await request.owners.sharing_uids() if uid != request.peer.uid]}


async def kernels(request: FrontRequest) -> Reply:
    """List the kernels of all users whose daemons are running."""
    slots = asyncio.Semaphore(MAX_CONCURRENT_QUERIES)
    uids = await request.owners.active_uids()
    replies = await asyncio.gather(*(_kernels_of(uid, slots) for uid in uids))
    rows = [kernel for reply in replies if isinstance(reply, list) for kernel in reply]
    errors = [
        {"uid": uid, "message": reply.message}
        for uid, reply in zip(uids, replies, strict=True)
        if isinstance(reply, KconndError)
    ]
    return {"kernels": rows, "errors": errors}


async def _kernels_of(uid: int, slots: asyncio.Semaphore) -> list[dict[str, Any]] | KconndError:
    """Request the kernels of one owner from the owner's daemon, and check the untrusted reply."""
    try:
        async with slots:
            reply = await get_json(owner_socket(uid), "/v1/kernels")
    except KconndError as error:
        return error
    rows = sound_kernels(reply, uid, user_name(uid), user_of)
    return KconndError(f"the daemon of uid {uid} sent no list of kernels") if rows is None else rows


async def aside(request: FrontRequest) -> Reply:
    """List the earlier accounts of the caller's uid or, for an administrator, of all uids."""
    everybody = may(request.peer, Right.MANAGE, owner=0)
    accounts = request.owners.accounts
    earlier = await accounts.list_earlier(None if everybody else request.peer.uid)
    return {
        "aside": [
            {
                **asdict(account.aside),
                "folder": str(accounts.files.place_of(account.aside)),
                "units": account.units,
                "pids": account.pids,
            }
            for account in earlier
        ]
    }


async def make_unit(request: FrontRequest) -> Reply:
    """Start a kernel's shim in a new unit, as the caller's user and in the caller's slice."""
    uid = request.peer.uid
    account = request.owners.accounts.expect(uid, request.peer.name)
    name, generation, program, plan, requested = parse_request(request.body)
    limits = await _limits(request.owners, name, requested)
    argv = [sys.executable, "-I", "-S", program, name, plan]
    unit = unit_of_account(unit_name(uid, name, generation), account.number)
    systemd = await request.owners.systemd_version()
    rows = properties(uid, argv, limits, systemd, pam=_has_pam())
    await request.owners.make_unit(uid, unit, rows)
    return {"unit": unit, "limits": limits}


async def _limits(owners: Owners, name: str, requested: Mapping[str, float]) -> dict[str, float]:
    """Return the limits of a kernel: the requested limits, capped by the machine's profile."""
    profiles = (await owners.machine.profiles()).profiles
    machine = profiles.get(profile_of(name))
    return stricter(requested, machine.profile.limits if machine else None)


def _has_pam() -> bool:
    """Return whether kconnd's PAM service is installed; without it, PAM would use ``other``."""
    return Path("/etc/pam.d", PAM_SERVICE).exists()


async def make_scope(request: FrontRequest) -> Reply:
    """Move a forked shim of the caller into a new scope; the shim's later children join it."""
    uid = request.peer.uid
    account = request.owners.accounts.expect(uid, request.peer.name)
    name, generation, pid, requested = parse_scope(request.body)
    limits = await _limits(request.owners, name, requested)
    scope = unit_of_account(unit_name(uid, name, generation, "scope"), account.number)
    rows = scope_properties(uid, name, pid, limits, await request.owners.systemd_version())
    with daemon_process(pid, uid) as check:
        await request.owners.make_unit(uid, scope, rows, check)
        # The reply waits for the move, because the shim forks the kernel after the reply.
        await _wait_until_moved(pid, scope)
    return {"unit": scope, "limits": limits}


async def _wait_until_moved(pid: int, scope: str) -> None:
    try:
        async with asyncio.timeout(SCOPE_TIMEOUT_S):
            while unit_of(pid) != scope:  # noqa: ASYNC110  # a move raises no event
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise KconndError(
            f"moving process {pid} into {scope}: systemd did not do it within "
            f"{SCOPE_TIMEOUT_S:g} s",
            hint=f"see 'systemctl status {scope}'",
        ) from None


_WANTED = (Parameter("wanted", "boolean", "Whether the daemon has such kernels."),)
_LAUNCH = (
    Parameter("name", "string", "The kernel's name."),
    Parameter("generation", "integer", "The number of the launch."),
    Parameter("limits", "object", "An object with the keys memory, cpu, tasks and open_files."),
)
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/health", Right.SEE, health),
    Route("GET", "/v1/openapi.json", Right.SEE, openapi),
    Route("GET", "/v1/kernels", Right.MANAGE, kernels),
    Route("GET", "/v1/aside", Right.SEE, aside),
    Route("POST", "/v1/owners/{name}/open", Right.SEE, open_),
    Route("POST", "/v1/boot", Right.SEE, boot, _WANTED, daemons_only=True),
    Route("GET", "/v1/sharing", Right.SEE, sharing),
    Route("POST", "/v1/sharing", Right.SEE, share, _WANTED, daemons_only=True),
    Route(
        "POST",
        "/v1/units",
        Right.SEE,
        make_unit,
        (
            *_LAUNCH,
            Parameter("program", "string", "The path of the shim."),
            Parameter("plan", "string", "The path of the shim's plan."),
        ),
        daemons_only=True,
    ),
    Route(
        "POST",
        "/v1/scopes",
        Right.SEE,
        make_scope,
        (
            *_LAUNCH,
            Parameter("pid", "integer", "The pid of a shim of the caller's daemon."),
        ),
        daemons_only=True,
    ),
)
