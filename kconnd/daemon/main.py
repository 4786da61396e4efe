"""``kconnd``: the command of the owner's daemon; this module builds the daemon's objects.

The daemon exits on SIGTERM and SIGINT and leaves every kernel running. On SIGHUP, the daemon
reloads the profiles. `kconnd.errors` defines the exit codes.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kconnd import private_tmp
from kconnd.core.kernel.record import Origin
from kconnd.core.kernel.view import iso_time
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import live_dir
from kconnd.core.launch.plan import base_environment
from kconnd.core.paths import SETTINGS_FILE
from kconnd.daemon.api.admission import Gate, bound_connections_for_ever
from kconnd.daemon.api.request import Request
from kconnd.daemon.api.routes import ROUTES, get_ready
from kconnd.daemon.context import Channels, World
from kconnd.daemon.event_log import EventBus
from kconnd.daemon.kernels import Kernels
from kconnd.daemon.options import Options, parse_options
from kconnd.daemon.tasks.account_watch import end_with_account
from kconnd.daemon.tasks.heartbeats import beat_for_ever
from kconnd.daemon.tasks.jupyter_publishing import publish_for_ever, publish_once
from kconnd.daemon.tasks.profile_reload import follow_kernelspecs, pick_up_for_ever, watch_folders
from kconnd.daemon.tasks.repair import make_folders, repair_for_ever
from kconnd.daemon.tasks.service_status import register_at_front_for_ever, report_for_ever
from kconnd.daemon.warm.pool import Pool
from kconnd.errors import KconndError, LockedError, ProfileError
from kconnd.launchers.confinement import UserScopes
from kconnd.launchers.fork import FORK, ForkLauncher
from kconnd.launchers.local import LOCAL, LocalLauncher
from kconnd.launchers.registry import Launchers
from kconnd.launchers.transient_unit import SYSTEMD, SystemdLauncher
from kconnd.system.account_defaults import AccountDefaults, find_umask
from kconnd.system.files.account_files import AccountFiles, check_account
from kconnd.system.files.hidden_daemon import (
    CURE,
    describe_hidden_daemon,
    find_hidden_daemon,
    lock_note,
)
from kconnd.system.files.private import ensure_private_dir, take_lock
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.files.runtime_owner import settle_runtime
from kconnd.system.files.unwritable import explain_unwritable
from kconnd.system.files.watcher import FolderWatcher
from kconnd.system.http.http_server import Site
from kconnd.system.http.peer import look_up_user
from kconnd.system.hung_calls import BeginStep, StuckError, ThreadPerCallExecutor
from kconnd.system.kernel_software import LearnedCapabilities
from kconnd.system.kernelspecs import search_path
from kconnd.system.ledger import PortLedger
from kconnd.system.machine import machine_id, own_user
from kconnd.system.process.login_shell import ask_path
from kconnd.system.process.processes import boot_id, pid_namespace
from kconnd.system.process.session_limits import raise_soft_limits
from kconnd.system.profiles.loader import LoadedProfiles, is_profile
from kconnd.system.profiles.settings_file import LiveSettings
from kconnd.system.profiles.tiers import load_tiers
from kconnd.system.store import Store
from kconnd.system.systemd.journal import set_up_logging
from kconnd.system.systemd.notify import notify, passed_sockets

if TYPE_CHECKING:
    import zmq.asyncio

    from kconnd.system.channels.flow_control import ReadBudget

MAX_STUCK_FILES = 16
RETRY_DELAY_S = 5.0  # the delay before the restart of a failed background task

Work = Callable[[], Coroutine[Any, Any, None]]

log = logging.getLogger("kconnd")


def build_world(options: Options, gate: Gate) -> World:
    """Build the objects that all kernels share."""
    user = own_user()
    shell_env = base_environment(user, os.environ, os.environ.get("XDG_RUNTIME_DIR", ""))
    return World(
        user=user,
        environment=dict(os.environ),  # a copy is read faster
        runtime_dir=options.runtime_dir,
        machines_dir=options.machines_dir,
        ports=options.ports,
        launcher=_launchers(options, gate),
        connect=_connector(),
        store=Store(options.state_dir, _origin()),
        ledger=PortLedger(options.runtime_dir),
        bus=EventBus(own_user().name),
        slots=asyncio.Semaphore(max(4, 2 * (os.cpu_count() or 1))),
        clock=asyncio.get_running_loop().time,
        wall_clock=time.time,
        roll=random.random,
        service_prefix=sys.prefix if options.front else "",
        capabilities=LearnedCapabilities(options.state_dir),
        account=AccountDefaults(
            partial(ask_path, user.shell, shell_env), partial(find_umask, user.uid, options.umask)
        ),
    )


def _origin() -> Origin:
    return Origin(machine_id(), os.uname().nodename, boot_id(), pid_namespace())


def _connector() -> Callable[[ConnectionInfo], Channels]:
    """Return the function that connects to kernels.

    ZMQ is imported at the first call of the returned function. A daemon that connects to no kernel
    therefore needs 3 MB less memory.
    """
    context: zmq.asyncio.Context | None = None
    budget: ReadBudget | None = None

    def connect(connection: ConnectionInfo) -> Channels:
        nonlocal context, budget
        from kconnd.system.channels.flow_control import ReadBudget  # noqa: PLC0415  # it imports zmq
        from kconnd.system.channels.kernel_channels import (  # noqa: PLC0415  # it imports zmq
            KernelChannels,
            new_context,
        )

        context, budget = context or new_context(), budget or ReadBudget()
        return KernelChannels(context, connection, budget)

    return connect


def _launchers(options: Options, gate: Gate) -> Launchers:
    """Build the launchers; with a front door, kernels with ``launcher: auto`` are systemd units."""
    folder = Path(live_dir(str(options.runtime_dir)))
    if options.front is None:
        scopes = UserScopes(own_user())
        local = LocalLauncher(folder, scopes)
        return Launchers({LOCAL: local, FORK: ForkLauncher(folder, local, scopes)})
    local = LocalLauncher(folder)
    units = SystemdLauncher(folder, options.front)
    fork = ForkLauncher(folder, units, units)
    return Launchers({SYSTEMD: units, LOCAL: local, FORK: fork}, gate.check_launcher)


async def serve(options: Options) -> None:
    """Run the daemon until a signal or a task ends it.

    The daemon accepts connections and handles signals from the beginning. It then reads the
    profiles and adopts kernels. Because these two steps may take long, requests that depend on them
    wait.
    """
    ending, reloading = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPerCallExecutor())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    gate = Gate(LiveSettings(SETTINGS_FILE) if options.front else None)
    world = build_world(options, gate)
    kernels = Kernels(world, partial(_load, options, world), Pool(world))
    paths = _describe(options)
    site = Site(
        ROUTES,
        partial(Request, kernels, paths, gate),
        await_ready=partial(get_ready, kernels),
    )
    for passed in passed_sockets(os.environ):
        site.listen_on(passed)
    if not site.is_listening:
        site.listen(options.socket)
    paths["socket"] = site.address
    folders = FolderWatcher(
        (*options.system_configs, *options.configs) if options.watch else (),
        is_profile,
        kernels.up_to_date.clear,
    )
    kernelspecs = FolderWatcher(search_path() if options.watch else (), lambda _name: True)
    works: list[Work] = [
        partial(beat_for_ever, kernels),
        partial(repair_for_ever, kernels, site),
        partial(_reload_when, reloading, kernels),
        partial(report_for_ever, kernels, site, options.exit_idle, ending),
        partial(register_at_front_for_ever, kernels, options.front),
        partial(end_with_account, look_up_user(os.geteuid())[0], ending),
        partial(bound_connections_for_ever, gate, site),
        kernels.keep_warm,
        partial(follow_kernelspecs, kernels, kernelspecs, world.paths),
        partial(publish_for_ever, kernels, options.jupyter_dir),
        partial(pick_up_for_ever, kernels, folders, world.paths),
    ]
    work = loop.create_task(_work(options, kernels, site, folders, works))
    try:
        await _until_either(work, ending)
        if options.stop_kernels_on_exit:
            # A kernel must be adopted before it can be stopped.
            await _until_either(work, kernels.adopted)
    finally:
        notify(STOPPING=1)
        work.cancel()
        await asyncio.wait({work})
        if options.stop_kernels_on_exit and kernels.adopted.is_set():
            await kernels.stop_all()
            await publish_once(kernels, options.jupyter_dir)
        await site.close()
        await kernels.detach_all()
        await asyncio.to_thread(kernels.world.store.close)
    log.info("exiting; running kernels keep running")


async def _until_either(work: asyncio.Task[None], event: asyncio.Event) -> None:
    """Wait for an event or for the end of ``work``; raise the exception of a failed ``work``."""
    stop = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    if work.done():
        work.result()


async def _work(
    options: Options, kernels: Kernels, site: Site, folders: FolderWatcher, works: Iterable[Work]
) -> None:
    """Adopt the kernels, then run all ``works`` (the daemon's background tasks) concurrently."""
    if options.watch:
        with contextlib.suppress(StuckError):
            await kernels.world.paths.run(partial(_make_configs, options.configs[0]))
        # The watch begins before the profiles are read, so that no change is missed.
        await watch_folders(folders, kernels.world.paths)
    await kernels.adopt_all()
    log.info("ready: %d kernels, listening on %s", len(kernels.all()), site.address)
    notify(READY=1)
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(keep_going(work))


def _make_configs(folder: Path, begin: BeginStep) -> None:
    begin(f"making the folder {folder}")
    with contextlib.suppress(OSError):  # an existing folder is no error
        folder.mkdir(parents=True, exist_ok=True)


async def keep_going(work: Work, pause: float = RETRY_DELAY_S) -> None:
    """Run a background task, and restart it if it raises; other tasks are not affected."""
    while True:
        try:
            await work()
        except Exception:  # an uncaught exception would end the daemon
            log.exception("a fault in the daemon")
            await asyncio.sleep(pause)  # a permanent fault must not use all processor time
        else:
            return


async def _load(options: Options, world: World) -> LoadedProfiles:
    """Read all profiles; if a file hangs, report it as a fault and read the other files again."""
    user = world.user
    read = partial(
        load_tiers, options.system_configs, options.configs, uid=user.uid, user=user.name
    )
    for _ in range(MAX_STUCK_FILES):
        try:
            return await world.paths.run(lambda begin: read(begin=begin))
        except StuckError as error:
            log.warning("%s", error)
    raise ProfileError(
        f"reading the profiles: {MAX_STUCK_FILES} files or folders of them do not answer",
        hint="the profiles that were read before stay in force; 'mount' lists the file servers",
    )


async def _reload_when(requested: asyncio.Event, kernels: Kernels) -> None:
    while True:
        await requested.wait()
        requested.clear()
        notify(RELOADING=1)
        try:
            log.info("profiles read again: %s", await kernels.reload())
        except ProfileError as error:
            log.error("%s; %s", error, error.hint)
        notify(READY=1)


def _describe(options: Options) -> dict[str, object]:
    return {
        "socket": str(options.socket),
        "runtime_dir": str(options.runtime_dir),
        "state_dir": str(options.state_dir),
        "configs": [str(path) for path in options.configs],
        "home": os.environ.get("HOME", ""),
        "system_configs": [str(path) for path in options.system_configs],
        "kernelspec_dirs": [str(path) for path in search_path()],
        "launchers": [LOCAL, FORK] if options.front is None else [SYSTEMD, LOCAL, FORK],
        "started_at": iso_time(time.time()),
    }


def _make_folders(options: Options) -> None:
    make_folders(options.runtime_dir)
    if private_tmp.is_fallback(str(options.runtime_dir)):
        log.warning(
            "using %s, since another user has taken %s",
            options.runtime_dir,
            options.runtime_dir.with_name(f"kconnd-{os.geteuid()}"),
        )
    ensure_private_dir(options.state_dir)


def _prepare_folders(options: Options, name: str) -> None:
    """Create the folders of the daemon; do not use files of an earlier account of this uid.

    With a front door, the daemon does not start until the front door has put these files aside.
    Without a front door, the daemon itself renames the runtime folder of the earlier account.
    """
    if options.front is not None and name:
        check_account(os.geteuid(), name, AccountFiles())
    _make_folders(options)
    if options.front is None and name:
        while not settle_runtime(options.runtime_dir, options.state_dir, name, _origin()):
            _make_folders(options)


def _read_note(lock: Path) -> str:
    try:
        return read_regular(lock, MAX_OWN_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _lock_state(options: Options) -> None:
    """Take the locks that prevent a second daemon from using the same folders."""
    note = lock_note(os.getpid())
    where = note.partition(f"pid {os.getpid()} ")[2]
    try:
        take_lock(options.state_dir / "daemon.lock", note)
        take_lock(options.runtime_dir / "daemon.lock", note)
    except LockedError as error:
        hint = "kconnd-ctl uses the running daemon; stop it before you start another one"
        holder = _read_note(options.state_dir / "daemon.lock")
        if " of " in holder and where not in holder:  # older versions did not write the host's name
            hint = (
                "the daemon runs on another machine or container with the same state folder and "
                "machine-id: give each its own folder, with --state-dir or XDG_STATE_HOME"
            )
        message = f"starting the daemon: {error.message}"
        if (pid := find_hidden_daemon(options.state_dir)) is not None:
            message, hint = f"{message}; {describe_hidden_daemon(pid)}", CURE.format(pid=pid)
        raise LockedError(message, hint=hint) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``kconnd``; see ``kconnd --help``."""
    try:
        home = os.environ["HOME"] = own_user().home  # Jupyter's paths and ``~`` follow HOME
        options = parse_options(arguments)
        gc.freeze()  # imported objects stay alive, so the garbage collector can skip them
        set_up_logging(options.log_level)
        options = replace(options, umask=os.umask(0o077))
        raise_soft_limits()
        with explain_unwritable("starting the daemon", home):
            _prepare_folders(options, look_up_user(os.geteuid())[0])
            _lock_state(options)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(options))
    except KconndError as error:
        print(f"kconnd: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"kconnd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
