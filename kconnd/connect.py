"""Writes, finds and reads connection files, and opens a qtconsole, like ipykernel's functions.

The five functions have the names of ipykernel's functions (documentation, "Connection Management")
and stricter contracts. The measured differences from ipykernel 7.4 and jupyter_client 8.10:

================== ============================= ===========================================
behaviour          ipykernel, jupyter_client     kconnd
================== ============================= ===========================================
write: returns     ``(path, dict)``              the path, as ``str``
write: file        truncated, then filled        complete or absent at every instant
write: folder      gets the sticky bit           is not changed
write: no key      ``""``: nothing is signed     a new random key
write: ports of 0  bound and released: a race    granted through a locked ledger
write: bad ports   accepted                      ``ValueError`` that names the argument
write: IPv6        fails                         works
find: parameters   ``(filename, path, profile)`` ``(filename_or_glob, profile)``
find: folders      also the current folder       folders that only you can write; those of the
                                                 daemon of ``KCONND_SOCKET`` first
find: files        of any user                   your own; for a path, any user's
info: key          ``bytes`` with ``unpack``     ``str``, always a ``dict``
info: no kernel    ``RuntimeError``              ``RuntimeError``
file: no kernel    ``RuntimeError``              None
qtconsole: output  pipes that fill up            discarded, so it never blocks
qtconsole: missing an exit that nobody sees      ``ImportError`` before anything is started
================== ============================= ===========================================

Rules. No function here needs a running daemon, except `connect_qtconsole` for a kernel of another
user, whose connection only the daemon of that user can give. If ``KCONND_SOCKET`` names the socket
of a daemon, the search for a connection file also asks this daemon for its folder of connection
files. A kernel that runs in this process takes precedence over ``KCONND_CONNECTION_FILE``, the
variable that kconnd sets for kernels and their children.
"""

import json
import os
import secrets
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir

from kconnd.attach import readable_connection_file
from kconnd.client import Client, find_socket, has_front_door
from kconnd.client.other_owners import find_uid
from kconnd.connection_search import find_file, inherited_file, kernel_and_socket
from kconnd.core import paths
from kconnd.core.launch.connection import CHANNELS, SCHEME, ConnectionInfo, parse_connection
from kconnd.core.launch.connection_checks import (
    DEFAULT_IP,
    as_text,
    check_ports,
    check_scheme,
    check_transport,
    curve_keys,
    ipc_address,
)
from kconnd.core.launch.ports import default_range
from kconnd.core.names import kernel_name as kernel_name_of
from kconnd.errors import KconndError
from kconnd.private_tmp import resolve_folder
from kconnd.qtconsole_argv import option_words, qtconsole_command
from kconnd.system.files.private import ensure_private_dir, write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.keys import new_key
from kconnd.system.ledger import PortLedger
from kconnd.system.machine import ephemeral_ports, lingers, own_user

__all__ = [
    "connect_qtconsole",
    "find_connection_file",
    "get_connection_file",
    "get_connection_info",
    "write_connection_file",
]


