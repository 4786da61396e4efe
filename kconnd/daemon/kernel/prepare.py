"""Builds a launch plan from a profile, and reads the data that the plan needs.

This module reads files and users; `kconnd.core.launch.plan` decides. Each launch reads all files
again, so a changed profile, kernel spec or environment file applies from the next launch on. A path
in a profile can lead to a file server that hangs. `read_launch_files` therefore reads in a thread
with a time limit.
"""

import asyncio
import contextlib
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kconnd.core.kernel.events import Launch
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.envfile import parse_env_file
from kconnd.core.launch.kernel_files import IPC_PORTS, KernelFiles, ipc_dir, socket_prefix
from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.launch.plan import (
    LaunchPlan,
    base_environment,
    choose_encryption,
    choose_transport,
    enable_ipv6,
    expand,
    fill_in,
    kernel_variables,
    through_shell,
    warn_about,
    with_interpreter,
)
from kconnd.core.profile.model import Profile
from kconnd.core.profile.policy import is_shared, needs_tcp
from kconnd.daemon.context import World
from kconnd.errors import PortsTakenError, StartFailedError
from kconnd.system.files.regular import read_regular
from kconnd.system.hung_calls import BeginStep, StuckError
from kconnd.system.kernelspecs import KernelspecIndex, interpreter_of, python_spec
from kconnd.system.keys import new_curve_keys, new_key
from kconnd.system.ledger import is_free

PORTS_TIMEOUT_S = 2.0  # the time that a restart waits for the kernel's own ports
PORTS_POLL_S = 0.05  # there is no event for a port that becomes free
RESERVED_DESCRIPTORS = 160  # one for each allowed connection of a user, and some for files
# execve(2) limits arguments and environment to a few times this size.
MAX_ENV_FILE_BYTES = 256 << 10


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
class Wire:
    """The connection of the next process, and messages about the connection for the user."""

    connection: ConnectionInfo
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class LaunchFiles:
    """The content of a profile's files, read for a launch.

    Parameters
    ----------
    spec : KernelSpec
        The kernel spec with the command.
    interpreter : str
        The Python of the environment in which the spec is installed; ``""`` if there is none.
    variables : mapping
        The content of the profile's ``env_file``.
    cwd : str
        The working directory, with ``~`` expanded.
    """

    spec: KernelSpec
    interpreter: str
    variables: Mapping[str, str]
    cwd: str


async def read_launch_files(world: World, profile: Profile) -> LaunchFiles:
    """Read the files of a profile, and access the paths that its process will use.

    Raises
    ------
    StartFailedError
        If a file is missing or unreadable, or if a disk or file server does not answer.
    """
    try:
        return await world.paths.run(partial(_read_launch_files, profile, world.kernelspecs))
    except StuckError as error:
        raise StartFailedError(
            f"{error.step}: the disk or file server does not answer",
            hint="once it answers, start it again; or change the path in the profile",
        ) from error


def _read_launch_files(
    profile: Profile, kernelspecs: KernelspecIndex, begin: BeginStep
) -> LaunchFiles:
    begin(f"finding the home folder of {profile.user or 'its user'}")
    spec = find_spec(profile, kernelspecs, begin)
    cwd = _expanded(profile.cwd, "cwd")
    interpreter = ""
    if spec.prefix:
        begin(f"looking for the interpreter in {spec.prefix}/bin")
        interpreter = interpreter_of(spec)
    if Path(spec.argv[0]).is_absolute():
        _touch(begin, "looking for its program", spec.argv[0])
    _touch(begin, "looking for its folder", cwd)
    return LaunchFiles(spec, interpreter, _read_env_file(profile, begin), cwd)


def _touch(begin: BeginStep, action: str, path: str) -> None:
    """Call stat(2) on a path, so that a dead file server blocks this thread and not the kernel."""
    begin(f"{action} {path}")
    with contextlib.suppress(OSError, ValueError):  # the launch itself reports this error
        os.stat(path)  # noqa: PTH116  # for its side effect


def find_spec(profile: Profile, kernelspecs: KernelspecIndex, begin: BeginStep) -> KernelSpec:
    """Find the kernel spec of a profile, or build one from its command.

    Raises
    ------
    StartFailedError
        If the profile names a kernel spec that is not installed.
    StuckError
        If a disk or file server does not answer.
    """
    if profile.kernel:
        return kernelspecs.read(profile.kernel, begin)
    if profile.python:
        return python_spec(_expanded(profile.python, "python"), begin)
    argv = (_expanded(profile.argv[0], "argv"), *profile.argv[1:])
    return KernelSpec(name=profile.name, argv=argv, display_name=profile.name)


def _read_env_file(profile: Profile, begin: BeginStep) -> Mapping[str, str]:
    if not profile.env_file:
        return {}
    path = Path(_expanded(profile.env_file, "env_file"))
    begin(f"reading its env_file {path}")
    try:
        return parse_env_file(read_regular(path, MAX_ENV_FILE_BYTES).decode())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StartFailedError(
            f"reading its env_file {path}: {why}",
            hint="make it a readable file of KEY=VALUE lines, or remove 'env_file'",
        ) from error


def _expanded(path: str, key: str) -> str:
    """Expand ``~`` or ``~NAME`` in a path."""
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise StartFailedError(
            f"finding its {key} {path}: there is no such user",
            hint=f"change {key!r} in the profile",
        ) from error


