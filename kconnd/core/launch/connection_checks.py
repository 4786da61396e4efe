"""Checks the arguments from which a connection file is written; each error names its argument.

All functions are pure. An invalid argument raises a ``ValueError``.
"""

import hashlib
from collections.abc import Mapping

from kconnd.core.launch.connection import CurveKeys
from kconnd.core.launch.kernel_files import MAX_SOCKET_PATH_BYTES

DEFAULT_IP = "127.0.0.1"
LAST_PORT = 65535
Z85_LENGTH = 40  # characters of a CURVE key: RFC 32 of ZeroMQ


def check_ports(ports: Mapping[str, int]) -> None:
    """Check that each port is valid or 0, and that no port occurs twice.

    ``ports`` maps each argument's name to its value.
    """
    seen: dict[int, str] = {}
    for name, port in ports.items():
        if type(port) is not int or not 0 <= port <= LAST_PORT:
            raise ValueError(f"{name}: {port!r} is not a port from 0 to {LAST_PORT}")
        if port and port in seen:
            raise ValueError(f"{name}: {port} is also the {seen[port]}")
        seen[port] = name


def as_text(given: bytes | str, name: str) -> str:
    """Decode an argument that may be bytes; ``name`` is the argument's name."""
    if isinstance(given, str):
        return given
    try:
        return given.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: its bytes are not UTF-8 text ({error.reason})") from None


def check_transport(transport: str) -> None:
    """Check the name of a transport."""
    if transport not in {"tcp", "ipc"}:
        raise ValueError(f"transport: {transport!r} is neither 'tcp' nor 'ipc'")


def check_scheme(scheme: str) -> None:
    """Check the name of a signature scheme; its hash has to exist in `hashlib`."""
    kind, _, name = scheme.partition("-")
    if kind != "hmac" or name not in hashlib.algorithms_available or name.startswith("shake"):
        raise ValueError(f"signature_scheme: {scheme!r} is not hmac-HASH, such as hmac-sha256")


def curve_keys(public: str, secret: str) -> CurveKeys | None:
    """Check a pair of CURVE keys; return None if both are missing."""
    if not public and not secret:
        return None
    for name, value in (("curve_publickey", public), ("curve_secretkey", secret)):
        if len(value) != Z85_LENGTH:
            raise ValueError(f"{name}: it is not {Z85_LENGTH} characters of Z85 text")
    return CurveKeys(public, secret)


def ipc_address(stem: str, ip: str, ports: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Choose the prefix and the suffixes of the paths of Unix sockets.

    Parameters
    ----------
    stem : str
        The path of the connection file without ``.json``, from which the default prefix follows.
    ip : str
        The prefix; ``127.0.0.1`` means the default prefix.
    ports : tuple of int
        The suffixes; a suffix of 0 is replaced by a number that is not yet used.
    """
    prefix = ip if ip != DEFAULT_IP else f"{stem}-ipc"
    free = (number for number in range(1, LAST_PORT) if number not in ports)
    chosen = tuple(port or next(free) for port in ports)
    longest = f"{prefix}-{max(chosen)}"
    if len(longest.encode(errors="surrogateescape")) > MAX_SOCKET_PATH_BYTES:
        name = "ip" if ip != DEFAULT_IP else "fname"
        raise ValueError(
            f"{name}: {longest} is longer than the {MAX_SOCKET_PATH_BYTES} bytes of a socket's "
            "path; pass a shorter ip, or transport='tcp'"
        )
    return prefix, chosen
