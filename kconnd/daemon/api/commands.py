"""Routes that act on kernels: start, stop, restart, interrupt, signal, Qt consoles."""

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kconnd.core.access import Right
from kconnd.core.kernel.activity import OpenRequests
from kconnd.core.kernel.events import (
    RestartRequested,
    StartRequested,
    Step,
    StopRequested,
)
from kconnd.core.kernel.exposure import REWRITTEN
from kconnd.core.kernel.interrupts import (
    Effect,
    describe_ignored,
    effect_of,
    has_no_cell,
    hint_after_ignored,
)
from kconnd.core.kernel.learned import Learned
from kconnd.core.kernel.lifecycle import LIVE, Desired, State
from kconnd.core.kernel.reachability import BOUND_INSTEAD, attach_hint
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.kernel.refused_wire import NOT_ENCRYPTED
from kconnd.core.kernel.transitions import ENDED_CHILDREN_TIMEOUT_S
from kconnd.core.launch.containers import NEVER_REACHED
from kconnd.core.launch.kernel_files import live_dir
from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook, parse_notebook
from kconnd.core.launch.plan import PLAIN_HINT, hint_for
from kconnd.core.profile.model import ends_with_run
from kconnd.core.qtconsole_command import SESSION_VARIABLES
from kconnd.daemon.api.request import Request, find_live, info_of
from kconnd.daemon.api.session_request import read_session
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernel.monitor import Watch
from kconnd.daemon.kernel.run_watch import identify_run
from kconnd.daemon.kernel.shutdown import find_shim_delay
from kconnd.daemon.qtconsoles import plan_console, session_environment
from kconnd.errors import (
    FatalInterruptError,
    InterruptIgnoredError,
    KconndError,
    NoSuchKernelError,
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

LAUNCH_BYTES = 64 << 10  # disk space for a kernel's record, plan and connection file
MAX_OUTPUT_LINES = 10  # the lines of output in the error of a failed start
IDLE_CHECK_S = 2.0  # an idle kernel answers within milliseconds, a slow machine takes longer
INTERRUPT_WATCH_S = 5.0  # async-kernel takes up to 4 s to end a cell after an interrupt
DEATH_WATCH_S = 0.5  # a kernel that an interrupt ends exits within 0.1 s
# A stop fails and lists the remaining processes if they have not exited after this time.
KILL_PATIENCE_S = 15.0


async def start(request: Request) -> Reply:
    """Start a kernel; with ``wait``, reply when the kernel is ready or the start has failed.

    A user who may connect to a kernel, but may not manage it, can start the kernel if its profile
    allows a start on demand. Such a user cannot create a new instance of a profile
    (``NAME@INSTANCE``).
    """
    wait = request.flag("wait", default=True)
    await request.kernels.recheck_foreign(request.name)
    on_demand = request.flag("on_demand", default=False)
    manages = request.may(Right.MANAGE, request.name)
    find = request.kernels.find_to_start if manages else request.kernels.find
    try:
        actor = find(request.name)
    except NoSuchKernelError as error:
        if manages:
            raise
        raise NoSuchKernelError(error.message, hint=request.whom_to_ask()) from None
    if on_demand or not manages:
        _check_demand(request, actor, manages=manages)
    is_up = actor.kernel.state in LIVE and actor.kernel.desired is Desired.UP
    session = None if is_up else read_session(request, actor)
    await actor.ask(StartRequested(session=session, notebook=_notebook_of(request)))
    if wait:
        await _until_ready(actor)
    return await info_of(request, actor, quick=True)


def _notebook_of(request: Request) -> Notebook | None:
    """Return the notebook in a request, with the run that sent the request."""
    notebook, profile = _sent_notebook(request), request.kernels.profile(request.name)
    if notebook is None:
        return None
    is_run = request.flag("is_run", default=False)
    ends = is_run and profile is not None and ends_with_run(profile)
    return replace(notebook, run=identify_run(request.peer.pid) if ends else None)


def _sent_notebook(request: Request) -> Notebook | None:
    """Return the notebook in a request; None for a request of another user than the owner."""
    sent = request.body.get("notebook")
    if sent is None or request.peer.uid != request.kernels.world.user.uid:
        return None
    return parse_notebook(sent)


async def move_notebook(request: Request) -> Reply:
    """Note that the notebook of a kernel has another path or file, for the next start."""
    actor, notebook = request.kernels.find(request.name), _sent_notebook(request)
    if notebook is None:
        raise RefusedError(
            f"uid {request.peer.uid} may not name the notebook of {request.name}",
            hint=f"ask {request.kernels.world.user.name}",
        )
    recorded = actor.record.notebook or NO_NOTEBOOK
    notebook = replace(notebook, run=recorded.run)
    actor.enqueue(Learned(actor.kernel.generation, notebook=notebook))
    return await info_of(request, actor, quick=True)


def _check_demand(request: Request, actor: Actor, *, manages: bool) -> None:
    """Refuse a start on demand if the profile says ``start: manual`` and the kernel is not up."""
    is_kept_up = actor.kernel.state in LIVE and actor.kernel.desired is Desired.UP
    if is_kept_up or actor.profile.start != "manual":
        return
    name = actor.record.name
    reason = f"{name} is {actor.kernel.state}, and its profile says start: manual"
    if not manages:
        raise RefusedError(reason, hint=request.whom_to_ask())
    raise NotRunningError(reason, hint=f"kconnd-ctl start {name} starts it")


async def restart(request: Request) -> Reply:
    """Restart a kernel; the kernel keeps its name, ports and key."""
    await request.kernels.recheck_foreign(request.name)
    wait, new_key = request.flag("wait", default=True), request.flag("new_key", default=False)
    now = request.flag("now", default=False)
    actor = request.kernels.find_to_start(request.name)
    session = read_session(request, actor)
    if actor.kernel.state in LIVE:
        await _check_disk(request)
    why = _reason(request, "restart")
    await actor.ask(
        RestartRequested(busy=actor.busy, new_key=new_key, now=now, why=why, session=session)
    )
    if wait:
        await _until_ready(actor)
    return await info_of(request, actor, quick=True)


def _reason(request: Request, command: str) -> str:
    """Return the reason for what a request causes; it names a requester other than the owner."""
    peer = request.peer
    if peer.uid == request.kernels.world.user.uid:
        return f"{command} was requested"
    return f"{command} was requested by {peer.name or f'uid {peer.uid}'}"


async def _check_disk(request: Request) -> None:
    """Refuse a restart, without stopping the kernel, if the disk has no room for a launch."""
    world = request.kernels.world
    live = Path(live_dir(str(world.runtime_dir)))
    folders = (world.store.folder(request.name), world.runtime_dir, live)
    for folder in dict.fromkeys(folders):
        try:
            await asyncio.to_thread(try_to_write, folder, LAUNCH_BYTES)
        except OSError as error:
            raise StateFileError(
                f"restarting {request.name}: a new process could not be launched: {error}",
                hint=f"the kernel goes on running; free disk space or correct the permissions of "
                f"{folder}, then restart it again",
            ) from error


async def stop(request: Request) -> Reply:
    """Stop a kernel; with ``wait``, reply when all of its processes have exited.

    The kernel is stopped even if its record cannot be saved. In this case, ``unrecorded`` in the
    reply contains the error.
    """
    wait, now = request.flag("wait", default=True), request.flag("now", default=False)
    actor = request.kernels.find(request.name)
    why = _reason(request, "stop --now" if now else "stop")
    if not now:
        await request.kernels.stop_turns.take(actor)
    await actor.ask(StopRequested(busy=actor.busy, why=why, now=now))
    if wait:
        await _until_gone(actor)
    return await info_of(request, actor, quick=True)


async def plan_qtconsole(request: Request) -> Reply:
    """Return argv, variables and connection file with which a client opens a Qt console."""
    actor = find_live(request, "opening a Qt console on")
    path = actor.process.files.connection_file
    return {
        "argv": plan_console(path, (), request.name, request.places["socket"]),
        "environment": list(SESSION_VARIABLES),
        "connection_file": path,
    }


async def open_qtconsole(request: Request) -> Reply:
    """Open a Qt console for the owner, on the display that ``environment`` in the body names."""
    actor = find_live(request, "opening a Qt console on")
    if actor.kernel.state is not State.RUNNING:
        await _until_ready(actor)
    world = request.kernels.world
    if request.peer.uid != world.user.uid:
        raise RefusedError(
            f"opening a Qt console on {request.name}: the daemon of {world.user.name} cannot open "
            f"one for uid {request.peer.uid}",
            hint=f"kconnd-ctl qtconsole {request.name} opens one in your own session",
        )
    path = actor.process.files.connection_file
    options = _words(request.body.get("options", []))
    command = plan_console(path, options, request.name, request.places["socket"])
    variables = request.body.get("environment", {})
    if not isinstance(variables, Mapping):
        raise UsageError("environment: it is not a mapping")
    env = session_environment(world.user, world.environment, variables)
    console = request.kernels.consoles.open(request.name, command, env, world.wall_clock())
    return console.to_json()


def _words(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise UsageError("options: it is not a list of strings")
    return value


async def interrupt(request: Request) -> Reply:
    """Interrupt a kernel; ``interrupt`` in the reply is the effect (`Effect`).

    A kernel that is idle, and answers on all its shells, is not interrupted. With ``wait``, the
    reply is sent when the cell has ended, and it is an error if the interrupt ends the kernel or
    has no effect.
    """
    wait = request.flag("wait", default=False)
    actor = find_live(request, "interrupting")
    _check_has_cell(actor)
    watch = actor.process.watch
    if await _is_idle(watch):
        return await _with_effect(request, actor, Effect.IDLE)
    before = watch.open_requests
    if danger := await actor.process.find_interrupt_danger():
        name = request.name
        raise FatalInterruptError(
            f"interrupting {name}: it does not survive SIGINT ({danger}); none was sent",
            hint=f"kconnd-ctl restart {name} ends the cell, and loses the kernel's data as well",
        )
    generation = actor.kernel.generation
    await actor.process.interrupt()
    effect = await _observe_effect(actor, generation, before) if wait else Effect.SENT
    return await _with_effect(request, actor, effect)


async def _is_idle(watch: Watch) -> bool:
    """Return whether a kernel shows that it is idle; return False once it publishes ``busy``."""
    if watch.open_requests:
        return False
    answering = asyncio.ensure_future(watch.is_idle(IDLE_CHECK_S))
    busy = asyncio.ensure_future(watch.until(lambda: bool(watch.open_requests)))
    try:
        done, _ = await asyncio.wait({answering, busy}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        answering.cancel()
        busy.cancel()
    return busy not in done and answering.result()


async def _with_effect(request: Request, actor: Actor, effect: Effect) -> Reply:
    return {**await info_of(request, actor, quick=True), "interrupt": effect.value}


async def _observe_effect(actor: Actor, generation: int, before: OpenRequests) -> Effect:
    """Wait until an interrupt has had an effect; raise an error if it ends the kernel, or none."""
    watch, clock = actor.process.watch, asyncio.get_running_loop().time
    sent_at = clock()
    answers = await _wait_for_effect(actor, generation, before)
    await _check_survives(actor, generation, sent_at + DEATH_WATCH_S - clock())
    if not before and (answers or watch.open_requests):
        return Effect.SENT
    effect = effect_of(before, watch.open_requests) if before else Effect.IGNORED
    if effect is Effect.IGNORED:
        name = actor.record.name
        implementation = actor.record.facts.implementation
        raise InterruptIgnoredError(
            describe_ignored(name, clock() - sent_at, before, implementation),
            hint=hint_after_ignored(name),
        )
    if effect is Effect.ENDED:
        actor.process.note_interrupted_cell()
    return effect


async def _wait_for_effect(actor: Actor, generation: int, before: OpenRequests) -> bool:
    """Wait until the cells have ended, or the kernel; return False after `INTERRUPT_WATCH_S`.

    If the kernel has published no request, wait until it answers.
    """
    watch = actor.process.watch

    def have_ended() -> bool:
        return effect_of(before, watch.open_requests) is Effect.ENDED

    is_over = watch.until(have_ended) if before else watch.answers(INTERRUPT_WATCH_S)
    over = asyncio.ensure_future(is_over)
    death = asyncio.ensure_future(actor.until(lambda record: _has_ended(record, generation)))
    try:
        done, _ = await asyncio.wait(
            {over, death}, timeout=INTERRUPT_WATCH_S, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        over.cancel()
        death.cancel()
    return over in done and over.result() is not False


def _check_has_cell(actor: Actor) -> None:
    """Refuse to interrupt a starting kernel: it runs no cell, and the interrupt could end it."""
    handle = actor.process.handle
    age_s = age_of(handle.kernel) if handle else 0.0
    if has_no_cell(actor.kernel, age_s, actor.policy):
        name = actor.record.name
        raise NotRunningError(
            f"interrupting {name}: it is {actor.kernel.state} and runs no cell, and an interrupt "
            "could end it; none was sent",
            hint=f"kconnd-ctl wait {name} returns when it is ready",
        )


async def _check_survives(actor: Actor, generation: int, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await actor.until(lambda record: _has_ended(record, generation))
    last, name = actor.record.last_exit, actor.record.name
    if last is not None and _has_ended(actor.record, generation):
        raise NotRunningError(
            f"interrupting {name}: the kernel {last.reason}",
            hint=f"kconnd-ctl why {name} shows what followed",
        )


def _has_ended(record: KernelRecord, generation: int) -> bool:
    kernel = record.lifecycle
    return kernel.generation != generation or kernel.state not in LIVE


async def send_signal(request: Request) -> Reply:
    """Send a signal to a kernel's process group."""
    number = _signal_number(request.body.get("signal"))
    actor = find_live(request, "signalling")
    await actor.process.signal(number)
    return await info_of(request, actor, quick=True)


def _signal_number(value: object) -> int:
    name = str(value).upper().removeprefix("SIG")
    numbers = {member.name.removeprefix("SIG"): member.value for member in signal.Signals}
    number = numbers.get(name) or (int(name) if name.isdecimal() else 0)
    if number not in signal.valid_signals():
        raise UsageError(
            f"signal: {value!r} is not a signal", hint="use a name such as USR1, or its number"
        )
    return number


async def _until_ready(actor: Actor) -> None:
    decided = {State.RUNNING, State.STOPPED, State.FAILED, State.LOST, State.BACKOFF}
    record = await actor.until(lambda record: record.lifecycle.state in decided)
    if record.lifecycle.state is not State.RUNNING:
        hint = await actor.find_setup_hint()
        raise _start_failed(record, actor.launching.trouble, hint)
    await check_reach(actor, f"starting {record.name}")


async def check_reach(actor: Actor, doing: str) -> None:
    """Check that a new client can attach to a kernel that has answered.

    Raises
    ------
    StartFailedError
        If no client can attach.
    """
    if fault := await actor.process.find_fault():
        raise StartFailedError(
            f"{doing}: it runs, and no new client can attach: {fault}",
            hint=attach_hint(actor.record.name),
        )


def _start_failed(
    record: KernelRecord, trouble: KconndError | None, setup_hint: str
) -> StartFailedError:
    kernel, last = record.lifecycle, record.last_exit
    if trouble is not None:
        return StartFailedError(f"starting {record.name}: {kernel.reason}", hint=trouble.hint)
    output = last.output_tail if last else ""
    tail = "\n".join(output.rstrip().splitlines()[-MAX_OUTPUT_LINES:])
    reasons = (REWRITTEN, BOUND_INSTEAD, NEVER_REACHED)
    warnings = (text for text in record.facts.warnings if any(map(text.__contains__, reasons)))
    warning = next(warnings, "")
    hint = PLAIN_HINT if kernel.reason.startswith(NOT_ENCRYPTED) else warning
    hint = hint or setup_hint or hint_for(output)
    hint = hint or f"kconnd-ctl logs {record.name} shows its output"
    if kernel.state is State.BACKOFF:
        hint += "; the start is retried automatically"
    return StartFailedError(f"starting {record.name}: {kernel.reason}", hint=hint, output=tail)


async def _until_gone(actor: Actor) -> None:
    budget = 2 * actor.policy.stop_timeout + ENDED_CHILDREN_TIMEOUT_S + KILL_PATIENCE_S
    try:
        async with asyncio.timeout(budget):
            record = await actor.until(_has_outcome)
    except TimeoutError:
        raise _stop_failed(actor) from None
    if record.lifecycle.state in LIVE:
        raise StopFailedError(
            f"stopping {record.name}: another request has cancelled the stop",
            hint=f"kconnd-ctl why {record.name} shows the request",
        )


def _has_outcome(record: KernelRecord) -> bool:
    """Return whether a stop is over: the kernel has stopped, or another request starts it again."""
    return record.lifecycle.state not in LIVE or record.lifecycle.desired is Desired.UP


def _stop_failed(actor: Actor) -> StopFailedError:
    name, handle = actor.record.name, actor.process.handle
    if handle and (reason := find_shim_delay(handle)):
        return StopFailedError(f"stopping {name}: its process has exited; it waits for {reason}")
    processes = [handle.kernel, *descendants(handle.shim)] if handle else []
    pids = [process.pid for process in dict.fromkeys(processes)]
    remaining = "; ".join(f"{pid} ({command_of(pid)})" for pid in pids)
    return StopFailedError(
        f"stopping {name}: after {actor.kernel.step or Step.KILL} there is still {remaining}",
        hint="a process that survives SIGKILL waits for a device or file server, and exits when "
        "it answers",
    )
