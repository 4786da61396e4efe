"""Defines all paths of a kernel's files; no other module builds such a path.

A kernel has files in two folders. Files in the state folder outlive a reboot; files in the runtime
folder do not:

    STATE/kernels/NAME/record.json      the record of the kernel
    STATE/kernels/NAME/log              the kernel's output; the suffixes of older logs are .1, .2 …
    STATE/kernels/NAME/exit.json        the exit status, written by the shim
    STATE/kernels/NAME/lock             locked by the shim while the kernel lives
    RUNTIME/kernel-NAME.json            the connection file
    RUNTIME/ipc/NAME-1 to NAME-5        the kernel's sockets, with ipc
    RUNTIME/live/NAME.shim.json         the facts: pids and start times, written by the shim
    RUNTIME/live/NAME.exit.json         used instead of exit.json if the disk of STATE is full
    RUNTIME/live/NAME.plan              the launch plan, for a shim that systemd starts
    RUNTIME/live/NAME.connection        a link to the kernel's own copy of the connection file, if
                                        the kernel does not see the runtime folder
    RUNTIME/live/NAME.lock              the lock of versions before 0.1.0

A warm kernel has the temporary name PROFILE~XXXXXXXX, with eight random hexadecimal digits; ``~``
occurs in no kernel's name. The shim of a warm kernel writes through a symbolic link. Before the
hand-over, the link points to the folder of the warm kernel. After the hand-over, the link points to
the folder of the named kernel:

    STATE/warm/PROFILE~XXXXXXXX         the link, used instead of STATE/kernels/NAME
    STATE/warm/PROFILE~XXXXXXXX.d       the folder, removed after the hand-over
    STATE/warm/PROFILE~XXXXXXXX.new     the new link, before it is renamed over the old link
    RUNTIME/live/PROFILE~XXXXXXXX.connection.json       the connection file before the hand-over
"""

import hashlib
import re
from dataclasses import dataclass

from kconnd.errors import UsageError

MAX_SOCKET_PATH_BYTES = 107  # the limit of unix(7), without the final NUL
IPC_PORTS = (1, 2, 3, 4, 5)  # the suffixes of the sockets' paths
RECORD = "record.json"
LOCK = "lock"
_KERNELS = "kernels"
_WARM = "warm"
_FACTS = ".shim.json"
_EXIT = ".exit.json"
_OLD_LOCK = ".lock"
_WARM_SUFFIX = r"~[0-9a-f]{8}"
_WARM_END = re.compile(rf"{_WARM_SUFFIX}$")
_WARM_FILE = re.compile(rf"([^.].*{_WARM_SUFFIX})(\..*)?")


@dataclass(frozen=True)
class KernelFiles:
    """The paths of one kernel's files; the module's docstring describes each file.

    Parameters
    ----------
    name : str
        The kernel's name.
    folder : str
        The kernel's folder below the state folder; for a warm kernel, the link to the folder.
    record, log, exit, lock : str
        Files below the state folder.
    connection_file, facts, spare_exit, unit_plan, own_copy, old_lock : str
        Files below the runtime folder.
    """

    name: str
    folder: str
    record: str
    log: str
    exit: str
    lock: str
    connection_file: str
    facts: str
    spare_exit: str
    unit_plan: str
    own_copy: str
    old_lock: str

    @property
    def live(self) -> tuple[str, ...]:
        """The kernel's files in the folder of live kernels."""
        return self.old_lock, self.unit_plan, self.own_copy, self.facts, self.spare_exit


@dataclass(frozen=True)
class WarmFiles(KernelFiles):
    """The paths of a warm kernel's files.

    Parameters
    ----------
    first_folder : str
        The target of the link ``folder`` before the hand-over.
    next_link : str
        The link that replaces ``folder`` at the hand-over.
    """

    first_folder: str
    next_link: str

    @property
    def live(self) -> tuple[str, ...]:
        """The kernel's files in the folder of live kernels, including its connection file."""
        return (*super().live, self.connection_file)


def kernel_files(runtime_dir: str, state_dir: str, name: str) -> KernelFiles:
    """Return the paths of a kernel's files, which follow from the two folders and the name."""
    folder, live = f"{kernels_dir(state_dir)}/{name}", f"{live_dir(runtime_dir)}/{name}"
    return KernelFiles(
        name=name,
        folder=folder,
        record=f"{folder}/{RECORD}",
        log=f"{folder}/log",
        exit=f"{folder}/exit.json",
        lock=f"{folder}/{LOCK}",
        connection_file=f"{runtime_dir}/{connection_file_name(name)}",
        facts=f"{live}{_FACTS}",
        spare_exit=f"{live}{_EXIT}",
        unit_plan=f"{live}.plan",
        own_copy=f"{live}.connection",
        old_lock=f"{live}{_OLD_LOCK}",
    )


