"""Reads profiles as the daemon does, and looks at what their starts would look at.

`review` is the work of ``kconnd-ctl check`` and of the part of ``kconnd-ctl doctor`` about
profiles. It changes nothing and starts no kernel. A fault means that the daemon refuses the
profile. A warning means that a start would fail now; the files of the machine can change, so a
warning can come and go without a change of the profile.

A path can be on a file server that hangs. Each profile is therefore looked at in a thread, with the
time limits of the daemon (`kconnd.system.hung_calls`).
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kconnd.core.launch.plan import User, unavailable_launcher
from kconnd.core.launch.session import Session
from kconnd.core.paths import SETTINGS_FILE, SYSTEM_CONFIGS_DIR
from kconnd.core.profile.model import Profile
from kconnd.core.profile.problems import Problem
from kconnd.system.account_defaults import AccountDefaults
from kconnd.system.hung_calls import BeginStep, PathSteps, StuckError
from kconnd.system.kernel_software import SoftwareReader
from kconnd.system.kernelspecs import KernelspecIndex
from kconnd.system.launch_files import find_inherited
from kconnd.system.ledger import fixed_ports_taken, is_free, is_own_address
from kconnd.system.machine import own_user
from kconnd.system.profiles.faults import Fault
from kconnd.system.profiles.launch_looks import Unseen, find_problems
from kconnd.system.profiles.loader import LoadedProfiles, SourcedProfile, load_profiles
from kconnd.system.profiles.overlooked import find_misread_numbers, find_overlooked
from kconnd.system.profiles.settings_file import read_settings
from kconnd.system.profiles.source_text import SourceText
from kconnd.system.profiles.tiers import load_tiers
from kconnd.system.program_choice import ProgramHints
from kconnd.system.user_scope import describe_missing_limits

MAX_STUCK_FILES = 16
STUCK_HINT = "check again once it answers; 'mount' lists the file servers"

SYSTEMD = "systemd"  # the launcher of a daemon with a front door
LOCAL_LAUNCHERS = ("local", "fork")  # those of a daemon without a front door

FindSession = Callable[[tuple[str, ...]], Session | None]


def no_session(_names: tuple[str, ...]) -> None:
    """Return no session; kernels then have the PATH of the system."""


@dataclass(frozen=True)
class DaemonFacts:
    """The facts about a daemon that decide what it reads and what a start would meet.

    Parameters
    ----------
    system, own : sequence of str
        The folders of the machine's and of the user's own profiles.
    kernelspecs : sequence of str, optional
        The folders of kernel specs; None for Jupyter's search path.
    home : str
        The daemon's home folder, which ``~`` means; ``""`` for the home folder of this process.
    launchers : sequence of str
        The launchers that the daemon has.
    live : collection of str, optional
        The names of the kernels that have a process; None if they are not known.
    pid : int, optional
        The pid of the daemon; None if no daemon answers.
    """

    system: Sequence[str]
    own: Sequence[str]
    kernelspecs: Sequence[str] | None = None
    home: str = ""
    launchers: Sequence[str] = (*LOCAL_LAUNCHERS, SYSTEMD)
    live: Collection[str] | None = None
    pid: int | None = None


@dataclass(frozen=True)
class Review:
    """The result of a review.

    Parameters
    ----------
    loaded : LoadedProfiles
        The profiles and their faults.
    warnings : tuple of Fault
        The reasons for which starts would fail now.
    missing : tuple of str
        Those of the paths or, without paths, of the daemon's folders that do not exist. If a path
        does not exist, nothing is read.
    unseen : tuple of str
        One sentence for each path that was not looked at.
    lines : mapping
        The line of a file in which a fault or a warning is, by file and line number.
    """

    loaded: LoadedProfiles
    warnings: tuple[Fault, ...] = ()
    missing: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    lines: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReviewContext:
    """The daemon's values that the looks need; see `kconnd.system.launch_files.LaunchContext`."""

    user: User
    kernelspecs: KernelspecIndex
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    software: SoftwareReader = field(default_factory=SoftwareReader)
    account: AccountDefaults = field(default_factory=AccountDefaults)
    paths: PathSteps = field(default_factory=PathSteps)


