"""What changes kernels, or acts on them: start, stop, restart, signals, consoles."""

import asyncio
import signal
from collections.abc import Mapping

from kconnd.core.access import Right
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
from kconnd.daemon.actor import Actor
from kconnd.daemon.consoles import plan_console, session_environment
from kconnd.daemon.request import Request, info_of, live
from kconnd.errors import (
    KconndError,
    NotRunningError,
    RefusedError,
    StartFailedError,
    StopFailedError,
    UsageError,
)
from kconnd.system.processes import command_of, descendants
from kconnd.system.table import Reply

OUTPUT_LINES = 10  # of a kernel that did not start, in the reply
STUCK = 15.0  # seconds of SIGKILL after which a stop names what is left and gives up waiting


async def start(request: Request) -> Reply:
    """Start a kernel; with ``wait``, reply when it is ready or has failed."""
    wait = request.flag("wait", default=True)
    if request.flag("on_demand", default=False):
        manages = request.may(Right.MANAGE, request.name)
        find = request.kernels.find_to_start if manages else request.kernels.find
        _check_demand(actor := find(request.name))
    else:
        request.authorise(Right.MANAGE)
        actor = request.kernels.find_to_start(request.name)
    await actor.ask(StartAsked())
    if wait:
        await _until_ready(actor)
    return await info_of(request, actor, quick=True)


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
    wait, new_key = request.flag("wait", default=True), request.flag("new_key", default=False)
    actor = request.kernels.find_to_start(request.name)
    await actor.ask(RestartAsked(busy=actor.busy, new_key=new_key))
    if wait:
        await _until_ready(actor)
    return await info_of(request, actor, quick=True)


async def stop(request: Request) -> Reply:
    """End a kernel; with ``wait``, reply when every process of it is gone."""
    wait = request.flag("wait", default=True)
    actor = request.kernels.find(request.name)
    await actor.ask(StopAsked(busy=actor.busy))
    if wait:
        await _until_gone(actor)
    return await info_of(request, actor, quick=True)


async def plan_qtconsole(request: Request) -> Reply:
    """Give what would open a Qt console on a kernel: argv, names of variables, file."""
    actor = live(request, "opening a Qt console on")
    path = connection_path(str(request.kernels.world.runtime_dir), actor.record.name)
    return {
        "argv": plan_console(path, ()),
        "environment": list(SESSION),
        "connection_file": path,
    }


async def open_qtconsole(request: Request) -> Reply:
    """Open a Qt console as the caller, on the display that ``environment`` names."""
    actor = live(request, "opening a Qt console on")
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
    actor = live(request, "interrupting")
    await actor.life.interrupt()
    return await info_of(request, actor, quick=True)


async def send_signal(request: Request) -> Reply:
    """Send a signal to a kernel's process group."""
    number = _signal_number(request.body.get("signal"))
    actor = live(request, "signalling")
    await actor.life.signal(number)
    return await info_of(request, actor, quick=True)


def _signal_number(given: object) -> int:
    name = str(given).upper().removeprefix("SIG")
    valid = {one.name.removeprefix("SIG"): one.value for one in signal.Signals}
    number = valid.get(name) or (int(name) if name.isdecimal() else 0)
    if number not in signal.valid_signals():
        raise UsageError(
            f"signal: {given!r} is not a signal", hint="use a name such as USR1, or its number"
        )
    return number


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
