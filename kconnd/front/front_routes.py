"""What can be asked of the front door: whose socket is where, and what spans owners.

What owners' daemons ask for themselves is for those alone, by their control group (see
`kconnd.system.process.daemon_process`). Whatever else an owner runs in that group counts as the
daemon: all that it can get is this fixed list, as that owner and within that owner's quota.
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
from kconnd.core.account_history import numbered
from kconnd.core.paths import owner_socket
from kconnd.core.profile.settings import check_admitted
from kconnd.errors import KconndError, RefusedError, UsageError
from kconnd.front.owner_client import ask
from kconnd.front.owner_kernels import believed
from kconnd.front.owners import Owners
from kconnd.front.unit_properties import (
    PAM,
    parse_request,
    parse_scope,
    profile_of,
    properties,
    scope_properties,
    stricter,
    unit_name,
)
from kconnd.system.http.openapi import document
from kconnd.system.http.route_table import Parameter, Reply, Route
from kconnd.system.machine import user_name
from kconnd.system.process.cgroups import unit_of
from kconnd.system.process.daemon_process import its_own_process
from kconnd.system.process.processes import user_of

LIMIT = 5.0  # seconds that systemd has to move a process
GLANCE = 0.001  # seconds between looks
SIDE_BY_SIDE = 16  # owners' daemons that are asked at a time


@dataclass(frozen=True)
class Request:
    """What was asked, by whom."""

    owners: Owners
    peer: Peer
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def authorise(self, right: Right) -> None:
        """Refuse who may not use the service, and what spans owners to all but administrators.

        What is about one owner is decided by that owner's daemon. A uid without an account is
        nobody's: who has a range of them (subuid(5)) would fill the manager with units.
        """
        if self.peer.uid != 0 and not self.peer.name:
            raise RefusedError(
                f"uid {self.peer.uid} has no account on this machine",
                hint="kconnd serves users that getent passwd lists",
            )
        check_admitted(self.owners.machine.settings, self.peer)
        if right is Right.MANAGE and not may(self.peer, right, owner=0):
            raise RefusedError(
                f"uid {self.peer.uid} may not look at everybody's kernels",
                hint="root and members of kconnd-admin may",
            )


async def health(request: Request) -> Reply:
    """Tell that the front door works."""
    active = await request.owners.active()
    return {"version": kconnd.__version__, "pid": os.getpid(), "owners": len(active)}


async def openapi(_request: Request) -> Reply:
    """Give this table as an OpenAPI document."""
    return document(ROUTES)


async def open_(request: Request) -> Reply:
    """Make sure that an owner's daemon can be reached, and tell where."""
    uid = request.peer.uid if request.name == "self" else await request.owners.find(request.name)
    return {"uid": uid, "socket": await request.owners.open(uid, request.peer)}


async def boot(request: Request) -> Reply:
    """Note whether the caller's daemon has kernels to start with the machine."""
    wanted = request.body.get("wanted")
    if not isinstance(wanted, bool):
        raise UsageError(f"wanted: {wanted!r} is neither true nor false")
    request.owners.accounts.expect(request.peer.uid, request.peer.name)
    request.owners.want_boot(request.peer.uid, wanted=wanted)
    return {"wanted": wanted}


async def kernels(request: Request) -> Reply:
    """List everybody's kernels, of those whose daemon runs."""
    few = asyncio.Semaphore(SIDE_BY_SIDE)
    uids = await request.owners.active()
    answers = await asyncio.gather(*(_kernels_of(uid, few) for uid in uids))
    found = [kernel for answer in answers if isinstance(answer, list) for kernel in answer]
    errors = [
        {"uid": uid, "message": answer.message}
        for uid, answer in zip(uids, answers, strict=True)
        if isinstance(answer, KconndError)
    ]
    return {"kernels": found, "errors": errors}


async def _kernels_of(uid: int, few: asyncio.Semaphore) -> list[dict[str, Any]] | KconndError:
    """Ask one owner's daemon, which may say what it likes."""
    try:
        async with few:
            reply = await ask(owner_socket(uid), "/v1/kernels")
    except KconndError as error:
        return error
    found = believed(reply, uid, user_name(uid), user_of)
    return KconndError(f"the daemon of uid {uid} gave no list") if found is None else found


