"""Builds a launch plan from a profile: the command and the environment.

All functions are pure; the caller looks up files, users and ports. A kernel inherits what the
owner's client sent of its environment (`kconnd.core.launch.session`). Without a client's session,
it inherits the language and the time zone (`KEPT`) from the daemon and nothing else. The kernel's
environment therefore does not depend on how the daemon was started. The environment never contains
JPY_PARENT_PID: this variable contains a pid, and ipykernel would exit when the process with this
pid exits.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from string import Template

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import KernelFiles, without_warm_suffix
from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.launch.program_search import Program
from kconnd.errors import StartFailedError

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
# The variables that a kernel inherits from the daemon, besides LC_*.
KEPT = ("LANG", "LANGUAGE", "TZ")
PARENT_PID = "JPY_PARENT_PID"
DEFAULT_UMASK = 0o022


@dataclass(frozen=True)
class User:
    """The user who owns a kernel, from the system's user database."""

    name: str
    uid: int
    home: str
    shell: str


@dataclass(frozen=True)
class LaunchPlan:
    """All data that a launcher needs to start a kernel.

    Parameters
    ----------
    name : str
        The kernel's name.
    generation : int
        The number of launches of the kernel, including this one.
    argv, env, cwd, umask
        The attributes of the kernel's process. The environment contains no secret of kconnd, but
        may contain secrets of the user.
    files : KernelFiles
        The paths of the kernel's files; `kconnd.programs.shim` describes the content of each file.
    log_max, log_keep : int
        The largest size of a log file in bytes, and the number of older files to keep.
    launcher : str
        The launcher that the profile names.
    limits : mapping
        The limits that are set: ``memory`` (bytes), ``cpu`` (processors), ``tasks`` and
        ``open_files``.
    preload : tuple of str
        The modules that a zygote must have imported before it forks this kernel.
    asked : int, optional
        The time of the request, in nanoseconds of the monotonic clock. The kernel must see all
        changes on disk that were made before this time. None means the time of the launch.
    """

    name: str
    generation: int
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    files: KernelFiles
    umask: int = DEFAULT_UMASK
    log_max: int = 10 << 20
    log_keep: int = 3
    launcher: str = "auto"
    limits: Mapping[str, float] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    asked: int | None = None


def unavailable_launcher(name: str, launcher: str, available: Iterable[str]) -> StartFailedError:
    """Create the error of a start with a launcher that the daemon does not have."""
    return StartFailedError(
        f"launching {name}: the launcher {launcher} is not available here",
        hint=f"set the profile's 'launcher' to one of: {', '.join(available)}",
    )


def warn_about(
    transport: str, *, encrypted: bool, loopback: bool, ipv6: bool = False
) -> tuple[str, ...]:
    """Return warnings for the user about the chosen transport."""
    if ipv6:
        note = "IPv6: Jupyter clients must be told to use it (zmq.Context().ipv6 = True)"
        warnings = warn_about(transport, encrypted=encrypted, loopback=loopback)
        return (note, *warnings)
    if transport == "ipc" or encrypted:
        return ()
    reader = "every user of this machine" if loopback else "everybody who can reach this address"
    warning = (
        f"plain tcp: {reader} can read the kernel's output (its key signs, it hides nothing); "
        "use 'transport: ipc' or 'encryption: curve' where the kernel supports one"
    )
    return (warning,)


def base_environment(
    user: User, own: Mapping[str, str], runtime: str, path: str = SYSTEM_PATH
) -> dict[str, str]:
    """Build the environment that all kernels of a user have in common.

    Parameters
    ----------
    user : User
        The owner of the kernel.
    own : mapping
        The daemon's environment, from which the language and the time zone are copied.
    runtime : str
        The user's ``XDG_RUNTIME_DIR``, or ``""``.
    path : str
        The user's ``PATH``.
    """
    kept = {key: own[key] for key in own if key in KEPT or key.startswith("LC_")}
    env = kept | {
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": user.shell,
        "PATH": path,
    }
    return env | ({"XDG_RUNTIME_DIR": runtime} if runtime else {})


