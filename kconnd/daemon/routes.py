"""What can be asked of the daemon: one function for each request, in one table.

Rules. A function here gets a checked request and gives plain data, or an iterator for a
stream; it knows no socket. The right that each needs stands in the table, and the server asks
for it before the function is called. Replies are an interface: fields are only added.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import kconnd
from kconnd.core.access import Peer, Right, may
from kconnd.core.events import (
    RestartAsked,
    StartAsked,
    Step,
    StopAsked,
)
from kconnd.core.lifecycle import LIVE, State
from kconnd.core.plan import connection_path, hint_for
from kconnd.core.qt import SESSION
from kconnd.core.record import KernelRecord
from kconnd.core.view import describe, describe_elsewhere, iso, without_output
from kconnd.daemon.actor import Actor
from kconnd.daemon.consoles import plan_console, session_environment
from kconnd.daemon.kernels import Kernels
from kconnd.daemon.sight import look
from kconnd.errors import (
    KconndError,
    NotRunningError,
    RefusedError,
    StartFailedError,
    StopFailedError,
    TimedOutError,
    UsageError,
)
from kconnd.system.http import Parameter, Reply, Route
from kconnd.system.logs import follow, last_lines
from kconnd.system.openapi import document
from kconnd.system.processes import command_of, descendants

OUTPUT_LINES = 10  # of a kernel that did not start, in the reply
STUCK = 15.0  # seconds of SIGKILL after which a stop names what is left and gives up waiting


@dataclass(frozen=True)
class Request:
    """What was asked, by whom."""

    kernels: Kernels
    places: Mapping[str, Any]
    peer: Peer
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def may(self, right: Right, name: str) -> bool:
        """Tell whether the peer has a right on one kernel."""
        owner = self.kernels.world.user.uid
        return may(self.peer, right, owner=owner, rules=self.kernels.rules(name))

    def authorise(self, right: Right) -> None:
        """Refuse a request that its peer has no right to.

        What is about all kernels needs the right on one of them, and shows only those; what
        changes the daemon itself is for its owner.

        Raises
        ------
        RefusedError
            Also for a kernel that does not exist, so that nobody learns which do.
        """
        kernels, owner = self.kernels, self.kernels.world.user
        if self.name:
            granted = self.may(right, self.name)
        elif right is Right.MANAGE:
            granted = may(self.peer, right, owner=owner.uid)
        else:
            names = {*kernels.loaded.profiles, *(one.record.name for one in kernels.all())}
            granted = may(self.peer, right, owner=owner.uid) or any(
                self.may(right, name) for name in names
            )
        if not granted:
            raise RefusedError(
                f"uid {self.peer.uid} may not {right.name.lower()} "
                f"{self.name or 'kernels'} of {owner.name}",
                hint=f"ask {owner.name}",
            )

    def flag(self, key: str, *, default: bool) -> bool:
        """Read a yes or no of the body."""
        value = self.body.get(key, default)
        if not isinstance(value, bool):
            raise UsageError(f"{key}: {value!r} is neither true nor false")
        return value

    def number(self, key: str, default: float, most: float) -> float:
        """Read a number of the query."""
        text = self.query.get(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            raise UsageError(f"{key}: {text!r} is not a number from 0 to {most:g}")
        return value


# --- the daemon


async def health(request: Request) -> Reply:
    """Tell that the daemon works, what it serves and where it keeps its things."""
    actors = request.kernels.all()
    return {
        "version": kconnd.__version__,
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "kernels": len(actors),
        "running": sum(actor.kernel.state is State.RUNNING for actor in actors),
        "faults": len(request.kernels.loaded.faults),
        **request.places,
    }


async def openapi(_request: Request) -> Reply:
    """Give this table as an OpenAPI document."""
    return document(ROUTES)


async def profiles(request: Request) -> Reply:
    """List the profiles and the faults of their files."""
    loaded = request.kernels.loaded
    return {
        "profiles": [
            {
                "name": name,
                "file": str(found.file),
                "line": found.line,
                "start": found.profile.start,
                "status": request.kernels.profile_status(request.kernels.find(name)),
            }
            for name, found in sorted(loaded.profiles.items())
            if name not in request.kernels.foreign
        ],
        "faults": _faults(request),
    }


async def reload(request: Request) -> Reply:
    """Read the profiles again; no live kernel is touched."""
    difference = request.kernels.reload()
    return {
        "added": list(difference.added),
        "changed": list(difference.changed),
        "removed": list(difference.removed),
        "unchanged": len(difference.unchanged),
        "faults": _faults(request),
    }


def _faults(request: Request) -> list[dict[str, Any]]:
    return [asdict(fault) for fault in request.kernels.loaded.faults]


async def events(request: Request) -> Reply:
    """Stream what happened to kernels, and with ``follow`` what happens from now on."""
    wanted = request.query.get("kernel")
    bus = request.kernels.world.bus

    def fits(name: str) -> bool:
        return wanted in {None, name} and request.may(Right.CONNECT, name)

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        for happening in bus.past():
            if fits(happening.kernel):
                yield happening.to_json()
        if request.query.get("follow") == "1":
            async for happening in bus.listen():
                if fits(happening.kernel):
                    yield happening.to_json()

    return stream()


# --- looking at kernels


async def kernels_(request: Request) -> Reply:
    """List all kernels, and what machines that share this home say of theirs."""
    seen = [one for one in request.kernels.all() if request.may(Right.SEE, one.record.name)]
    found = [await _info(request, actor) for actor in seen]
    elsewhere = await asyncio.to_thread(request.kernels.elsewhere)
    return {"kernels": found, "elsewhere": [describe_elsewhere(one) for one in elsewhere]}


async def info(request: Request) -> Reply:
    """Show one kernel; no key is in it."""
    return await _info(request, request.kernels.find(request.name))


async def _info(request: Request, actor: Actor) -> Mapping[str, Any]:
    status = request.kernels.profile_status(actor)
    sight = await asyncio.to_thread(look, actor, request.kernels.world, status)
    consoles = request.kernels.consoles.of(actor.record.name)
    shown = {**describe(actor.record, sight), "consoles": consoles}
    return shown if request.may(Right.CONNECT, actor.record.name) else without_output(shown)


async def connection(request: Request) -> Reply:
    """Give the content of a kernel's connection file, its key among it."""
    actor = _live(request, "giving the connection of")
    if actor.record.connection is None:
        raise NotRunningError(f"{request.name} has no connection yet", hint="ask again in a moment")
    return actor.record.connection.to_file()