def write_connection_file(  # noqa: PLR0913, PLR0917  # ipykernel's signature
    fname: str | os.PathLike[str] | None = None,
    shell_port: int = 0,
    iopub_port: int = 0,
    stdin_port: int = 0,
    control_port: int = 0,
    hb_port: int = 0,
    ip: str = DEFAULT_IP,
    key: bytes | str = b"",
    transport: str = "tcp",
    signature_scheme: str = SCHEME,
    kernel_name: str = "",
    *,
    curve_publickey: bytes | str = b"",
    curve_secretkey: bytes | str = b"",
) -> str:
    """Write a connection file.

    Parameters
    ----------
    fname : path, optional
        The path; by default a new name in Jupyter's runtime folder. An existing file is replaced.
    shell_port, iopub_port, stdin_port, control_port, hb_port : int
        The ports. A port of 0 is replaced by a free port, which is reserved as long as the file
        exists. For any other port, this function does not check whether the port is free, because
        the kernel may already be running, or may run on another machine.
    ip : str
        The address; with ipc, the prefix of the sockets' paths. The default prefix is the path of
        the connection file, with ``-ipc`` instead of ``.json``.
    key : bytes or str
        The HMAC key; by default a random key, so that messages are always signed.
    transport : str
        ``tcp`` or ``ipc``.
    signature_scheme : str
        ``hmac-`` and the name of a hash in `hashlib`.
    kernel_name : str
        The name that clients show.
    curve_publickey, curve_secretkey : bytes or str
        The kernel's CURVE key pair as Z85 text: both, or neither.

    Returns
    -------
    str
        The path of the file, which has the mode 0600 from its first byte on.

    Raises
    ------
    ValueError
        If an argument is invalid; the message names the argument.
    PortsTakenError
        If no ports are free.
    OSError
        If the file cannot be written.

    Notes
    -----
    The format is Jupyter's: "Connection files" in the jupyter_client documentation.
    """
    ports = dict(
        zip(
            (f"{name}_port" for name in CHANNELS),
            (shell_port, iopub_port, stdin_port, control_port, hb_port),
            strict=True,
        )
    )
    check_ports(ports)
    text_key = as_text(key, "key")
    check_scheme(signature_scheme)
    curve = curve_keys(
        as_text(curve_publickey, "curve_publickey"), as_text(curve_secretkey, "curve_secretkey")
    )
    path = _new_path() if fname is None else Path(fname).absolute()
    given = tuple(ports.values())
    if transport == "ipc":
        ip, given = ipc_address(str(path.with_suffix("")), ip, given)
    else:
        check_transport(transport)
    if not ip:
        raise ValueError("ip: it is empty")

    def write(chosen: tuple[int, ...]) -> None:
        connection = ConnectionInfo(
            transport=transport,
            ip=ip,
            ports=chosen,
            key=text_key or new_key(),
            kernel_name=kernel_name,
            curve=curve,
            signature_scheme=signature_scheme,
        )
        write_private(path, json.dumps(connection.to_file(), indent=1).encode())

    if all(given):
        write(given)
    else:
        first, last = default_range(ephemeral_ports())
        _ledger().grant_missing(str(path), ip, first, last, given, write)
    return str(path)


def get_connection_file() -> str | None:
    """Return the path of the current kernel's connection file.

    The current kernel is the ipykernel that runs in this process. If no ipykernel runs in this
    process, the current kernel is the kernel of kconnd whose environment this process has
    inherited.

    Returns
    -------
    str or None
        The path; None if this process does not belong to a kernel.
    """
    module = sys.modules.get("ipykernel.kernelapp")
    application = getattr(module, "IPKernelApp", None)
    if application is not None and application.initialized():
        return str(application.instance().abs_connection_file)
    return inherited_file()


def find_connection_file(
    filename_or_glob: str = "kernel-*.json", profile: str | None = None
) -> str:
    """Find a connection file by name or pattern; deprecated, as in ipykernel.

    Use `get_connection_info` instead, with the name of the kernel.

    Parameters
    ----------
    filename_or_glob : str
        A kernel's name, a file's name, a pattern, or a path with a ``/`` in it. If several files
        match, the newest is returned.
    profile : str, optional
        Ignored, as it has been in ipykernel since IPython 6.

    Returns
    -------
    str
        The absolute path.

    Raises
    ------
    OSError
        If no file matches; the message lists the searched folders.
    """
    warnings.warn(
        "find_connection_file is deprecated: use get_connection_info with the kernel's name",
        DeprecationWarning,
        stacklevel=2,
    )
    if profile is not None:
        warnings.warn("profile is ignored", DeprecationWarning, stacklevel=2)
    return find_file(filename_or_glob)


