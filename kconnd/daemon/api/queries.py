"""What can be looked up of profiles and kernels; nothing here changes anything."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from kconnd.core.access import Right
from kconnd.core.kernel.lifecycle import State
from kconnd.core.kernel.view import describe_elsewhere, iso_time
from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.profile.model import Profile
from kconnd.daemon.api.commands import check_reach
from kconnd.daemon.api.request import Request, info_of, live, show
from kconnd.daemon.context import World
from kconnd.daemon.kernel.prepare import find_spec
from kconnd.daemon.yielding import in_turns
from kconnd.errors import (
    KconndError,
    NotRunningError,
    TimedOutError,
    UsageError,
)
from kconnd.system.files.logs import LogReader
from kconnd.system.http.route_table import Reply
from kconnd.system.hung_calls import BeginStep, StuckError
from kconnd.system.kernelspecs import KernelspecIndex

PIECE_CHARACTERS = 1 << 16  # of a log, in one line of a reply


async def profiles(request: Request) -> Reply:
    """List the profiles and the faults of their files; with ``kernel`` the one of that name.

    That need not be written down: a kernel spec that is installed is a profile, too.
    """
    kernels, catalog = request.kernels, request.kernels.catalog
    written = {name: one.profile for name, one in catalog.loaded.profiles.items()}
    if wanted := request.query.get("kernel"):
        kernels.find(wanted)
        written = {wanted: found} if (found := kernels.profile(wanted)) else {}
    shown = {one: found for one, found in sorted(written.items()) if one not in kernels.foreign}
    specs = await _read_specs(kernels.world, shown)
    rows = [
        _profile_row(request, one, found, specs[one])
        async for one, found in in_turns(shown.items())
        if one in kernels.catalog.loaded.profiles
        or kernels.profile(one)  # it may have gone meanwhile
    ]
    return {"profiles": rows, "faults": faults(request)}


def _profile_row(request: Request, name: str, profile: Profile, spec: KernelSpec) -> dict[str, Any]:
    source = request.kernels.catalog.loaded.profiles.get(name)
    actor = request.kernels.find(name)
    return {
        "name": name,
        "file": str(source.file) if source else None,
        "line": source.line if source else None,
        "start": profile.start,
        "instance": profile.instance,
        "on_frontend_shutdown": profile.on_frontend_shutdown,
        "publish": profile.publish,
        "language": spec.language or actor.record.facts.language,  # or what it said of itself
        "resource_dir": spec.resource_dir,
        "status": request.kernels.profile_status(actor),
    }


async def _read_specs(world: World, profiles: Mapping[str, Profile]) -> Mapping[str, KernelSpec]:
    """Read what profiles run; of one whose kernel spec cannot be read nothing is known."""
    try:
        return await world.paths.run(partial(_specs_of, profiles, world.kernelspecs))
    except StuckError:
        return {name: _unknown(name) for name in profiles}


def _specs_of(
    profiles: Mapping[str, Profile], kernelspecs: KernelspecIndex, begin: BeginStep
) -> Mapping[str, KernelSpec]:
    read: dict[tuple[str, str], KernelSpec] = {}  # many profiles run the same
    specs = {}
    for name, profile in profiles.items():
        key = (profile.kernel, profile.python)
        if key not in read or not any(key):
            try:
                read[key] = find_spec(profile, kernelspecs, begin)
            except (KconndError, StuckError):
                read[key] = _unknown(name)
        specs[name] = read[key]
    return specs


def _unknown(name: str) -> KernelSpec:
    return KernelSpec(name=name, argv=())


def faults(request: Request) -> list[dict[str, Any]]:
    """Give the faults of all profile files."""
    return [asdict(fault) for fault in request.kernels.catalog.loaded.faults]


async def events(request: Request) -> Reply:
    """Stream what happened to kernels, and with ``follow`` what happens from now on."""
    wanted = request.query.get("kernel")
    bus = request.kernels.world.bus

    def fits(name: str) -> bool:
        return wanted in {None, name} and request.may(Right.CONNECT, name)

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        follow = request.query.get("follow") == "1"
        async with contextlib.aclosing(bus.listen(follow=follow)) as happenings:
            async for happening in happenings:
                if fits(happening.kernel):
                    yield happening.to_json()

    return stream()


async def kernels_(request: Request) -> Reply:
    """List all kernels, and what machines that share this home say of theirs."""
    seen = [one for one in request.kernels.all() if request.may(Right.SEE, one.record.name)]
    await request.kernels.readings.refresh(seen)
    found = [show(request, actor) async for actor in in_turns(seen)]
    elsewhere = await request.kernels.look_elsewhere()
    return {"kernels": found, "elsewhere": [describe_elsewhere(one) for one in elsewhere]}


async def info(request: Request) -> Reply:
    """Show one kernel; no key is in it."""
    return await info_of(request, request.kernels.find(request.name))


async def connection(request: Request) -> Reply:
    """Give the content of a kernel's connection file, its key among it."""
    actor = live(request, "giving the connection of")
    if actor.record.connection is None:
        raise NotRunningError(f"{request.name} has no connection yet", hint="ask again in a moment")
    return actor.record.connection.to_file()


async def why(request: Request) -> Reply:
    """Tell the last decisions about a kernel and their reasons."""
    actor = request.kernels.find(request.name)
    decisions = [
        {"at": iso_time(one.at), "what": one.what, "reason": one.reason}
        for one in actor.record.decisions
    ]
    return {"name": request.name, "decisions": decisions}


async def logs(request: Request) -> Reply:
    """Stream the last lines of a kernel's output, and with ``follow`` what comes."""
    reader = LogReader(request.kernels.find(request.name).process.runtime.log)
    count = int(request.number("lines", 100, 1e6))
    follows = request.query.get("follow") == "1"

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        text = await asyncio.to_thread(reader.last_lines, count)
        text += "" if follows else reader.finish()
        for at in range(0, len(text), PIECE_CHARACTERS):  # each is written in a turn of its own
            yield {"text": text[at : at + PIECE_CHARACTERS]}
        if follows:
            async for text in reader.follow():
                yield {"text": text}

    return stream()


async def wait(request: Request) -> Reply:
    """Wait until a kernel is ready or stopped, as ``for`` says."""
    actor = request.kernels.find(request.name)
    goal = request.query.get("for", "ready")
    goals = {"ready": {State.RUNNING}, "stopped": {State.STOPPED, State.FAILED, State.LOST}}
    if goal not in goals:
        raise UsageError(f"for: {goal!r} is not one of ready, stopped")
    limit = request.number("timeout", 1e9, 1e9)
    try:
        async with asyncio.timeout(limit):
            await actor.until(lambda record: record.lifecycle.state in goals[goal])
            if goal == "ready":
                await check_reach(actor, f"waiting for {request.name} to be ready")
    except TimeoutError:
        state = actor.kernel.state
        raise TimedOutError(
            f"waiting for {request.name} to be {goal}: it is {state} after {limit:g} s",
            hint=f"kconnd-ctl why {request.name} tells the reason",
        ) from None
    return await info_of(request, actor)
