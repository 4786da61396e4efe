"""Builds a launch plan from a profile, and reads the data that the plan needs.

This module reads files and accounts; `kconnd.core.launch.plan` decides what the plan contains. The
daemon calls it for each launch; it is no part of the daemon, so that ``kconnd-ctl check`` can look
at the same files without one. Each launch reads the kernel spec and the environment file again, so
a changed file applies from the next launch on. A path in a profile can lead to a file server that
hangs. `read_launch_files` therefore reads in a thread with a time limit. Launches of one profile
that are requested during a reading share the next reading.
"""

import contextlib
import os
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from kconnd.core.launch.capabilities import Software
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.containers import RUNTIME_FOLDER, Place
from kconnd.core.launch.envfile import parse_env_file
from kconnd.core.launch.kernel_files import KernelFiles
from kconnd.core.launch.kernelspec_file import KernelSpec, fill_in
from kconnd.core.launch.login_command import refuse_setup, refuse_shell, through_shell
from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook
from kconnd.core.launch.plan import (
    LaunchPlan,
    User,
    base_environment,
    enable_ipv6,
    expand,
    kernel_variables,
    with_program,
    without_parent_pid,
)
from kconnd.core.launch.program_search import Program
from kconnd.core.launch.session import Inherited, choose_umask, inherit
from kconnd.core.launch.warm import FOLDER_FILES
from kconnd.core.profile.model import Profile, follows_notebook
from kconnd.core.profile.values import NOTEBOOK_FOLDER
from kconnd.errors import StartFailedError
from kconnd.system.account_defaults import AccountDefaults
from kconnd.system.files.regular import read_regular
from kconnd.system.hung_calls import BeginStep, PathSteps, StuckError
from kconnd.system.kernel_software import SoftwareReader
from kconnd.system.kernelspecs import KernelspecIndex, python_spec
from kconnd.system.program_choice import ProgramChooser, ProgramHints

RESERVED_DESCRIPTORS = 160  # for the allowed connections of a user, and for files
SOFTWARE_VARIABLES = ("PYTHONPATH", "LD_LIBRARY_PATH")  # they can select other software
# execve(2) limits arguments and environment together to a few times this size.
MAX_ENV_FILE_BYTES = 256 << 10


class LaunchContext(Protocol):
    """The part of `kconnd.daemon.context.World` that the look-ups for a launch need."""

    @property
    def user(self) -> User:
        """The kernels' owner."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The daemon's environment."""
        ...

    @property
    def kernelspecs(self) -> KernelspecIndex:
        """The folders of installed kernel specs."""
        ...

    @property
    def software(self) -> SoftwareReader:
        """The object that reads facts about a kernel's software."""
        ...

    @property
    def paths(self) -> PathSteps:
        """The object that uses threads to access paths that may hang."""
        ...

    @property
    def account(self) -> AccountDefaults:
        """What a kernel inherits if no client of the owner has sent its session."""
        ...


def check_descriptors(usage: tuple[int, int]) -> None:
    """Refuse a launch that would leave too few file descriptors for the other kernels.

    Raises
    ------
    StartFailedError
        If too few descriptors would be left.
    """
    used, limit = usage
    if limit - used < RESERVED_DESCRIPTORS:
        raise StartFailedError(
            f"the daemon uses {used} of its {limit} file descriptors, and a kernel needs several",
            hint="stop kernels; or raise the limit (ulimit -n, LimitNOFILE=) and restart the "
            "daemon; kernels keep running",
        )


@dataclass(frozen=True)
class LaunchFiles:
    """The content of the files that a profile names, read for one launch.

    Parameters
    ----------
    spec : KernelSpec
        The kernel spec with the command.
    program : Program
        The program, which the command names by a path or by a name.
    variables : mapping
        The content of the profile's ``env_file``.
    cwd : str
        The working directory, with ``~`` expanded.
    notebook : Notebook
        The notebook of the front end for which the kernel is started; it has no folder unless the
        kernel starts there.
    is_plain : bool
        Whether the working directory exists, and has no startup file of an interpreter. A warm
        kernel, which was started in another directory, could enter it and be like a new kernel.
    software : Software
        The known facts about the kernel's software.
    inherited : Inherited
        What the kernel inherits from the session of its owner.
    place : Place
        The folder of the kernel's connection file and sockets.
    """

    spec: KernelSpec
    program: Program
    variables: Mapping[str, str]
    cwd: str
    software: Software
    inherited: Inherited
    notebook: Notebook = NO_NOTEBOOK
    is_plain: bool = True
    place: Place = RUNTIME_FOLDER