async def why(request: Request) -> Reply:
    """Tell the last decisions about a kernel and their reasons."""
    actor = request.kernels.find(request.name)
    decisions = [
        {"at": iso(one.at), "what": one.what, "reason": one.reason}
        for one in actor.record.decisions
    ]
    return {"name": request.name, "decisions": decisions}


async def logs(request: Request) -> Reply:
    """Stream the last lines of a kernel's output, and with ``follow`` what comes."""
    path = request.kernels.find(request.name).life.log_file
    count = int(request.number("lines", 100, 1e6))

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        following = follow(path) if request.query.get("follow") == "1" else None
        if text := await asyncio.to_thread(last_lines, path, count):
            yield {"text": text}
        if following is not None:
            async for text in following:
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
    except TimeoutError:
        state = actor.kernel.state
        raise TimedOutError(
            f"waiting for {request.name} to be {goal}: it is {state} after {limit:g} s",
            hint=f"kconnd-ctl why {request.name} tells the reason",
        ) from None
    return await _info(request, actor)


# --- changing kernels


async def start(request: Request) -> Reply:
    """Start a kernel; with ``wait``, reply when it is ready or has failed."""
    if request.flag("on_demand", default=False):
        manages = request.may(Right.MANAGE, request.name)
        find = request.kernels.find_to_start if manages else request.kernels.find
        _check_demand(actor := find(request.name))
    else:
        request.authorise(Right.MANAGE)
        actor = request.kernels.find_to_start(request.name)
    await actor.ask(StartAsked())
    if request.flag("wait", default=True):
        await _until_ready(actor)
    return await _info(request, actor)