def warm_files(runtime_dir: str, state_dir: str, name: str) -> WarmFiles:
    """Return the paths of a warm kernel's files."""
    files = kernel_files(runtime_dir, state_dir, name)
    link = f"{warm_dir(state_dir)}/{name}"
    paths = vars(files) | {
        "folder": link,
        "record": f"{link}/{RECORD}",
        "log": f"{link}/log",
        "exit": f"{link}/exit.json",
        # The path of the lock does not contain the link, because a hand-over changes the link
        # before it moves the lock.
        "lock": f"{link}.d/{LOCK}",
        "connection_file": f"{live_dir(runtime_dir)}/{name}.connection.json",
    }
    return WarmFiles(**paths, first_folder=f"{link}.d", next_link=f"{link}.new")


def connection_file_name(name: str) -> str:
    """Return the name of a kernel's connection file; ``jupyter console`` finds such files."""
    return f"kernel-{name}.json"


def kernel_of_connection_file(file_name: str) -> str:
    """Return the name of the kernel that a connection file belongs to."""
    return file_name.removeprefix("kernel-").removesuffix(".json")


def live_dir(runtime_dir: str) -> str:
    """Return the folder of live kernels' facts."""
    return f"{runtime_dir}/live"


def ipc_dir(runtime_dir: str) -> str:
    """Return the folder of live kernels' sockets."""
    return f"{runtime_dir}/ipc"


def kernels_dir(state_dir: str) -> str:
    """Return the folder that contains a folder for each kernel."""
    return f"{state_dir}/{_KERNELS}"


def warm_dir(state_dir: str) -> str:
    """Return the folder that contains the links and folders of warm kernels."""
    return f"{state_dir}/{_WARM}"


def records_pattern() -> str:
    """Return a glob pattern for all records, relative to a folder that contains state folders."""
    return f"*/{_KERNELS}/*/{RECORD}"


def socket_prefix(runtime_dir: str, name: str) -> str:
    """Choose the common prefix of the paths of a kernel's sockets.

    A hash of the name replaces a name that would make the paths too long.

    Raises
    ------
    UsageError
        If the path of the runtime folder is too long.
    """
    return prefix_in(
        ipc_dir(runtime_dir),
        name,
        hint="start kconnd with a shorter --runtime-dir or XDG_RUNTIME_DIR, or write "
        "'transport: tcp' in the profile",
    )


def prefix_in(folder: str, name: str, *, inside: str = "", hint: str) -> str:
    """Choose the common prefix of the paths of a kernel's sockets in a folder.

    Parameters
    ----------
    folder : str
        The folder.
    name : str
        The kernel's name. A hash replaces a name that would make the paths too long.
    inside : str
        The path at which the kernel sees the folder, if it is another.
    hint : str
        The hint of the error.

    Raises
    ------
    UsageError
        If the path of the folder is too long.
    """
    longest = max(folder, inside, key=lambda path: len(path.encode()))
    for last in (name, hashlib.sha256(name.encode()).hexdigest()[:12]):
        if len(f"{longest}/{last}-5".encode()) <= MAX_SOCKET_PATH_BYTES:
            return f"{folder}/{last}"
    raise UsageError(
        f"{longest}/ is too long a path for Unix sockets, which may have "
        f"{MAX_SOCKET_PATH_BYTES} bytes",
        hint=hint,
    )


def check_socket_path(path: str, cure: str) -> None:
    """Refuse a path that is too long for a Unix socket.

    Raises
    ------
    UsageError
        If the path is too long; ``cure`` is the hint of the error.
    """
    length = len(path.encode(errors="surrogateescape"))
    if length > MAX_SOCKET_PATH_BYTES:
        raise UsageError(
            f"{path} is too long a path for a Unix socket: {length} bytes, of at most "
            f"{MAX_SOCKET_PATH_BYTES}",
            hint=cure,
        )


def is_facts(file_name: str) -> bool:
    """Return whether a file in the folder of live kernels contains a shim's facts."""
    return file_name.endswith(_FACTS)


def is_old_lock(file_name: str) -> bool:
    """Return whether a file in the folder of live kernels is a lock of a version before 0.1.0."""
    return file_name.endswith(_OLD_LOCK)


def kernel_of_facts(file_name: str) -> str:
    """Return the name of the kernel that a facts file describes."""
    return file_name.removesuffix(_FACTS)


def spare_exit_of(facts: str, lock: str) -> str:
    """Return the path of the file that replaces a kernel's ``exit.json`` if the disk is full.

    ``facts`` and ``lock`` are the paths of the kernel's facts and lock. If ``facts`` is empty, a
    version before 0.1.0 launched the kernel; the result is then derived from ``lock``.
    """
    return (facts.removesuffix(_FACTS) if facts else lock.removesuffix(_OLD_LOCK)) + _EXIT


def warm_name(profile: str, digits: str) -> str:
    """Name a warm kernel by its profile and eight random hexadecimal digits."""
    return f"{profile}~{digits}"


def without_warm_suffix(name: str) -> str:
    """Return the profile's name for a warm kernel's name; any other name is returned unchanged."""
    return _WARM_END.sub("", name)


def warm_kernel_of(file_name: str) -> str:
    """Return the name of the warm kernel that a file belongs to; ``""`` for any other file."""
    match = _WARM_FILE.fullmatch(file_name)
    return match[1] if match else ""