def review(
    daemon: DaemonFacts, paths: Sequence[str] = (), find_session: FindSession = no_session
) -> Review:
    """Read the profiles below some paths or, without paths, those of a daemon's folders.

    Parameters
    ----------
    folders : DaemonFacts
        The facts about the daemon.
    paths : sequence of str
        Files and folders to read instead of the daemon's folders.
    find_session : callable
        A function that takes the names in ``pass_env``, and returns the session from which kernels
        inherit.
    """
    with _home(daemon.home):
        return asyncio.run(_review(daemon, paths, find_session))


@contextlib.contextmanager
def _home(folder: str) -> Iterator[None]:
    """Set HOME, by which Python expands ``~``, to a folder for a while."""
    before = os.environ.get("HOME")
    if folder:
        os.environ["HOME"] = folder
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("HOME", None)
        else:
            os.environ["HOME"] = before


async def _review(daemon: DaemonFacts, paths: Sequence[str], find_session: FindSession) -> Review:
    user = own_user()
    roots = daemon.kernelspecs
    index = KernelspecIndex(None if roots is None else [Path(root) for root in roots])
    context = ReviewContext(user, index)
    missing = await _find_missing(context, paths or [*daemon.system, *daemon.own])
    if paths and missing:
        return Review(LoadedProfiles({}, ()), missing=missing)
    loaded = await _load(context, daemon, paths)
    warnings: list[Fault] = []
    unseen: list[str] = []
    for sourced in loaded.profiles.values():
        if os.geteuid() == 0 and _is_for_all_users(sourced):
            unseen.append(f"{sourced.profile.name} ({sourced.file}) is for other users than root")
            continue
        session = find_session(sourced.profile.pass_env)
        problems, unseen_paths = await _look_at(context, daemon, sourced, session)
        warnings += problems
        unseen += [_describe_unseen(sourced, path) for path in unseen_paths]
    for folder in paths or [*daemon.system, *daemon.own]:
        with contextlib.suppress(StuckError):  # the loader has reported it
            warnings += await context.paths.run(partial(find_overlooked, folder))
    lines = await _read_lines(context, [*loaded.faults, *warnings])
    return Review(loaded, tuple(sorted(warnings)), missing, tuple(unseen), lines)


async def _find_missing(context: ReviewContext, paths: Sequence[str]) -> tuple[str, ...]:
    """Return the paths that do not exist; a path that hangs counts as existing."""

    def exists(path: str, begin: BeginStep) -> bool:
        begin(f"reading {path}")  # the step of the loader, which reports a path that hangs
        return Path(path).exists()

    missing = []
    for path in paths:
        with contextlib.suppress(StuckError):
            if not await context.paths.run(partial(exists, path)):
                missing.append(path)
    return tuple(missing)


async def _load(
    context: ReviewContext, daemon: DaemonFacts, paths: Sequence[str]
) -> LoadedProfiles:
    """Load the profiles; a file that hangs becomes a fault, and the others are read again."""
    user = context.user

    def load(begin: BeginStep) -> LoadedProfiles:
        if paths:
            return load_profiles(paths, begin=begin)
        loaded = load_tiers(daemon.system, daemon.own, uid=user.uid, user=user.name, begin=begin)
        return replace(loaded, faults=(*read_settings(SETTINGS_FILE)[1], *loaded.faults))

    for _ in range(MAX_STUCK_FILES):
        try:
            return await context.paths.run(load)
        except StuckError:
            continue  # the next load reports it as a fault
    first = next(iter([*paths, *daemon.own]))
    fault = Fault(first, 1, 1, "", f"{MAX_STUCK_FILES} files or folders do not answer", STUCK_HINT)
    return LoadedProfiles({}, (fault,))