def get_connection_info(kernel: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Return the connection info of a kernel.

    Parameters
    ----------
    kernel : str or path, optional
        The kernel's name as in ``kconnd-ctl list``, Jupyter's name of its kernel spec, or the path
        of its connection file; by default the current kernel.

    Returns
    -------
    dict
        The five ports (``int``), ``ip``, ``key``, ``transport``, ``signature_scheme`` and
        ``kernel_name`` (``str``), and the CURVE keys of an encrypted kernel.

    Raises
    ------
    RuntimeError
        If ``kernel`` is None and this process does not belong to a kernel.
    OSError
        If the file does not exist or cannot be read.
    ValueError
        If the file is not a valid connection file; the message names the fault.
    """
    if kernel is not None:
        path = find_file(os.fspath(kernel))
    else:
        path = get_connection_file() or ""
        if not path:
            raise RuntimeError("not in a kernel: pass the name of one, or its connection file")
    try:
        connection = parse_connection(json.loads(read_regular(path, MAX_OWN_BYTES)))
        check_transport(connection.transport)
        return connection.to_file()
    except ValueError as error:
        raise ValueError(f"reading the connection file {path}: {error}") from error


def connect_qtconsole(
    argv: Sequence[str] | None = None,
    *,
    connection_file: str | os.PathLike[str] | None = None,
    **kwargs: object,
) -> "subprocess.Popen[bytes]":
    """Open a qtconsole on a kernel.

    Parameters
    ----------
    argv : sequence of str, optional
        Further arguments for qtconsole.
    connection_file : str or path, optional
        The path of the kernel's connection file, or the kernel's name as in ``kconnd-ctl list``; by
        default the file of the current kernel. ``OWNER/NAME`` names a kernel that another user
        shares. This kernel is started if it is not running and its profile allows that.
        ``./OWNER/NAME`` is always a path.
    **kwargs
        Options of qtconsole: ``style="monokai"`` means ``--style=monokai``. A bool is a switch:
        ``confirm_exit=False`` means ``--no-confirm-exit``.

    Returns
    -------
    subprocess.Popen
        The process of the console. It runs in its own session (setsid(2)), and its output is
        discarded. The console interrupts and restarts a kernel of kconnd through the daemon.

    Raises
    ------
    RuntimeError
        If ``connection_file`` is None and this process does not belong to a kernel.
    TypeError
        If ``argv`` is a single string.
    OSError
        If no kernel has the name.
    KconndError
        If the kernel of another user does not exist, or if its connection is refused.
    ImportError
        If qtconsole or a Qt binding is not installed; the message contains the command to install
        it.
    """
    if isinstance(argv, str):
        raise TypeError(
            f"argv: {argv!r} is one text: pass a sequence of options, or the name of a kernel as "
            "connection_file"
        )
    path, kernel, socket = _target_of_console(connection_file)
    return subprocess.Popen(
        qtconsole_command(path, [*option_words(kwargs), *(argv or ())], kernel, socket),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _target_of_console(wanted: str | os.PathLike[str] | None) -> tuple[str, str, str]:
    """Return the connection file for a console, and the kernel and socket for the daemon."""
    if isinstance(wanted, str) and _is_shared_kernel(wanted):
        owner, slash, name = wanted.partition("/")
        wanted = f"{owner}{slash}{kernel_name_of(name)}"
        return _connection_of_shared_kernel(wanted), wanted, ""
    path = find_file(os.fspath(wanted)) if wanted else get_connection_file()
    if not path:
        raise RuntimeError("not in a kernel: pass a connection_file")
    return (path, *kernel_and_socket(path))


def _is_shared_kernel(text: str) -> bool:
    """Return whether a text is ``OWNER/NAME``: a user of this machine, and the name of a kernel.

    Such a text is not a path, even if a file of this name exists: another user could have created
    the file in the current folder.
    """
    owner, slash, name = text.partition("/")
    if not slash or not has_front_door():
        return False
    try:
        kernel_name_of(name)
        find_uid(owner)
    except KconndError:
        return False
    return True


def _connection_of_shared_kernel(kernel: str) -> str:
    """Start another user's kernel if necessary; return the path of a copy of its connection."""
    client = Client(find_socket(os.environ))
    description = client.launch(kernel, body={"on_demand": True})
    return readable_connection_file(client, description, kernel)


# --- places


def _runtime_dir() -> Path:
    user = own_user()
    folder = paths.runtime_dir(os.environ, user.uid, lingers=lingers(user.name))
    return Path(resolve_folder(folder, user.uid))


def _ledger() -> PortLedger:
    folder = _runtime_dir()
    ensure_private_dir(folder)
    return PortLedger(folder)


def _new_path() -> Path:
    folder = Path(jupyter_runtime_dir())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"kernel-{secrets.token_hex(8)}.json"