async def read_launch_files(
    context: LaunchContext,
    profile: Profile,
    hints: ProgramHints | None = None,
    notebook: Notebook = NO_NOTEBOOK,
) -> LaunchFiles:
    """Read the files that a profile names, and access the paths that the process will use.

    Parameters
    ----------
    hints : ProgramHints, optional
        What is known of the owner's client: what the kernel inherits from it, and by what a program
        is found that is named without a path.
    notebook : Notebook
        The notebook of the front end for which the kernel is started.

    Raises
    ------
    StartFailedError
        If a file is missing or unreadable, or if a disk or file server does not answer.
    """
    hints, inherited = await find_inherited(context, profile, hints or ProgramHints())
    work = partial(read_in_steps, context, profile, hints, inherited, notebook=notebook)
    # The instances of a profile share one object, which `work` keeps alive. A profile has no hash.
    variables = None if inherited.variables is None else frozenset(inherited.variables.items())
    about = (replace(hints, session=None), replace(inherited, variables=None), variables)
    key = ("launch files", id(profile), notebook, *about)
    try:
        return await context.paths.run_shared(key, work)
    except StuckError as error:
        raise StartFailedError(
            f"{error.step}: the disk or file server does not answer",
            hint="once it answers, start it again; or change the path in the profile",
        ) from error


async def find_inherited(
    context: LaunchContext, profile: Profile, hints: ProgramHints
) -> tuple[ProgramHints, Inherited]:
    """Find out what a kernel inherits; return the completed hints, too."""
    session = hints.session
    has_path = session is not None and bool(session.path)
    path = "" if has_path else await context.account.path()
    umask = choose_umask(session, profile.umask) or context.account.umask()
    inherited = inherit(session, profile.pass_env, path, umask)
    hints = replace(hints, path=inherited.path, path_source=inherited.path_source)
    if session is not None:
        hints = replace(hints, prefix=session.prefix)
    return hints, inherited


def read_in_steps(
    context: LaunchContext,
    profile: Profile,
    hints: ProgramHints,
    inherited: Inherited,
    begin: BeginStep,
    notebook: Notebook = NO_NOTEBOOK,
) -> LaunchFiles:
    """Read the files that a profile names; call ``begin`` before each step, which may hang.

    Raises
    ------
    StartFailedError
        If a file is missing or unreadable.
    StuckError
        If a disk or file server does not answer.
    """
    check_login_shell(context.user, profile)
    begin(f"finding the home folder of {profile.user or 'its user'}")
    chooser = ProgramChooser(profile, hints, begin)
    spec = find_spec(profile, context.kernelspecs, begin, chooser.find_prefix)
    if not follows_notebook(profile):
        notebook = replace(notebook, folder="")
    cwd = notebook.folder or expand_home(written_folder(profile), "cwd")
    if Path(spec.argv[0]).is_absolute():
        _touch(begin, "looking for its program", spec.argv[0])
    _touch(begin, "looking for its folder", cwd)
    variables = read_env_file(profile, begin)
    _, env = build_command(context, profile, spec, None, variables, inherited, notebook)
    program = chooser.choose(spec, cwd, env["PATH"])
    argv, env = build_command(context, profile, spec, program, variables, inherited, notebook)
    settings = (profile.shell, *profile.setup, *map(env.get, SOFTWARE_VARIABLES))
    software = context.software.read(spec, argv, env, settings, begin)
    is_plain = not notebook.folder or _is_plain(notebook.folder)
    return LaunchFiles(spec, program, variables, cwd, software, inherited, notebook, is_plain)


def written_folder(profile: Profile) -> str:
    """Return the working directory of a kernel without a notebook."""
    return "~" if profile.cwd in {"", NOTEBOOK_FOLDER} else profile.cwd


def _is_plain(folder: str) -> bool:
    """Return whether a folder exists and has no startup file that an interpreter reads in it."""
    files = (Path(folder) / name for name in FOLDER_FILES)
    return os.access(folder, os.X_OK) and not any(file.exists() for file in files)


def check_login_shell(user: User, profile: Profile) -> None:
    """Refuse ``shell: login`` for a user whose login shell cannot run a kernel.

    Raises
    ------
    StartFailedError
        If the login shell cannot run a kernel, or the lines of ``setup``.
    """
    if profile.shell != "login":
        return
    if trouble := refuse_shell(user.shell):
        raise StartFailedError(
            f"running its login shell: {trouble}",
            hint=f"remove 'shell: login' from the profile, or change the shell of {user.name}: "
            "chsh -s /bin/bash",
        )
    if trouble := refuse_setup(user.shell, profile.setup):
        raise StartFailedError(
            f"running its setup: {trouble}",
            hint="put the loop into a file, and write 'source FILE' in 'setup'",
        )