def expand(values: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Replace ``$NAME`` and ``${NAME}`` by values in ``base``, and ``$$`` by ``$``.

    As in Jupyter, unknown names stay unchanged, and values do not refer to each other.
    """
    return {key: Template(value).safe_substitute(base) for key, value in values.items()}


def without_parent_pid(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without JPY_PARENT_PID, whichever file has set this variable."""
    return {name: value for name, value in env.items() if name != PARENT_PID}


def with_program(
    spec: KernelSpec, env: Mapping[str, str], program: Program | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Replace a program's name by its path; put the program's folder first on PATH.

    With this PATH, ``!pip`` in a cell runs the pip of the interpreter's environment, for example. A
    relative folder is not put on PATH, because its meaning would change with each ``cd``. A program
    that was found on PATH changes nothing. `None` stands for a program that is not known yet. A
    folder of the system stays where it is on PATH, so that it does not hide the user's own
    programs.
    """
    argv = spec.argv
    if program is not None and not program.on_path:
        argv = (program.path, *argv[1:])
    folder, slash, _ = argv[0].rpartition("/")
    path = env.get("PATH", SYSTEM_PATH)
    if slash and folder.startswith("/") and not _is_in_place(folder, path.split(":")):
        path = f"{folder}:{path}"
    return argv, {**env, "PATH": path}


def _is_in_place(folder: str, path: list[str]) -> bool:
    return path[0] == folder or (folder in path and folder in SYSTEM_PATH.split(":"))


# This code runs a module with ZMQ's IPV6 option on. Without the option, a bind to ::1 fails.
# Neither ipykernel 7.4 nor jupyter_client 8.10 sets the option.
_WITH_IPV6 = """\
import runpy, sys, zmq
plain = zmq.Context.__init__
def with_ipv6(self, *args, **kwargs):
    plain(self, *args, **kwargs)
    self.ipv6 = True
zmq.Context.__init__ = with_ipv6
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def enable_ipv6(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Enable IPv6 in ZMQ for a Python kernel that is run by ``-m``."""
    if argv[1:2] != ("-m",):
        return argv
    return (argv[0], "-c", _WITH_IPV6, *argv[2:])


def kernel_variables(name: str, connection_file: str) -> dict[str, str]:
    """Return the environment variables by which code in a kernel identifies the kernel.

    The values are not secret. A warm kernel has no name yet, so it gets no variable with its name.
    """
    variables = {"KCONND_KERNEL": name, "KCONND_CONNECTION_FILE": connection_file}
    if without_warm_suffix(name) != name:
        del variables["KCONND_KERNEL"]
    return variables


def hint_for(output: str) -> str:
    """Return a hint for the user about an error in a kernel's last output; ``""`` for no hint."""
    for sign, hint in _HINTS:
        if match := re.search(sign, output):
            return hint.format(*match.groups())
    return ""


_HINTS = (
    (  # python -m prints the path of the interpreter
        r"(?m)^(/\S+): No module named '?ipykernel\w*",
        "install ipykernel in that interpreter: {0} -m pip install ipykernel",
    ),
    (
        r"No module named '?ipykernel\w*",
        "install ipykernel in that interpreter: python -m pip install ipykernel",
    ),
    (r"No module named '?([\w.]+)", "install {0} in the kernel's interpreter"),
    (
        r"env: \W?(\S+)\\r",
        "the first line of its program ends in CR: give it Unix line ends (sed -i 's/\\r$//')",
    ),
    (r"[Aa]ddress already in use", "another program has one of its ports; see 'ports:'"),
    (r"MemoryError|[Cc]annot allocate memory", "the machine or a limit left no memory"),
    (r"No space left on device", "free some disk space, then start it again"),
    (r"Permission denied", "check the permissions of the path named in the output"),
)


# What to do about a kernel that does not encrypt although it has to.
PLAIN_HINT = (
    "write encryption: none in the profile if every user of the machine may read its output, or "
    "drop access"
)


def describe_wire(connection: ConnectionInfo) -> str:
    """Describe a connection by its transport and its protection."""
    secured = "private by file permissions" if connection.transport == "ipc" else "not encrypted"
    return f"{connection.transport}, {'CURVE' if connection.curve else secured}"
