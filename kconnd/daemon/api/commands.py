"""What changes kernels, or acts on them: start, stop, restart, signals, consoles."""

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path

from kconnd.core.access import Right
from kconnd.core.kernel.events import (
    RestartRequested,
    StartRequested,
    Step,
    StopRequested,
)
from kconnd.core.kernel.interrupts import has_no_cell
from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.kernel.reachability import BOUND_INSTEAD, attach_hint
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.kernel.transitions import ENDED_CHILDREN_TIMEOUT_S
from kconnd.core.launch.kernel_files import live_dir
from kconnd.core.launch.plan import hint_for
from kconnd.core.qtconsole_command import SESSION_VARIABLES
from kconnd.daemon.api.request import Request, info_of, live
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.qtconsoles import plan_console, session_environment
from kconnd.errors import (
    KconndError,
    NotRunningError,
    RefusedError,
    StartFailedError,
    StateFileError,
    StopFailedError,
    UsageError,
)
from kconnd.system.files.private import try_to_write
from kconnd.system.http.route_table import Reply
from kconnd.system.process.processes import age_of, command_of, descendants

NEEDED_BYTES = 64 << 10  # on disk, for a kernel's record, plan and connection file
OUTPUT_LINES = 10  # of a kernel that did not start, in the reply
INTERRUPT_LOOK_S = 0.5  # after an interrupt: a kernel that ends by it does so in 0.1 s
STUCK = 15.0  # seconds of SIGKILL after which a stop names what is left and gives up waiting


async def start(request: Request) -> Reply:
    """Start a kernel; with ``wait``, reply when it is ready or has failed."""
    wait = request.flag("wait", default=True)
    await request.kernels.look_at_foreign(request.name)
    if request.flag("on_demand", default=False):
        manages = request.may(Right.MANAGE, request.name)
        find = request.kernels.find_to_start if manages else request.kernels.find
        _check_demand(actor := find(request.name))
    else:
        request.authorise(Right.MANAGE)
        actor = request.kernels.find_to_start(request.name)
    await actor.ask(StartRequested())
    if wait:
        await _until_ready(actor)
    return await info_of(request, actor, quick=True)


def _check_demand(actor: Actor) -> None:
    """Let nobody start a manual kernel in passing."""
    if actor.kernel.state not in LIVE and actor.profile.start == "manual":
        name = actor.record.name
        raise NotRunningError(
            f"{name} is {actor.kernel.state}, and its profile says that it starts by hand",
            hint=f"kconnd-ctl start {name}",
        )


async def restart(request: Request) -> Reply:
    """Give a kernel a fresh process under the same name, ports and key."""
    await request.kernels.look_at_foreign(request.name)
    wait, new_key = request.flag("wait", default=True), request.flag("new_key", default=False)
    now = request.flag("now", default=False)
    actor = request.kernels.find_to_start(request.name)
    if actor.kernel.state in LIVE:
        await _check_disk(request)
    await actor.ask(RestartRequested(busy=actor.busy, new_key=new_key, now=now))
    if wait:
        await _until_ready(actor)
    return await info_of(request, actor, quick=True)


async def _check_disk(request: Request) -> None:
    """See that a kernel could be started again, before it is ended for that."""
    world = request.kernels.world
    live = Path(live_dir(str(world.runtime_dir)))
    folders = (world.store.folder(request.name), world.runtime_dir, live)
    for folder in dict.fromkeys(folders):
        try:
            await asyncio.to_thread(try_to_write, folder, NEEDED_BYTES)
        except OSError as error:
            raise StateFileError(
                f"restarting {request.name}: it could not be started again: {error}",
                hint=f"it goes on as it is; free disk space or mend the permissions of {folder}, "
                "then ask again",
            ) from error


async def stop(request: Request) -> Reply:
    """End a kernel; with ``wait``, reply when every process of it is gone.

    That is done, too, where it cannot be saved; ``unrecorded`` in the reply says why, then.
    """
    wait, now = request.flag("wait", default=True), request.flag("now", default=False)
    actor = request.kernels.find(request.name)
    why = "stop --now was requested" if now else StopRequested.why
    if not now:
        await request.kernels.stop_turns.take(actor)
    await actor.ask(StopRequested(busy=actor.busy, why=why, now=now))
    if wait:
        await _until_gone(actor)
    return await info_of(request, actor, quick=True)