async def prepare_wire(
    world: World,
    name: str,
    profile: Profile,
    spec: KernelSpec,
    previous: ConnectionInfo | None,
    command: Launch,
) -> Wire:
    """Choose a kernel's transport, ports and keys; keep the previous values if possible.

    Parameters
    ----------
    previous : ConnectionInfo, optional
        The connection to keep. A restart keeps key, ports and path.
    command : Launch
        The command, which states whether to create a new key and whether to choose new ports. New
        ports are chosen if another program may use the old ports.

    Raises
    ------
    PortsTakenError
        If no ports in the profile's range are free.
    StartFailedError
        If the profile lets other users connect and every user of the machine could read the
        traffic.
    """
    transport = choose_transport(profile.transport, spec, needs_tcp=needs_tcp(profile))
    encrypted = choose_encryption(profile.encryption, transport, spec)
    if transport == "tcp" and not encrypted:
        _check_privacy(name, profile)
    kept = previous if previous and previous.transport == transport else None
    notes: tuple[str, ...] = ()
    ports: tuple[int, ...] = IPC_PORTS
    if transport == "ipc":
        here = f"{ipc_dir(str(world.runtime_dir))}/"
        ip = (
            kept.ip
            if kept and kept.ip.startswith(here)
            else socket_prefix(str(world.runtime_dir), name)
        )
    else:
        ip = profile.ip
        old = kept.ports if kept and kept.ip == ip and not command.new_ports else None
        ports = await _choose_ports(world, name, profile, old)
        if kept and kept.ports != ports:
            notes = (f"its ports changed from {kept.ports} to {ports}",)
    secret = None if command.new_key else previous
    curve = None
    if encrypted:
        curve = (secret.curve if secret else None) or new_curve_keys()
    connection = ConnectionInfo(
        transport=transport,
        ip=ip,
        ports=ports,
        key=secret.key if secret else new_key(),
        kernel_name=spec.name,
        curve=curve,
    )
    return Wire(connection, notes, warnings_about(profile, connection))


def warnings_about(profile: Profile, connection: ConnectionInfo) -> tuple[str, ...]:
    """Return warnings about the readers and the reachability of a connection."""
    address = ipaddress.ip_address(profile.ip)
    return warn_about(
        connection.transport,
        encrypted=connection.curve is not None,
        loopback=address.is_loopback,
        ipv6=connection.transport == "tcp" and address.version == 6,  # noqa: PLR2004  # it is its name
    )


def _check_privacy(name: str, profile: Profile) -> None:
    """Refuse an unencrypted shared kernel unless its profile says ``encryption: none``."""
    if is_shared(profile) and profile.encryption != "none":
        raise StartFailedError(
            f"starting {name}: other users may connect, the kernel has no encryption, and every "
            "user of the machine could read its output on plain tcp",
            hint="write encryption: none in the profile if this is acceptable, or drop access",
        )


async def _choose_ports(
    world: World, name: str, profile: Profile, old: tuple[int, ...] | None
) -> tuple[int, ...]:
    preferred = profile.ports.fixed or old
    if (
        preferred
        and await _become_free(profile.ip, preferred)
        and world.ledger.keep(name, preferred)
    ):
        return preferred
    if profile.ports.fixed:
        busy_ports = [port for port in profile.ports.fixed if not is_free(profile.ip, port)]
        numbers = ", ".join(map(str, busy_ports or profile.ports.fixed))
        raise PortsTakenError(
            f"another program uses {numbers} of its fixed ports",
            hint="'ss -ltnp' shows which one; end it, or change 'ports' in the profile",
        )
    first, last = (profile.ports.first, profile.ports.last) if profile.ports.last else world.ports
    return world.ledger.grant(name, profile.ip, first, last)


async def _become_free(ip: str, ports: tuple[int, ...]) -> bool:
    """Wait for a kernel's own ports, which its last process may still hold."""
    try:
        async with asyncio.timeout(PORTS_TIMEOUT_S):
            while not all(is_free(ip, port) for port in ports):  # noqa: ASYNC110  # no event reports it
                await asyncio.sleep(PORTS_POLL_S)
    except TimeoutError:
        return False
    return True


def make_plan(
    world: World,
    kernel_files: KernelFiles,
    generation: int,
    profile: Profile,
    files: LaunchFiles,
    connection: ConnectionInfo,
) -> LaunchPlan:
    """Build the plan for one launch."""
    spec = files.spec
    name, file = kernel_files.name, kernel_files.connection_file
    base = base_environment(
        world.user, world.environment, world.environment.get("XDG_RUNTIME_DIR", "")
    )
    argv, env = with_interpreter(spec, base, files.interpreter)
    env |= expand(spec.env, env)
    env |= files.variables
    env |= expand(profile.env, env) | kernel_variables(name, file)
    argv = fill_in(argv, file, spec.resource_dir)
    if connection.transport == "tcp" and ":" in connection.ip:
        argv = enable_ipv6(argv)
    if profile.shell == "login":
        argv = through_shell(argv, world.user.shell, profile.setup)
    return LaunchPlan(
        name=name,
        generation=generation,
        argv=argv,
        env=env,
        cwd=files.cwd,
        files=kernel_files,
        log_max=profile.log.max_size,
        log_keep=profile.log.keep,
        launcher="fork" if profile.launcher == "auto" and profile.preload else profile.launcher,
        preload=profile.preload,
        limits=profile.limits.model_dump(exclude_none=True),
    )
