"""Provides a connection file that the caller can read: the kernel's own file, or a private copy.

The connection file of a shared kernel is in a folder of the kernel's owner. Another user who has
the right to connect receives the file's content from the owner's daemon, and the client writes the
content to a file of this user. No file is therefore shared between users.

Rules. A path in a reply is opened only if the reply is from the caller's own daemon. Another
owner's daemon is untrusted: paths in its replies are not opened, and texts in its replies are
percent-encoded before they become part of a file name. `validated_connection` accepts a connection
from such a daemon only if the connection leads to sockets of the owner on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from pathlib import Path

from kconnd.client import Client, find_socket, has_front_door, kernel_path
from kconnd.core.launch.connection import ConnectionInfo, parse_connection, parse_foreign_connection
from kconnd.core.paths import owner_folder, runtime_dir
from kconnd.core.protocol.listening_ports import listener_uids
from kconnd.core.protocol.request_head import quote
from kconnd.errors import KconndError, RefusedError, UnreachableError
from kconnd.private_tmp import resolve_folder
from kconnd.system.files.private import ensure_private_dir, write_private
from kconnd.system.machine import machine_id

MAX_NAME_CHARS = 100  # of the owner, and of the kernel, in the name of a copy
CHECKSUM_CHARS = 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def readable_connection_file(client: Client, kernel: dict[str, Any], name: str) -> str:
    """Return the path of a connection file that this process can read.

    Parameters
    ----------
    client : Client
        The client that requests the connection from the daemon if the kernel's own file does not
        belong to the caller.
    kernel : dict
        The description of the kernel from its daemon.
    name : str
        The kernel's name, as the caller spells it.

    Raises
    ------
    KconndError
        In the cases that `validated_connection` lists.
    """
    uid = kernel.get("uid", os.geteuid())
    path = kernel["connection_file"]
    if uid == os.geteuid() and _is_own_file(path):
        return str(path)
    content = client.get(kernel_path(name, "connection"))
    connection = validated_connection(content, name, uid, kernel["owner"])
    words = (_file_name_part(str(word)) for word in (kernel["owner"], kernel["name"]))
    copy = copies_folder() / f"kernel-{'-'.join(words)}.json"
    write_private(copy, json.dumps(connection.to_file(), indent=1).encode())
    return str(copy)


def _file_name_part(word: str) -> str:
    """Percent-encode a word for a file name; a long word ends in a checksum of its whole text."""
    text = quote(word)
    if len(text) <= MAX_NAME_CHARS:
        return text
    import hashlib  # noqa: PLC0415  # few names are so long

    checksum = hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_CHARS]
    return f"{text[: MAX_NAME_CHARS - CHECKSUM_CHARS - 1]}.{checksum}"


def validated_connection(
    content: Mapping[str, Any], name: str, uid: int, owner: str
) -> ConnectionInfo:
    """Parse the connection of a kernel, and check that it leads to sockets of the owner.

    Parameters
    ----------
    content : mapping
        The connection, as the kernel's daemon sends it.
    name : str
        The kernel's name, as the caller spells it.
    uid, owner : int and str
        The uid and the login name of the daemon's owner, as `kconnd.client` reports them.

    Raises
    ------
    RefusedError
        If this user cannot reach the kernel's sockets, or if the connection leads to sockets of
        another user than the owner.
    UnreachableError
        If the connection is invalid.
    """
    is_own = uid == os.geteuid()
    try:
        connection = parse_connection(content) if is_own else parse_foreign_connection(content)
    except ValueError as error:
        raise UnreachableError(
            f"connecting to {name}: the daemon of {owner} sent an invalid connection: {error}",
            hint=f"kconnd-ctl why {name} may explain it",
        ) from None
    if not is_own:
        _check_reach(connection, name, uid, owner)
    return connection


def _check_reach(connection: ConnectionInfo, name: str, uid: int, owner: str) -> None:
    """Refuse a connection that leads to sockets of another user than the owner."""
    if connection.transport == "ipc" and os.geteuid() != 0:
        raise RefusedError(
            f"connecting to {name}: its sockets are in a folder that only {owner} and "
            "root can enter",
            hint="a profile with 'access' makes its kernel listen on tcp with CURVE instead",
        )
    if connection.transport == "ipc":
        invalid = [path for path in connection.socket_paths() if not _is_socket_of(path, uid)]
    else:
        invalid = _invalid_ports(connection, uid)
    if invalid:
        raise RefusedError(
            f"connecting to {name}: no kernel of {owner} listens on {invalid[0]}, which the "
            f"daemon of {owner} names, so nothing was sent there",
            hint=f"kconnd-ctl info {name} shows its state",
        )


def _is_socket_of(path: str, uid: int) -> bool:
    """Return whether a path is a Unix socket that belongs to an owner and is in the owner's folder.

    The client calls this function only if root runs the client. The owner of the folder can replace
    a socket by a link after this check. Root's client then sends a ZeroMQ greeting to the target of
    the link, and sends nothing more unless the target replies with a ZeroMQ greeting.
    """
    if not path.startswith(f"{owner_folder(uid)}/"):
        return False
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == uid


def _invalid_ports(connection: ConnectionInfo, uid: int) -> list[str]:
    """List the ports on which the owner does not listen; all ports if the address is not local."""
    ports = [f"{connection.ip} port {port}" for port in connection.ports]
    if not _is_local_address(connection.ip):
        return ports
    tables = [_read_table(name) for name in ("tcp", "tcp6")]
    own = [listener_uids(tables, connection.ip, port) == {uid} for port in connection.ports]
    return [port for port, is_own in zip(ports, own, strict=True) if not is_own]


def _read_table(name: str) -> str:
    """Read a table of TCP sockets; ``""`` if the system has no such table or hides it."""
    try:
        return Path("/proc/self/net", name).read_text(encoding="ascii")
    except OSError:
        return ""


def _is_local_address(ip: str) -> bool:
    """Return whether an address belongs to this machine, by binding a socket to it."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


def this_machine() -> str:
    """Return the id of this machine, in the form that published connection files contain."""
    return machine_id()


def _is_own_file(path: object) -> bool:
    """Return whether a path is a regular file of the caller and not a link."""
    if not isinstance(path, str):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):  # ValueError means that the path contains a NUL
        return False
    try:
        status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
    finally:
        os.close(descriptor)


def copies_folder() -> Path:
    """Create and return the folder for copies.

    With a front door, the folder for copies is in the folder that the front door creates for the
    caller's daemon. A folder below /tmp is not used then, because another user could create a
    folder of this name first. Copies are not stored with the connection files of the caller's own
    kernels, because the names could collide.

    Raises
    ------
    UnsafePathError
        If another user owns the folder or can write to it.
    """
    home = Path(owner_folder(os.geteuid()))
    if has_front_door() and not home.is_dir():
        # The start of the daemon creates the folder. An error is ignored, because a user who may
        # not start a daemon may still connect to other users' kernels.
        with contextlib.suppress(KconndError):
            Client(find_socket({})).get("/v1/health")
    if not home.is_dir():
        home = Path(resolve_folder(runtime_dir({}, os.geteuid(), lingers=False), os.geteuid()))
    ensure_private_dir(home)
    ensure_private_dir(home / "shared")
    return home / "shared"