async def aside(request: Request) -> Reply:
    """List what is put aside of earlier accounts of the caller's uid, for administrators of all."""
    everybody = may(request.peer, Right.MANAGE, owner=0)
    found = await request.owners.accounts.asides(None if everybody else request.peer.uid)
    folder = request.owners.accounts.files.place_of
    return {
        "aside": [
            {
                **asdict(one.aside),
                "folder": str(folder(one.aside)),
                "units": one.units,
                "pids": one.pids,
            }
            for one in found
        ]
    }


async def make_unit(request: Request) -> Reply:
    """Run a kernel's shim in a unit of its own, as the caller and in the caller's slice."""
    uid = request.peer.uid
    account = request.owners.accounts.expect(uid, request.peer.name)
    name, generation, program, plan, asked = parse_request(request.body)
    limits = await _limits(request.owners, name, asked)
    argv = [sys.executable, "-I", "-S", program, name, plan]
    unit = numbered(unit_name(uid, name, generation), account.number)
    systemd = await request.owners.systemd_version()
    rows = properties(uid, argv, limits, systemd, pam=_has_pam())
    await request.owners.make_unit(uid, unit, rows)
    return {"unit": unit, "limits": limits}


async def _limits(owners: Owners, name: str, asked: Mapping[str, float]) -> dict[str, float]:
    """Give what confines a kernel: what its owner asks for, and no more than the machine has."""
    profiles = (await owners.machine.profiles()).profiles
    machine = profiles.get(profile_of(name))
    return stricter(asked, machine.profile.limits if machine else None)


def _has_pam() -> bool:
    """Tell whether our PAM service is there: for one that is not, PAM takes ``other``."""
    return Path("/etc/pam.d", PAM).exists()


async def make_scope(request: Request) -> Reply:
    """Put a shim that the caller's daemon has forked, and all that it will fork, in a scope."""
    uid = request.peer.uid
    account = request.owners.accounts.expect(uid, request.peer.name)
    name, generation, pid, asked = parse_scope(request.body)
    limits = await _limits(request.owners, name, asked)
    scope = numbered(unit_name(uid, name, generation, "scope"), account.number)
    rows = scope_properties(uid, name, pid, limits, await request.owners.systemd_version())
    with its_own_process(pid, uid) as check:
        await request.owners.make_unit(uid, scope, rows, check)
        await _moved(pid, scope)  # what it forks has to be in there from the beginning
    return {"unit": scope, "limits": limits}


async def _moved(pid: int, scope: str) -> None:
    try:
        async with asyncio.timeout(LIMIT):
            while unit_of(pid) != scope:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(GLANCE)
    except TimeoutError:
        raise KconndError(
            f"moving process {pid} into {scope}: it did not get there within {LIMIT:g} s",
            hint=f"systemctl status {scope} tells more",
        ) from None


_LAUNCH = (
    Parameter("name", "string", "The kernel's name."),
    Parameter("generation", "integer", "The number of the launch."),
    Parameter("limits", "object", "On memory, cpu, tasks and open_files, by these names."),
)
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/health", Right.SEE, health),
    Route("GET", "/v1/openapi.json", Right.SEE, openapi),
    Route("GET", "/v1/kernels", Right.MANAGE, kernels),
    Route("GET", "/v1/aside", Right.SEE, aside),
    Route("POST", "/v1/owners/{name}/open", Right.SEE, open_),
    Route(
        "POST",
        "/v1/boot",
        Right.SEE,
        boot,
        (Parameter("wanted", "boolean", "Whether there are such kernels."),),
        daemons_only=True,
    ),
    Route(
        "POST",
        "/v1/units",
        Right.SEE,
        make_unit,
        (
            *_LAUNCH,
            Parameter("program", "string", "The path of the shim."),
            Parameter("plan", "string", "The path of its plan."),
        ),
        daemons_only=True,
    ),
    Route(
        "POST",
        "/v1/scopes",
        Right.SEE,
        make_scope,
        (*_LAUNCH, Parameter("pid", "integer", "The shim's, which the caller's daemon runs.")),
        daemons_only=True,
    ),
)
