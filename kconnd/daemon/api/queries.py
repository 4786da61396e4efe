"""Routes that read: profiles, kernels, connections, events, decisions and logs."""

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
from kconnd.daemon.api.kernel_names import resolve
from kconnd.daemon.api.request import Request, describe_actor, find_live, info_of
from kconnd.daemon.api.startable import list_startable
from kconnd.daemon.context import World
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
from kconnd.system.launch_files import find_spec

MAX_LINE_CHARS = 1 << 16  # the longest part of a log in one line of a reply


async def profiles(request: Request) -> Reply:
    """List the profiles and the faults of their files.

    With ``kernel`` in the query, the list contains only the profile or kernel spec of this name.
    """
    kernels, catalog = request.kernels, request.kernels.catalog
    by_name = {name: sourced.profile for name, sourced in catalog.loaded.profiles.items()}
    if text := request.query.get("kernel"):
        kernel = await resolve(kernels, text, search=True)
        kernels.find(kernel)
        by_name = {kernel: profile} if (profile := kernels.profile(kernel)) else {}
    own = {name: by_name[name] for name in sorted(by_name) if name not in kernels.foreign}
    specs = await _read_specs(kernels.world, own)
    rows = [
        _profile_row(request, name, profile, specs[name])
        async for name, profile in in_turns(own.items())
        # Other tasks run between two rows, so a profile may have been removed.
        if name in catalog.loaded.profiles or kernels.profile(name)
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
        "language": spec.language or actor.record.facts.language,
        "display_name": spec.display_name,
        "interrupt_mode": spec.interrupt_mode,
        "metadata": spec.metadata,
        "resource_dir": spec.resource_dir,
        "status": request.kernels.profile_status(actor),
    }


async def _read_specs(world: World, profiles: Mapping[str, Profile]) -> Mapping[str, KernelSpec]:
    """Read the kernel specs of profiles; replace each unreadable spec by an empty spec."""
    try:
        return await world.paths.run(partial(_specs_of, profiles, world.kernelspecs))
    except StuckError:
        return {name: _unknown(name) for name in profiles}


# The list of profiles shows no command, in which this value would stand for ``{prefix}``.
SOME_PREFIX = "/usr"


def _specs_of(
    profiles: Mapping[str, Profile], kernelspecs: KernelspecIndex, begin: BeginStep
) -> Mapping[str, KernelSpec]:
    read: dict[tuple[str, str], KernelSpec] = {}  # many profiles share a kernel spec
    specs = {}
    for name, profile in profiles.items():
        key = (profile.kernel, profile.python)
        if key not in read or not any(key):
            try:
                read[key] = find_spec(profile, kernelspecs, begin, lambda: SOME_PREFIX)
            except (KconndError, StuckError):
                read[key] = _unknown(name)
        specs[name] = read[key]
    return specs


def _unknown(name: str) -> KernelSpec:
    return KernelSpec(name=name, argv=())


def faults(request: Request) -> list[dict[str, Any]]:
    """List the faults of all profile files."""
    return [asdict(fault) for fault in request.kernels.catalog.loaded.faults]


async def events(request: Request) -> Reply:
    """Stream the last events of kernels and, with ``follow``, each new event."""
    text = request.query.get("kernel")
    kernel = await resolve(request.kernels, text, search=False) if text else text
    bus = request.kernels.world.bus

    def is_included(name: str) -> bool:
        return kernel in {None, name} and request.may(Right.CONNECT, name)

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        follow = request.query.get("follow") == "1"
        async with contextlib.aclosing(bus.subscribe(follow=follow)) as subscription:
            async for event in subscription:
                if is_included(event.kernel):
                    yield event.to_json()

    return stream()


async def kernels_(request: Request) -> Reply:
    """List all kernels of this owner, including live kernels on machines that share this home.

    ``shared`` in the reply names the kernels of other owners that the machine's profiles let this
    owner see. This daemon does not know the state of a shared kernel. With ``startable`` in the
    query, the reply to the owner also describes the kernel specs without a kernel.
    """
    actors, quick = request.visible_kernels(), request.query.get("quick") == "1"
    if not quick:
        await request.kernels.readings.refresh(actors)
    rows = [describe_actor(request, actor, quick=quick) async for actor in in_turns(actors)]
    elsewhere = await request.kernels.list_elsewhere()
    shared = request.kernels.catalog.loaded.shared if request.manages_all else {}
    return {
        "kernels": rows,
        "elsewhere": [describe_elsewhere(record) for record in elsewhere],
        "shared": [{"name": name, "owner": owner} for name, owner in sorted(shared.items())],
        "faulty_profiles": request.kernels.catalog.loaded.faulty if request.manages_all else 0,
        **await _startable(request),
    }


async def _startable(request: Request) -> dict[str, Any]:
    if request.query.get("startable") != "1" or not request.manages_all:
        return {}
    return {"startable": await list_startable(request)}


async def info(request: Request) -> Reply:
    """Describe one kernel; the description does not contain the kernel's key.

    With ``check``, a kernel that reports idle gets a request on its shells first, if the peer may
    connect to it.
    """
    actor = request.kernels.find(request.name)
    if request.query.get("check") == "1" and request.may(Right.CONNECT, request.name):
        await actor.process.watch.check_shells()
    return await info_of(request, actor)


async def connection(request: Request) -> Reply:
    """Return the content of a kernel's connection file, including the key."""
    actor = find_live(request, "returning the connection of")
    if actor.record.connection is None:
        raise NotRunningError(
            f"{request.name} has no connection yet", hint="repeat the request in a moment"
        )
    return actor.record.connection.to_file()


async def why(request: Request) -> Reply:
    """List the last decisions about a kernel and their reasons."""
    actor = request.kernels.find(request.name)
    decisions = [
        {"at": iso_time(decision.at), "what": decision.what, "reason": decision.reason}
        for decision in actor.record.decisions
    ]
    return {"name": request.name, "decisions": decisions}


async def logs(request: Request) -> Reply:
    """Stream the last lines of a kernel's output and, with ``follow``, all new output."""
    reader = LogReader(request.kernels.find(request.name).process.runtime.log)
    count = int(request.number("lines", 100, 1e6))
    follows = request.query.get("follow") == "1"

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        text = await asyncio.to_thread(reader.last_lines, count)
        text += "" if follows else reader.finish()
        # Long text is sent in several lines, so that the event loop runs other tasks in between.
        for at in range(0, len(text), MAX_LINE_CHARS):
            yield {"text": text[at : at + MAX_LINE_CHARS]}
        if follows:
            async for text in reader.follow():
                yield {"text": text}

    return stream()


async def wait(request: Request) -> Reply:
    """Wait until a kernel is in the state that ``for`` in the query names: ready or stopped."""
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
            hint=f"kconnd-ctl why {request.name} shows the reason",
        ) from None
    return await info_of(request, actor)