def _check_demand(actor: Actor) -> None:
    """Let nobody start a manual kernel in passing."""
    if actor.kernel.state not in LIVE and actor.profile().start == "manual":
        name = actor.record.name
        raise NotRunningError(
            f"{name} is {actor.kernel.state}, and its profile says that it starts by hand",
            hint=f"kconnd-ctl start {name}",
        )


async def restart(request: Request) -> Reply:
    """Give a kernel a fresh process under the same name, ports and key."""
    actor = request.kernels.find_to_start(request.name)
    await actor.ask(RestartAsked(busy=actor.busy, new_key=request.flag("new_key", default=False)))
    if request.flag("wait", default=True):
        await _until_ready(actor)
    return await _info(request, actor)


async def stop(request: Request) -> Reply:
    """End a kernel; with ``wait``, reply when every process of it is gone."""
    actor = request.kernels.find(request.name)
    await actor.ask(StopAsked(busy=actor.busy))
    if request.flag("wait", default=True):
        await _until_gone(actor)
    return await _info(request, actor)


async def plan_qtconsole(request: Request) -> Reply:
    """Give what would open a Qt console on a kernel: argv, names of variables, file."""
    actor = _live(request, "opening a Qt console on")
    path = connection_path(str(request.kernels.world.runtime_dir), actor.record.name)
    return {
        "argv": plan_console(path, ()),
        "environment": list(SESSION),
        "connection_file": path,
    }


async def open_qtconsole(request: Request) -> Reply:
    """Open a Qt console as the caller, on the display that ``environment`` names."""
    actor = _live(request, "opening a Qt console on")
    if actor.kernel.state is not State.RUNNING:
        await _until_ready(actor)
    world = request.kernels.world
    if request.peer.uid != world.user.uid:
        raise RefusedError(
            f"a console is opened as its caller, and this daemon is {world.user.name}, "
            f"not uid {request.peer.uid}",
            hint=f"kconnd-ctl qtconsole {request.name} opens one in your own session",
        )
    path = connection_path(str(world.runtime_dir), actor.record.name)
    command = plan_console(path, _words(request.body.get("options", [])))
    given = request.body.get("environment", {})
    if not isinstance(given, Mapping):
        raise UsageError("environment: it is not a mapping")
    env = session_environment(world.user, world.environment, given)
    console = request.kernels.consoles.open(request.name, command, env, world.wall_clock())
    return console.to_json()


def _words(given: object) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise UsageError("options: it is not a list of text")
    return given


async def interrupt(request: Request) -> Reply:
    """Interrupt what a kernel is running."""
    actor = _live(request, "interrupting")
    await actor.life.interrupt()
    return await _info(request, actor)


async def send_signal(request: Request) -> Reply:
    """Send a signal to a kernel's process group."""
    number = _signal_number(request.body.get("signal"))
    actor = _live(request, "signalling")
    await actor.life.signal(number)
    return await _info(request, actor)


def _signal_number(given: object) -> int:
    name = str(given).upper().removeprefix("SIG")
    valid = {one.name.removeprefix("SIG"): one.value for one in signal.Signals}
    number = valid.get(name) or (int(name) if name.isdecimal() else 0)
    if number not in signal.valid_signals():
        raise UsageError(
            f"signal: {given!r} is not a signal", hint="use a name such as USR1, or its number"
        )
    return number


def _live(request: Request, doing: str) -> Actor:
    actor = request.kernels.find(request.name)
    if actor.kernel.state not in LIVE:
        raise NotRunningError(
            f"{doing} {request.name}: it is {actor.kernel.state}",
            hint=f"kconnd-ctl start {request.name} starts it",
        )
    return actor


async def _until_ready(actor: Actor) -> None:
    rest = {State.RUNNING, State.STOPPED, State.FAILED, State.LOST, State.BACKOFF}
    record = await actor.until(lambda record: record.lifecycle.state in rest)
    if record.lifecycle.state is not State.RUNNING:
        raise _start_failed(record, actor.life.trouble)