async def plan_qtconsole(request: Request) -> Reply:
    """Give what would open a Qt console on a kernel: argv, names of variables, file."""
    actor = live(request, "opening a Qt console on")
    path = actor.process.files.connection_file
    return {
        "argv": plan_console(path, ()),
        "environment": list(SESSION_VARIABLES),
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
    path = actor.process.files.connection_file
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
    """Interrupt what a kernel is running; with ``wait``, say so where that ends the kernel."""
    wait = request.flag("wait", default=False)
    actor = live(request, "interrupting")
    _check_has_cell(actor)
    generation = actor.kernel.generation
    await actor.process.interrupt()
    if wait:
        await _see_whether_it_ends(actor, generation)
    return await info_of(request, actor, quick=True)


def _check_has_cell(actor: Actor) -> None:
    """Interrupt no kernel that starts: it has no cell, and may end by that."""
    handle = actor.process.handle
    age_s = age_of(handle.kernel) if handle else 0.0
    if has_no_cell(actor.kernel, age_s, actor.policy):
        name = actor.record.name
        raise NotRunningError(
            f"interrupting {name}: it is {actor.kernel.state}, so it runs no cell, and an "
            "interrupt could end it; nothing was sent",
            hint=f"kconnd-ctl stop {name} ends it",
        )


async def _see_whether_it_ends(actor: Actor, generation: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(INTERRUPT_LOOK_S):
            await actor.until(lambda record: _has_ended(record, generation))
    last, name = actor.record.last_exit, actor.record.name
    if last is not None and _has_ended(actor.record, generation):
        raise NotRunningError(
            f"interrupting {name}: the kernel {last.reason}",
            hint=f"kconnd-ctl why {name} tells what was done about it",
        )


def _has_ended(record: KernelRecord, generation: int) -> bool:
    kernel = record.lifecycle
    return kernel.generation != generation or kernel.state not in LIVE


async def send_signal(request: Request) -> Reply:
    """Send a signal to a kernel's process group."""
    number = _signal_number(request.body.get("signal"))
    actor = live(request, "signalling")
    await actor.process.signal(number)
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
        raise _start_failed(record, actor.launching.trouble)
    await check_reach(actor, f"starting {record.name}")


async def check_reach(actor: Actor, doing: str) -> None:
    """See that a new client can attach to a kernel that has answered.

    Raises
    ------
    StartFailedError
        If none can.
    """
    if fault := await actor.process.find_fault():
        raise StartFailedError(
            f"{doing}: it runs, and no new client can attach: {fault}",
            hint=attach_hint(actor.record.name),
        )


def _start_failed(record: KernelRecord, trouble: KconndError | None) -> StartFailedError:
    kernel, last = record.lifecycle, record.last_exit
    if trouble is not None:
        return StartFailedError(f"starting {record.name}: {kernel.reason}", hint=trouble.hint)
    output = last.output_tail if last else ""
    tail = "\n".join(output.rstrip().splitlines()[-OUTPUT_LINES:])
    silent = next((one for one in record.facts.warnings if BOUND_INSTEAD in one), "")
    hint = silent or hint_for(output) or f"kconnd-ctl logs {record.name} shows its output"
    if kernel.state is State.BACKOFF:
        hint += "; it is tried again on its own"
    return StartFailedError(f"starting {record.name}: {kernel.reason}", hint=hint, output=tail)


async def _until_gone(actor: Actor) -> None:
    budget = 2 * actor.policy.stop_timeout + ENDED_CHILDREN_TIMEOUT_S + STUCK
    try:
        async with asyncio.timeout(budget):
            await actor.until(lambda record: record.lifecycle.state not in LIVE)
    except TimeoutError:
        raise _stop_failed(actor) from None


def _stop_failed(actor: Actor) -> StopFailedError:
    name, handle = actor.record.name, actor.process.handle
    left = [handle.kernel, *descendants(handle.shim)] if handle else []
    who = "; ".join(f"{one.pid} ({command_of(one.pid)})" for one in dict.fromkeys(left))
    return StopFailedError(
        f"stopping {name}: after {actor.kernel.step or Step.KILL} there is still {who}",
        hint="a process that SIGKILL does not end waits for a device or file server; "
        "it goes when that answers",
    )
