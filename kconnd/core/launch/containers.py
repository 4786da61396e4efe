"""Reads from a kernel's command which files a kernel in a container sees, and finds it a folder.

Some kernels are run by a program that shows them only a part of the file system: docker, podman,
apptainer, bwrap and others. Such a kernel must see its connection file and, with Unix sockets, the
folder of its sockets. The command states which folders of the host the kernel sees, and at which
paths. `find_place` chooses among these folders if the kernel does not see the runtime folder. The
profile's key ``connection_folder`` takes precedence.

Rules. Only what the command states is used. If a program is not known here, the kernel is expected
to see all files. A later mount covers an earlier mount at the same path or above it.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kconnd.core.launch.connection import ConnectionInfo

FILE_PLACEHOLDER = "{connection_file}"
HOST_NETWORK = "host"
SKIPPED = frozenset({"env", "sudo"})  # commands that run the command in their arguments
SYSTEM_FOLDERS = ("/usr/", "/etc/", "/dev/", "/opt/", "/var/")  # not for connection files
NEVER_REACHED = "it runs and was never reached"
HINT = (
    "write 'connection_folder: FOLDER' into the profile, with a folder that the container "
    "has, too; see 'Kernels in containers' in configs/README.md"
)


@dataclass(frozen=True)
class Mount:
    """A folder or file that a container has.

    Parameters
    ----------
    source : str
        The path on the host; ``""`` for an empty file system.
    target : str
        The path in the container.
    is_writable : bool
        Whether the kernel may write to it.
    """

    source: str
    target: str
    is_writable: bool = True


@dataclass(frozen=True)
class Container:
    """The container of a kernel, as far as its command describes it.

    Parameters
    ----------
    program : str
        The name of the program that runs the container.
    mounts : tuple of Mount
        The mounts in their order.
    has_own_network : bool
        Whether the kernel cannot be reached on the host's loopback address.
    mounts_file : bool
        Whether the command itself mounts the connection file.
    """

    program: str
    mounts: tuple[Mount, ...] = ()
    has_own_network: bool = False
    mounts_file: bool = False

    def find(self, path: str) -> Mount | None:
        """Return where the container has a path of the host, as a mount; None if it does not."""
        views = [view for mount in self.mounts if (view := self._view(mount, path))]
        return min(
            views, key=lambda view: (view.target != path, not view.is_writable), default=None
        )

    def _view(self, mount: Mount, path: str) -> Mount | None:
        if not mount.source or not _is_below(path, mount.source):
            return None
        relative = posixpath.relpath(path, mount.source)
        target = posixpath.normpath(posixpath.join(mount.target, relative))
        covering = [other for other in self.mounts if _is_below(target, other.target)]
        return Mount(path, target, mount.is_writable) if covering[-1] is mount else None


@dataclass(frozen=True)
class Place:
    """The folder of a kernel's connection file and sockets.

    Parameters
    ----------
    folder : str
        The folder on the host; ``""`` for the runtime folder.
    inside : str
        The path at which the kernel sees the folder.
    transport : str
        ``ipc`` or ``tcp`` if the container permits only this transport, else ``""``.
    problem : str
        Why the kernel may not be reached; ``""`` if no reason is known.
    """

    folder: str = ""
    inside: str = ""
    transport: str = ""
    problem: str = ""


RUNTIME_FOLDER = Place()  # a kernel that sees all files


def find_place(container: Container | None, wanted: str, candidates: Iterable[str]) -> Place:
    """Find a folder that the daemon and the kernel see.

    Parameters
    ----------
    container : Container, optional
        The container of the kernel; None if its command names none.
    wanted : str
        The profile's ``connection_folder``: ``FOLDER`` or ``FOLDER:FOLDER-IN-THE-CONTAINER``;
        ``""`` without this key.
    candidates : iterable of str
        Folders of the daemon, of which the first is the runtime folder. The folders that the
        command mounts follow them.
    """
    if wanted:
        return _use_wanted(container, wanted)
    if container is None:
        return Place()
    own_network = f"{container.program} gives it a network of its own"
    if container.mounts_file:
        return Place(transport="tcp", problem=own_network if container.has_own_network else "")
    transport = "ipc" if container.has_own_network else ""
    folders = tuple(candidates)
    views = [container.find(folder) for folder in (*folders, *_sources(container))]
    for view in views:
        if view is not None and view.is_writable:
            is_usual = view.source == view.target == folders[0]
            folder, inside = ("", "") if is_usual else (view.source, view.target)
            return Place(folder, inside, transport)
    for view in views[: len(folders)]:
        if view is not None and not container.has_own_network:
            is_usual = view.source == view.target == folders[0]
            folder, inside = ("", "") if is_usual else (view.source, view.target)
            return Place(folder, inside, "tcp")
    return Place(problem=f"its {container.program} command names no folder that it may write to")


def _use_wanted(container: Container | None, wanted: str) -> Place:
    folder, _, inside = wanted.partition(":")
    view = container.find(folder) if container is not None else None
    transport = "ipc" if container is not None and container.has_own_network else ""
    return Place(folder, inside or (view.target if view else folder), transport)


def _sources(container: Container) -> Iterator[str]:
    """Yield the folders of the host that the command mounts, except those of the system."""
    for mount in sorted(container.mounts, key=lambda mount: mount.target == "/"):
        if mount.source.count("/") > 1 and not mount.source.startswith(SYSTEM_FOLDERS):
            yield mount.source


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def see_from_inside(place: Place, connection: ConnectionInfo) -> ConnectionInfo:
    """Return the connection of a kernel with the addresses that the kernel sees."""
    prefix = f"{place.folder}/"
    if connection.transport != "ipc" or not place.folder or not connection.ip.startswith(prefix):
        return connection
    return replace(connection, ip=f"{place.inside}/{connection.ip.removeprefix(prefix)}")


def describe_unreached(place: Place, fault: str, *, hidden_file: str) -> str:
    """Describe why a kernel that runs has never been reached, with a hint.

    Parameters
    ----------
    place : Place
        The folder of the kernel's connection file and sockets.
    fault : str
        Why no client can attach.
    hidden_file : str
        The path of the connection file if a process of the kernel does not see this file, else
        ``""``.
    """
    if hidden_file:
        reason = f"its container does not have its connection file {hidden_file}"
        return f"{NEVER_REACHED}: {reason}; {HINT}"
    if place.problem:
        return f"{NEVER_REACHED}: {fault}; {place.problem}; {HINT}"
    return f"{NEVER_REACHED}: {fault}; if it is slow, give it a longer 'startup_timeout'"


# --- the commands of programs


@dataclass(frozen=True)
class UserFolders:
    """The folders that some programs mount without an option.

    Parameters
    ----------
    home, cwd : str
        The user's home folder, and the kernel's working directory.
    """

    home: str
    cwd: str


def read_container(argv: tuple[str, ...], folders: UserFolders) -> Container | None:
    """Read which container a command runs; None if its program is not known here.

    Parameters
    ----------
    argv : tuple of str
        The command, with ``{connection_file}`` in it.
    folders : UserFolders
        The folders that some programs mount without an option.
    """
    words = list(argv)
    while words and (posixpath.basename(words[0]) in SKIPPED or _is_assignment(words[0])):
        del words[0]
    program = posixpath.basename(words[0]) if words else ""
    read = _READERS.get(program)
    return read(program, words[1:], folders) if read else None


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option with the words after it; a value after ``=`` is the first of those."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word.startswith("--") and equals:
            yield name, [value, *words[index + 1 :]]
        elif word.startswith("-"):
            yield word, words[index + 1 :]


def _before_command(words: list[str], operands: int, with_value: frozenset[str]) -> list[str]:
    """Return the words before the command that runs in the container.

    Parameters
    ----------
    words : list of str
        The words after the name of the program.
    operands : int
        The number of operands before the command, such as a subcommand and an image.
    with_value : frozenset of str
        The options that the next word belongs to.
    """
    is_value = False
    for index, word in enumerate(words):
        if not is_value and not word.startswith("-"):
            if operands == 0:
                return words[:index]
            operands -= 1
        is_value = not is_value and word in with_value
    return words


def _read_bwrap(program: str, words: list[str], _folders: UserFolders) -> Container:
    mounts: list[Mount] = []
    own_network = mounts_file = False
    for name, values in _options(words):
        kind = name.removesuffix("-try")
        if kind in {"--bind", "--dev-bind", "--ro-bind"} and len(values) > 1:
            mounts.append(Mount(values[0], values[1], kind != "--ro-bind"))
            mounts_file |= values[0] == FILE_PLACEHOLDER
        elif kind in {"--tmpfs", "--dev", "--proc"} and values:
            mounts.append(Mount("", values[0]))
        own_network = (own_network or name in {"--unshare-net", "--unshare-all"}) and (
            name != "--share-net"
        )
    return Container(program, tuple(mounts), own_network, mounts_file)


def _parse_volume(text: str) -> Mount | None:
    """Parse ``SOURCE:TARGET:OPTIONS``; None for a volume that is no path."""
    source, *more = text.split(":")
    if not source.startswith("/") and source != FILE_PLACEHOLDER:
        return None
    target = more[0] if more and more[0] else source
    return Mount(source, target, "ro" not in (more[1].split(",") if len(more) > 1 else ()))


def _parse_mount(text: str) -> Mount | None:
    """Parse ``type=bind,source=SOURCE,target=TARGET``; None for another type."""
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    source = fields.get("source") or fields.get("src") or ""
    target = fields.get("target") or fields.get("destination") or fields.get("dst") or ""
    if fields.get("type") == "tmpfs":
        return Mount("", target)
    is_bind = fields.get("type") == "bind" and source and target
    read_only = not {"readonly", "ro"}.isdisjoint(fields)
    return Mount(source, target, not read_only) if is_bind else None


def _with_options(
    program: str,
    words: list[str],
    base: Iterable[Mount],
    parsers: Mapping[str, Callable[[str], Iterable[Mount | None]]],
    *,
    own_network: Callable[[str, str], bool | None] = lambda _name, _value: None,
    isolated: bool = False,
) -> Container:
    """Build a container from base mounts and from options with values.

    Parameters
    ----------
    parsers : mapping
        A parser of the value, by option.
    own_network : callable
        A function that returns whether an option with a value gives the container a network of its
        own; None if the option says nothing about this.
    isolated : bool
        Whether the container has a network of its own without an option.
    """
    mounts = [*base]
    for name, values in _options(words):
        value = values[0] if values else ""
        if name in parsers:
            mounts += [mount for mount in parsers[name](value) if mount is not None]
        isolates = own_network(name, value)
        isolated = isolated if isolates is None else isolates
    mounts_file = any(mount.source == FILE_PLACEHOLDER for mount in mounts)
    return Container(program, tuple(mounts), isolated, mounts_file)


def _read_docker(program: str, words: list[str], _folders: UserFolders) -> Container:
    volumes = dict.fromkeys(("-v", "--volume"), lambda text: [_parse_volume(text)])
    return _with_options(
        program,
        words,
        (),
        {**volumes, "--mount": lambda text: [_parse_mount(text)]},
        own_network=lambda name, value: (
            value != HOST_NETWORK if name in {"--network", "--net"} else None
        ),
        isolated=True,
    )


_APPTAINER_VALUES = frozenset(
    {
        *("-B", "--bind", "-H", "--home", "-W", "--workdir", "-S", "--scratch", "--env"),
        *("--env-file", "-o", "--overlay", "--pwd", "--cwd", "--mount", "--no-mount", "--network"),
        *("--network-args", "--app", "--fusemount", "--dns", "--hostname", "--security"),
        *("--add-caps", "--drop-caps", "--apply-cgroups"),
    }
)


def _read_apptainer(program: str, words: list[str], folders: UserFolders) -> Container:
    words = _before_command(words, 2, _APPTAINER_VALUES)  # exec IMAGE
    names = {name for name, _ in _options(words)}
    usual = (folders.home, folders.cwd, "/tmp", "/var/tmp")  # noqa: S108  # it mounts these
    base = [Mount(folder, folder) for folder in usual]
    if not names.isdisjoint({"-c", "--contain", "-C", "--containall"}):
        base = []
    elif "--no-home" in names:
        base = [mount for mount in base if mount.source != folders.home]
    binds = dict.fromkeys(
        ("-B", "--bind"), lambda text: [_parse_volume(part) for part in text.split(",")]
    )
    return _with_options(
        program,
        words,
        base,
        binds,
        own_network=lambda name, _value: True if name in {"-n", "--net"} else None,
    )


def _read_chroot(program: str, words: list[str], _folders: UserFolders) -> Container:
    root = next((word for word in words if not word.startswith("-")), "/")
    return Container(program, (Mount(root, "/"),))


def _read_nspawn(program: str, words: list[str], _folders: UserFolders) -> Container:
    words = _before_command(words, 0, frozenset({"-D", "--directory", "-M", "-u", "-i"}))
    empty = [Mount("", "/tmp"), Mount("", "/run")]  # noqa: S108  # no file is made
    roots = dict.fromkeys(("-D", "--directory"), lambda text: [Mount(text, "/"), *empty])
    return _with_options(
        program,
        words,
        empty,
        {
            **roots,
            "--bind": lambda text: [_parse_volume(text)],
            "--bind-ro": lambda text: [_parse_volume(f"{text}:{text}:ro")],
        },
        own_network=lambda name, _value: (
            True if name == "-n" or name.startswith(("--private-net", "--network-")) else None
        ),
    )


def _read_volumes(program: str, words: list[str], folders: UserFolders) -> Container:
    """Read a command of enroot or udocker, which share the host's network."""
    options = ("-v", "--volume", "-m", "--mount")
    home = [Mount(folders.home, folders.home)]
    volumes = dict.fromkeys(options, lambda text: [_parse_volume(text)])
    return _with_options(program, words, (), {**volumes, "--bindhome": lambda _text: home})


def _read_firejail(program: str, words: list[str], folders: UserFolders) -> Container:
    home = folders.home

    def use_private(text: str) -> list[Mount | None]:
        return [Mount(text if text.startswith("/") else "", home)]

    return _with_options(
        program,
        words,
        [Mount("/", "/")],
        {"--private": use_private, "--private-tmp": lambda _text: [Mount("", "/tmp")]},  # noqa: S108  # no file is made
        own_network=lambda name, _value: True if name == "--net" else None,
    )


_READERS: Mapping[str, Callable[[str, list[str], UserFolders], Container]] = {
    "bwrap": _read_bwrap,
    **dict.fromkeys(("docker", "podman", "nerdctl"), _read_docker),
    **dict.fromkeys(("apptainer", "singularity"), _read_apptainer),
    "chroot": _read_chroot,
    "systemd-nspawn": _read_nspawn,
    **dict.fromkeys(("enroot", "udocker"), _read_volumes),
    "firejail": _read_firejail,
}