def _start_failed(record: KernelRecord, trouble: KconndError | None) -> StartFailedError:
    kernel, last = record.lifecycle, record.last_exit
    if trouble is not None:
        return StartFailedError(f"starting {record.name}: {kernel.reason}", hint=trouble.hint)
    output = last.output_tail if last else ""
    tail = "\n".join(output.rstrip().splitlines()[-OUTPUT_LINES:])
    hint = hint_for(output) or f"kconnd-ctl logs {record.name} shows its output"
    if kernel.state is State.BACKOFF:
        hint += "; it is tried again on its own"
    return StartFailedError(f"starting {record.name}: {kernel.reason}", hint=hint, output=tail)


async def _until_gone(actor: Actor) -> None:
    budget = 2 * actor.policy.stop_timeout + STUCK
    try:
        async with asyncio.timeout(budget):
            await actor.until(lambda record: record.lifecycle.state not in LIVE)
    except TimeoutError:
        raise _stop_failed(actor) from None


def _stop_failed(actor: Actor) -> StopFailedError:
    name, handle = actor.record.name, actor.life.handle
    left = [handle.kernel, *descendants(handle.shim)] if handle else []
    who = "; ".join(f"{one.pid} ({command_of(one.pid)})" for one in dict.fromkeys(left))
    return StopFailedError(
        f"stopping {name}: after {actor.kernel.step or Step.KILL} there is still {who}",
        hint="a process that SIGKILL does not end waits for a device or file server; "
        "it goes when that answers",
    )


_WAIT = Parameter("wait", "boolean", "Whether to reply only when it is done; true by default.")
_FOLLOW = Parameter("follow", "string", "1 for what comes from now on, too.")
_ONE = "/v1/kernels/{name}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/health", Right.SEE, health),
    Route("GET", "/v1/openapi.json", Right.SEE, openapi),
    Route("GET", "/v1/profiles", Right.MANAGE, profiles),
    Route("POST", "/v1/reload", Right.MANAGE, reload),
    Route(
        "GET",
        "/v1/events",
        Right.CONNECT,
        events,
        (_FOLLOW, Parameter("kernel", "string", "Only this one's.")),
        streams=True,
    ),
    Route("GET", "/v1/kernels", Right.SEE, kernels_),
    Route("GET", _ONE, Right.SEE, info),
    Route("GET", f"{_ONE}/connection", Right.CONNECT, connection),
    Route("GET", f"{_ONE}/why", Right.SEE, why),
    Route(
        "GET",
        f"{_ONE}/logs",
        Right.CONNECT,
        logs,
        (Parameter("lines", "integer", "How many, at most."), _FOLLOW),
        streams=True,
    ),
    Route(
        "GET",
        f"{_ONE}/wait",
        Right.SEE,
        wait,
        (
            Parameter("for", "string", "ready or stopped."),
            Parameter("timeout", "number", "Seconds; without it, as long as it takes."),
        ),
    ),
    Route(
        "POST",
        f"{_ONE}/start",
        Right.CONNECT,
        start,
        (
            _WAIT,
            Parameter("on_demand", "boolean", "Whether to leave kernels that start by hand."),
        ),
    ),
    Route("POST", f"{_ONE}/stop", Right.MANAGE, stop, (_WAIT,)),
    Route(
        "POST",
        f"{_ONE}/restart",
        Right.MANAGE,
        restart,
        (_WAIT, Parameter("new_key", "boolean", "Whether to revoke the key.")),
    ),
    Route("GET", f"{_ONE}/qtconsole", Right.CONNECT, plan_qtconsole),
    Route(
        "POST",
        f"{_ONE}/qtconsole",
        Right.CONNECT,
        open_qtconsole,
        (
            Parameter("environment", "object", "What names the display: DISPLAY and the like."),
            Parameter("options", "array", "Further options of qtconsole."),
        ),
    ),
    Route("POST", f"{_ONE}/interrupt", Right.CONNECT, interrupt),
    Route(
        "POST",
        f"{_ONE}/signal",
        Right.MANAGE,
        send_signal,
        (Parameter("signal", "string", "Its name or number."),),
    ),
)
