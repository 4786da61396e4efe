"""The command line of ``kconnd`` and the defaults of its options."""

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import kconnd
from kconnd import private_tmp
from kconnd.core import paths
from kconnd.core.launch.plan import DEFAULT_UMASK
from kconnd.core.launch.ports import default_range
from kconnd.core.profile.problems import InvalidValueError
from kconnd.core.profile.quantities import parse_duration
from kconnd.core.profile.values import parse_ports
from kconnd.errors import UsageError
from kconnd.system.machine import ephemeral_ports, lingers, machine_id, own_user

DESCRIPTION = """\
Run Jupyter kernels from YAML profiles, and keep them running.

The daemon stays in the foreground. SIGTERM and SIGINT stop the daemon; the kernels keep
running, and the next daemon adopts them. SIGHUP reloads the profiles. The client is kconnd-ctl.
"""


@dataclass(frozen=True)
class Options:
    """The options of the command line, with a default for each omitted option."""

    configs: tuple[Path, ...]
    system_configs: tuple[Path, ...]
    watch: bool
    exit_idle: float
    front: Path | None
    runtime_dir: Path
    state_dir: Path
    machines_dir: Path | None
    jupyter_dir: Path
    socket: Path
    ports: tuple[int, int]
    log_level: str
    stop_kernels_on_exit: bool
    umask: int = DEFAULT_UMASK  # with which the daemon was started


def parse_options(arguments: Sequence[str] | None) -> Options:
    """Parse the command line.

    Raises
    ------
    UsageError
        If an option's value is not valid.
    """
    parser = argparse.ArgumentParser(
        "kconnd", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--configs", metavar="DIR", action="append", type=Path, help="folder of YAML profiles")
    add(
        "--system-configs",
        metavar="DIR",
        action="append",
        type=Path,
        help="folder of profiles for the whole machine; root must own it",
    )
    add("--runtime-dir", metavar="DIR", type=Path, help="sockets and connection files")
    add("--state-dir", metavar="DIR", type=Path, help="records and logs of kernels")
    add("--socket", metavar="PATH", type=Path, help="the socket of this daemon")
    add("--jupyter-dir", metavar="DIR", type=Path, help="where Jupyter looks for kernels by name")
    add("--ports", metavar="FIRST-LAST", help="ports for kernels that use tcp")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    add(
        "--stop-kernels-on-exit",
        action="store_true",
        help="stop all kernels when the daemon exits",
    )
    add("--exit-idle", metavar="TIME", help="exit after this time without a live kernel: 1min")
    add("--front", metavar="PATH", type=Path, help="socket of the machine's front door")
    add(
        "--no-watch",
        action="store_true",
        help="reload profiles only on SIGHUP and kconnd-ctl reload",
    )
    add("--version", action="version", version=f"kconnd {kconnd.__version__}")
    parsed = parser.parse_args(arguments)
    user = own_user()
    runtime = private_tmp.resolve_folder(
        paths.runtime_dir(os.environ, user.uid, lingers=lingers(user.name)), user.uid
    )
    state = paths.state_dir(os.environ, user.home, machine_id())
    runtime_dir = (parsed.runtime_dir or Path(runtime)).absolute()
    return Options(
        configs=tuple(path.expanduser().absolute() for path in parsed.configs or ())
        or (Path(paths.config_dir(os.environ, user.home)),),
        system_configs=tuple(path.absolute() for path in parsed.system_configs or ()),
        watch=not parsed.no_watch,
        exit_idle=_parse_span(parsed.exit_idle),
        front=parsed.front,
        runtime_dir=runtime_dir,
        state_dir=(parsed.state_dir or Path(state)).absolute(),
        machines_dir=None if parsed.state_dir else Path(state).parent,
        jupyter_dir=(
            parsed.jupyter_dir or Path(paths.jupyter_runtime_dir(os.environ, user.home))
        ).absolute(),
        socket=(parsed.socket or runtime_dir / paths.SOCKET_NAME).absolute(),
        ports=_parse_port_range(parsed.ports),
        log_level=parsed.log_level,
        stop_kernels_on_exit=parsed.stop_kernels_on_exit,
    )


def _parse_span(text: str | None) -> float:
    try:
        return parse_duration(text) if text else math.inf
    except ValueError as error:
        raise UsageError(f"--exit-idle: {error}") from None


def _parse_port_range(text: str | None) -> tuple[int, int]:
    try:
        ports = parse_ports(text or "auto")
    except InvalidValueError as error:
        raise UsageError(f"--ports: {error}", hint="such as --ports 20000-29999") from None
    return (ports.first, ports.last) if ports.last else default_range(ephemeral_ports())
