"""Looks at what a start of a profile would look at, without starting anything.

`find_problems` returns the reasons for which a start would fail now. The files are read by the
functions of a start (`kconnd.system.launch_files`, `kconnd.system.files.program_faults`), so both
have the same reasons and the same words. No program is run, so a fault that only the program itself
can notice is not found. Each look concerns one key of the profile. If an earlier look has failed, a
look that depends on it is skipped.

Root looks at no path that another user can change (`is_roots_path`): with root's rights, such a
path could lead anywhere.
"""

import grp
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kconnd.core.launch.kernelspec_file import python_module
from kconnd.core.launch.plan import SYSTEM_PATH
from kconnd.core.launch.session import Inherited
from kconnd.core.profile.model import Profile, instantiate
from kconnd.core.profile.problems import KeyPath, Problem, format_value
from kconnd.errors import StartFailedError
from kconnd.system.files.program_faults import (
    describe_failed_exec,
    explain_failed_chdir,
    foresee_chdir,
    foresee_exec,
)
from kconnd.system.hung_calls import BeginStep
from kconnd.system.launch_files import (
    LaunchContext,
    LaunchFiles,
    check_login_shell,
    command_of,
    expand_home,
    find_spec,
    read_env_file,
    read_in_steps,
    written_folder,
)
from kconnd.system.packages import PYTHON, may_import, package_folders
from kconnd.system.program_choice import ProgramChooser, ProgramHints

MAX_LINKS = 40  # as in Linux
INSTANCE = "{instance}"
PYTHON_HOME = "PYTHONHOME"  # a variable that changes where Python looks for modules


@dataclass(frozen=True)
class Unseen:
    """A path that root did not look at, because another user can change it."""

    key: str
    path: str


def find_problems(
    context: LaunchContext,
    profile: Profile,
    hints: ProgramHints,
    inherited: Inherited,
    begin: BeginStep,
) -> tuple[list[Problem], list[Unseen]]:
    """Return the problems that a start of a profile would meet now.

    Parameters
    ----------
    context : LaunchContext
        The user, the environment and the kernel specs of the daemon.
    profile : Profile
        A profile without faults.
    hints, inherited : ProgramHints, Inherited
        What a kernel inherits from the session in which it is started; see
        `kconnd.system.launch_files.find_inherited`.
    begin : callable
        Called with a description of each step when the step begins.

    Returns
    -------
    tuple
        The problems, and the paths that were not looked at.
    """
    problems = list(_look_at_accounts(profile, begin))
    if profile.user not in {"", context.user.name}:
        return problems, []  # the paths are those of another user
    looks = _Looks(context, profile, hints, inherited, begin)
    return [*problems, *looks.problems()], looks.unseen


def _look_at_accounts(profile: Profile, begin: BeginStep) -> Iterator[Problem]:
    """Look up the users and groups that a profile names."""
    names: list[tuple[KeyPath, str]] = [(("user",), profile.user)] if profile.user else []
    for right, members in profile.access:
        names += [(("access", right, index), name) for index, name in enumerate(members)]
    for path, name in names:
        begin(f"looking up {name}")
        kind, find = ("group", grp.getgrnam) if name.startswith("@") else ("user", pwd.getpwnam)
        try:
            find(name.removeprefix("@"))
        except KeyError:
            shown = format_value(name.removeprefix("@"))
            yield Problem(path, f"there is no {kind} {shown} on this machine", _account_hint(kind))


def _account_hint(kind: str) -> str:
    database = "passwd" if kind == "user" else "group"
    return f"'getent {database}' lists the {kind}s of this machine"