async def _look_at(
    context: ReviewContext, daemon: DaemonFacts, sourced: SourcedProfile, session: Session | None
) -> tuple[list[Fault], Iterable[Unseen]]:
    """Look at one profile, and place the problems in its file."""
    hints, inherited = await find_inherited(context, sourced.profile, ProgramHints(session=session))

    def look(begin: BeginStep) -> tuple[list[Fault], list[Unseen]]:
        problems, unseen = find_problems(context, sourced.profile, hints, inherited, begin)
        problems += _find_obstacles(daemon, sourced.profile, begin)
        problems += _find_missing_limits(context.user, daemon, sourced.profile)
        source = SourceText(begin)
        problems += find_misread_numbers(source.values(sourced))
        return [source.fault(sourced, problem) for problem in problems], unseen

    try:
        return await context.paths.run(look)
    except StuckError as error:
        problem = Problem((), str(error), STUCK_HINT)
        return [_unplaced(sourced, problem)], ()


def _find_obstacles(daemon: DaemonFacts, profile: Profile, begin: BeginStep) -> Iterator[Problem]:
    """Yield the reasons outside of files for which a start would fail now."""
    if profile.launcher not in {"auto", *daemon.launchers}:
        error = unavailable_launcher(profile.name, profile.launcher, daemon.launchers)
        yield Problem(("launcher",), error.message, error.hint)
    begin(f"looking at the address {profile.ip}")
    if not is_own_address(profile.ip):
        hint = "write 127.0.0.1, or an address that 'ip address' lists"
        yield Problem(("ip",), f"{profile.ip} is not an address of this machine", hint)
    elif _has_taken_ports(daemon, profile):
        taken = fixed_ports_taken(profile.ip, profile.ports.fixed)
        yield Problem(("ports",), taken.message, taken.hint)


def _find_missing_limits(user: User, daemon: DaemonFacts, profile: Profile) -> Iterator[Problem]:
    """Yield the limits that a kernel would not have; the front door's systemd enforces all."""
    if SYSTEMD in daemon.launchers or profile.user not in {"", user.name}:
        return
    limits = profile.limits.model_dump(exclude_none=True)
    if message := describe_missing_limits(user, limits, daemon.pid):
        hint = "the kernel starts without them; only the machine's service enforces them for all"
        yield Problem(("limits",), message, hint)


def _has_taken_ports(daemon: DaemonFacts, profile: Profile) -> bool:
    """Return whether another program uses fixed ports; False if the kernel itself may use them."""
    if daemon.live is None or profile.name in daemon.live:
        return False
    return not all(is_free(profile.ip, port) for port in profile.ports.fixed)


def _unplaced(sourced: SourcedProfile, problem: Problem) -> Fault:
    name = sourced.profile.name
    return Fault(sourced.file, sourced.line, 1, "", problem.message, problem.hint, name)


def _is_for_all_users(sourced: SourcedProfile) -> bool:
    """Return whether a profile is one of the machine, whose kernels each user starts."""
    return Path(SYSTEM_CONFIGS_DIR) in Path(sourced.file).absolute().parents


def _describe_unseen(sourced: SourcedProfile, unseen: Unseen) -> str:
    return f"{unseen.key} of {sourced.profile.name}: another user can change {unseen.path}"


async def _read_lines(context: ReviewContext, faults: list[Fault]) -> dict[tuple[str, int], str]:
    """Read the lines of faults; a file that hangs has none."""
    lines: dict[tuple[str, int], str] = {}
    for file in dict.fromkeys(fault.file for fault in faults):
        numbers = {fault.line for fault in faults if fault.file == file}
        try:
            lines |= await context.paths.run(partial(_lines_of, file, numbers))
        except StuckError:
            continue
    return lines


def _lines_of(file: str, numbers: set[int], begin: BeginStep) -> dict[tuple[str, int], str]:
    source = SourceText(begin)
    return {(file, number): source.line(file, number) for number in numbers}