def build_command(
    context: LaunchContext,
    profile: Profile,
    spec: KernelSpec,
    program: Program | None,
    variables: Mapping[str, str],
    inherited: Inherited,
    notebook: Notebook,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Build a kernel's command, which still contains ``{connection_file}``, and its environment."""
    own, runtime = context.environment, context.environment.get("XDG_RUNTIME_DIR", "")
    if inherited.variables is not None:
        own = {}  # a variable that the client does not have is not set
    base = base_environment(context.user, own, runtime, inherited.path)
    argv, env = with_program(
        spec, {**base, **notebook.variables(), **(inherited.variables or {})}, program
    )
    env |= expand(spec.env, env)
    env |= variables
    return argv, without_parent_pid(env | expand(profile.env, env))


def command_of(
    context: LaunchContext, profile: Profile, files: LaunchFiles
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Build the command of a launch and its environment; see `build_command`."""
    return build_command(
        context,
        profile,
        files.spec,
        files.program,
        files.variables,
        files.inherited,
        files.notebook,
    )


def _touch(begin: BeginStep, action: str, path: str) -> None:
    """Call stat(2) on a path: a dead file server then blocks this thread instead of the kernel."""
    begin(f"{action} {path}")
    with contextlib.suppress(OSError, ValueError):  # the launch itself reports this error
        os.stat(path)  # noqa: PTH116  # for its side effect


def find_spec(
    profile: Profile,
    kernelspecs: KernelspecIndex,
    begin: BeginStep,
    find_prefix: Callable[[], str],
) -> KernelSpec:
    """Find the kernel spec of a profile, or build a spec from the profile's command.

    Parameters
    ----------
    find_prefix : callable
        Returns the environment of the owner's Jupyter, or ``""``.

    Raises
    ------
    StartFailedError
        If the profile names a kernel spec that is not installed.
    StuckError
        If a disk or file server does not answer.
    """
    if profile.kernel:
        return kernelspecs.read(profile.kernel, begin, find_prefix)
    if profile.python:
        return python_spec(expand_home(profile.python, "python"), begin)
    argv = (expand_home(profile.argv[0], "argv"), *map(os.path.expanduser, profile.argv[1:]))
    return KernelSpec(name=profile.name, argv=argv, display_name=profile.name)


def read_env_file(profile: Profile, begin: BeginStep) -> Mapping[str, str]:
    """Read the variables of a profile's ``env_file``.

    Raises
    ------
    StartFailedError
        If the file cannot be read, or has a line that is not an assignment.
    """
    if not profile.env_file:
        return {}
    path = Path(expand_home(profile.env_file, "env_file"))
    begin(f"reading its env_file {path}")
    try:
        return parse_env_file(read_regular(path, MAX_ENV_FILE_BYTES).decode())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StartFailedError(
            f"reading its env_file {path}: {why}",
            hint="make it a readable file of KEY=VALUE lines, or remove 'env_file'",
        ) from error


def expand_home(path: str, key: str) -> str:
    """Expand ``~`` or ``~NAME`` in a path."""
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise StartFailedError(
            f"finding its {key} {path}: there is no such user",
            hint=f"change {key!r} in the profile",
        ) from error


def make_plan(
    context: LaunchContext,
    kernel_files: KernelFiles,
    generation: int,
    profile: Profile,
    files: LaunchFiles,
    connection: ConnectionInfo,
) -> LaunchPlan:
    """Build the plan for one launch."""
    name, file = kernel_files.name, kernel_files.connection_file
    if files.place.inside:
        file = f"{files.place.inside}/{posixpath.basename(file)}"
    argv, env = command_of(context, profile, files)
    env |= kernel_variables(name, file)
    argv = fill_in(argv, {"connection_file": file})
    if connection.transport == "tcp" and ":" in connection.ip:
        argv = enable_ipv6(argv)
    if profile.shell == "login":
        argv = through_shell(argv, context.user.shell, profile.setup)
    return LaunchPlan(
        name=name,
        generation=generation,
        argv=argv,
        env=env,
        cwd=files.cwd,
        umask=files.inherited.umask.value,
        files=kernel_files,
        log_max=profile.log.max_size,
        log_keep=profile.log.keep,
        launcher="fork" if profile.launcher == "auto" and profile.preload else profile.launcher,
        preload=profile.preload,
        limits=profile.limits.model_dump(exclude_none=True),
    )