class _Looks:
    """The looks at one profile, in the order of a start."""

    def __init__(
        self,
        context: LaunchContext,
        profile: Profile,
        hints: ProgramHints,
        inherited: Inherited,
        begin: BeginStep,
    ) -> None:
        self._hints, self._inherited = hints, inherited
        self.unseen: list[Unseen] = []
        self._context, self._begin = context, begin
        self._folder = ""  # the working directory, as soon as it is known
        # The folder of a notebook's kernel is known when the notebook is opened.
        self._has_fixed_folder = profile.instance == "shared" or INSTANCE not in profile.cwd
        self._profile = profile = instantiate(profile, "")
        self._key = next(key for key in ("kernel", "python", "argv") if getattr(profile, key))

    def problems(self) -> Iterator[Problem]:
        """Yield the problem of each look that fails."""
        profile = self._profile
        failures = [
            *self._attempt("shell", "", self._check_shell),
            *self._attempt("cwd", written_folder(profile), self._expand_folder),
            *self._attempt("env_file", profile.env_file, self._read_env_file),
            *self._attempt(self._key, self._program_path(), self._read_spec),
        ]
        yield from self._look_at_folder()
        yield from failures
        if failures or self.unseen:
            return
        try:
            files = read_in_steps(
                self._context, self._profile, self._hints, self._inherited, self._begin
            )
        except StartFailedError as error:
            yield Problem((self._key,), error.message, error.hint)
            return
        yield from self._look_at_command(files)

    def _program_path(self) -> str:
        """Return the path that ``python`` or ``argv`` names; ``""`` if there is none."""
        return self._profile.python or next(iter(self._profile.argv), "")

    def _attempt(self, key: str, path: str, read: Callable[[], object]) -> Iterator[Problem]:
        """Run a look-up of the start, and yield its error."""
        if path and not self._may_look(key, path):
            return
        try:
            read()
        except StartFailedError as error:
            yield Problem((key,), error.message, error.hint)

    def _check_shell(self) -> None:
        check_login_shell(self._context.user, self._profile)

    def _expand_folder(self) -> None:
        self._folder = expand_home(written_folder(self._profile), "cwd")

    def _read_env_file(self) -> object:
        return read_env_file(self._profile, self._begin)

    def _read_spec(self) -> object:
        chooser = ProgramChooser(self._profile, self._hints, self._begin)
        return find_spec(self._profile, self._context.kernelspecs, self._begin, chooser.find_prefix)

    def _may_look(self, key: str, path: str) -> bool:
        """Return whether this process may follow a path; note it if not."""
        self._begin(f"looking at {path}")
        expanded = os.path.expanduser(path)  # noqa: PTH111  # an unknown user is no error here
        if os.geteuid() != 0 or "/" not in path or is_roots_path(expanded):
            return True
        self.unseen.append(Unseen(key, path))
        return False

    def _look_at_folder(self) -> Iterator[Problem]:
        if not self._folder or not self._has_fixed_folder:
            return
        self._begin(f"looking for its folder {self._folder}")
        if number := foresee_chdir(self._folder):
            fault = explain_failed_chdir(self._folder, number)
            yield Problem(("cwd",), fault.reason, fault.hint)

    def _look_at_command(self, files: LaunchFiles) -> Iterator[Problem]:
        profile, context = self._profile, self._context
        argv, env = command_of(context, profile, files)
        if not any("{connection_file}" in word for word in argv[1:]):
            yield Problem(
                (self._key,),
                f"argv of the kernel spec {files.spec.resource_dir} holds no {{connection_file}}, "
                "so the kernel does not learn where to listen",
                'add "{connection_file}" to argv in its kernel.json, after the kernel\'s option',
            )
        if profile.shell == "login":
            yield from self._look_at_program("shell", context.user.shell, files.cwd, env)
            if not argv[0].startswith("/"):
                return  # the shell's own PATH decides
        missing = list(self._look_at_program(self._key, argv[0], files.cwd, env))
        yield from missing
        if not missing and profile.shell == "none":
            yield from self._look_at_modules(argv, env, files.cwd)

    def _look_at_program(
        self, key: str, word: str, cwd: str, env: Mapping[str, str]
    ) -> Iterator[Problem]:
        if not self._may_look(key, word):
            return
        self._begin(f"looking for its program {word}")
        search_path = env.get("PATH", SYSTEM_PATH)
        if number := foresee_exec(word, cwd, search_path):
            fault = describe_failed_exec(word, cwd, search_path, number)
            yield Problem((key,), fault.reason, fault.hint)

    def _look_at_modules(
        self, argv: tuple[str, ...], env: Mapping[str, str], cwd: str
    ) -> Iterator[Problem]:
        """Look for the module that a Python interpreter runs, and for preloaded modules."""
        program = shutil.which(argv[0], path=env.get("PATH", SYSTEM_PATH)) or argv[0]
        command = python_module(argv)
        if command is None or PYTHON_HOME in env or not _is_python(program):
            return
        folders = package_folders(program, env, self._begin)
        modules = [
            (self._key, command.module),
            *(("preload", name) for name in self._profile.preload),
        ]
        for key, module in modules:
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or may_import(top, [cwd, *folders], self._begin):
                continue
            name = "ipykernel" if top == "ipykernel_launcher" else top
            effect = ", so kernels start without preloading" if key == "preload" else ""
            yield Problem(
                (key,),
                f"the module {top} is not installed for {argv[0]}{effect}",
                f"install it: {argv[0]} -m pip install {name}",
            )


def _is_python(program: str) -> bool:
    """Return whether a path leads to a Python interpreter, and not to a script of this name."""
    if not PYTHON.fullmatch(Path(program).name):
        return False
    try:
        with open(program, "rb") as stream:  # noqa: PTH123  # the program was just examined
            return stream.read(4) == b"\x7fELF"
    except OSError:
        return False


def is_roots_path(path: str) -> bool:
    """Return whether only root can change which file a path leads to, and follow it by `lstat`.

    A missing component ends the walk: nobody but root can create it.
    """
    pending, folder, links = [part for part in path.split("/") if part][::-1], "/", 0
    while pending:
        part = pending.pop()
        if part == "..":
            folder = str(Path(folder).parent)
            continue
        current = f"{folder.rstrip('/')}/{part}"
        try:
            status = os.lstat(current)  # one system call
            target = os.readlink(current) if stat.S_ISLNK(status.st_mode) else None  # noqa: PTH115  # text
        except OSError:
            return True
        if status.st_uid != 0 or (target is None and _is_open_to_others(status)):
            return False
        if target is None:
            folder = current
            continue
        links += 1
        if links > MAX_LINKS:
            return True
        folder = "/" if target.startswith("/") else folder
        pending += [part for part in target.split("/") if part][::-1]
    return True


def _is_open_to_others(status: os.stat_result) -> bool:
    """Return whether users other than root can replace the entries of a folder, or write a file."""
    group = bool(status.st_mode & stat.S_IWGRP) and status.st_gid != 0
    is_open = group or bool(status.st_mode & stat.S_IWOTH)
    return is_open and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX)
