"""Connection info: the data with which a client reaches a kernel, as in a connection file.

The format is Jupyter's ("Connection files" in the jupyter_client documentation); the CURVE fields
are those of jupyter_client 8.9 and ipykernel 7.3. The HMAC key and the CURVE keys are secret.
`to_file` returns them; ``repr`` and `describe` omit them.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
SCHEME = "hmac-sha256"
SCHEMES = frozenset(f"hmac-{name}" for name in ("sha256", "sha384", "sha512", "sha3_256"))
MAX_KEY_CHARS = 1000
MAX_PORT = 65535
Z85_CHARS = 40  # the length of a CURVE key
_Z85 = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)  # ZeroMQ RFC 32
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # addresses to connect to

T = TypeVar("T")


@dataclass(frozen=True)
class CurveKeys:
    """A CURVE key pair as Z85 text.

    The public key is secret as well, because it gives access to iopub.
    """

    public: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ConnectionInfo:
    """The content of a connection file.

    Parameters
    ----------
    transport : str
        ``tcp`` or ``ipc``.
    ip : str
        The address that the kernel listens on; with ipc, the prefix of the sockets' paths.
    ports : tuple of int
        Five ports, in the order of `CHANNELS`; with ipc, the suffixes of the sockets' paths.
    key : str
        The HMAC key as text.
    kernel_name : str
        The name of the kernel spec, which clients show.
    curve : CurveKeys, optional
        The keys of encrypted channels; None if the channels are not encrypted.
    signature_scheme : str
        ``hmac-`` and the name of a hash in `hashlib`.
    """

    transport: str
    ip: str
    ports: tuple[int, ...]
    key: str = field(repr=False)
    kernel_name: str = ""
    curve: CurveKeys | None = None
    signature_scheme: str = SCHEME

    def url(self, channel: str) -> str:
        """Return the ZMQ endpoint of a channel."""
        port = self.ports[CHANNELS.index(channel)]
        if self.transport == "ipc":
            return f"ipc://{self.ip}-{port}"
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"tcp://{host}:{port}"

    def socket_paths(self) -> tuple[str, ...]:
        """Return the paths of the kernel's Unix sockets; empty with tcp."""
        if self.transport != "ipc":
            return ()
        return tuple(f"{self.ip}-{port}" for port in self.ports)

    def stray_paths(self) -> tuple[str, ...]:
        """Return the socket paths of a kernel that wrongly writes ``:`` for ``-``.

        The result is empty with tcp.
        """
        if self.transport != "ipc":
            return ()
        return tuple(f"{self.ip}:{port}" for port in self.ports)

    def describe(self) -> dict[str, Any]:
        """Return all fields except the keys, for users who may see the kernel."""
        ports = {f"{name}_port": port for name, port in zip(CHANNELS, self.ports, strict=True)}
        return {
            "transport": self.transport,
            "ip": self.ip,
            **ports,
            "signature_scheme": self.signature_scheme,
            "kernel_name": self.kernel_name,
            "encrypted": self.curve is not None,
        }

    def to_file(self) -> dict[str, Any]:
        """Return the content of the connection file, secrets included."""
        content = self.describe() | {"key": self.key}
        del content["encrypted"]
        if self.curve is not None:
            content |= {"curve_publickey": self.curve.public, "curve_secretkey": self.curve.secret}
        return content


def parse_connection(content: Mapping[str, Any]) -> ConnectionInfo:
    """Parse the content of a connection file.

    Raises
    ------
    ValueError
        If a field is missing or has a wrong type. The message names the field.
    """
    ports = tuple(_field(content, f"{name}_port", int) for name in CHANNELS)
    curve = None
    if "curve_publickey" in content:
        curve = CurveKeys(
            _field(content, "curve_publickey", str), _field(content, "curve_secretkey", str)
        )
    return ConnectionInfo(
        transport=_field(content, "transport", str),
        ip=_field(content, "ip", str),
        ports=ports,
        key=_field(content, "key", str),
        kernel_name=str(content.get("kernel_name", "")),
        curve=curve,
        signature_scheme=str(content.get("signature_scheme", SCHEME)),
    )


def parse_foreign_connection(content: Mapping[str, Any]) -> ConnectionInfo:
    """Parse the untrusted connection info of another owner's kernel.

    If the kernel listens on all addresses of this machine, the ``ip`` of the result is the loopback
    address.

    Raises
    ------
    ValueError
        If a field is missing or has a wrong type, or if a value is impossible for a kernel of
        kconnd, such as an unknown transport, a host name instead of an address, or an empty key.
    """
    connection = parse_connection(content)
    if connection.transport == "ipc":
        _check(_is_plain_path(connection.ip), "ip is not the path of a socket")
    else:
        _check(connection.transport == "tcp", "transport is neither tcp nor ipc")
        connection = replace(connection, ip=_address(connection.ip))
    ports = connection.ports
    _check(all(0 < port <= MAX_PORT for port in ports), "a port is out of range")
    _check(len(set(ports)) == len(ports), "two ports are the same")
    key, curve = connection.key, connection.curve
    _check(0 < len(key) <= MAX_KEY_CHARS, "key is empty or too long")
    _check(key.isascii() and key.isprintable(), "key is not printable ASCII")
    _check(connection.signature_scheme in SCHEMES, "signature_scheme is not known")
    _check(curve is None or _are_z85(curve.public, curve.secret), "a CURVE key is not Z85 text")
    return connection


def _check(holds: bool, fault: str) -> None:  # noqa: FBT001  # the condition
    if not holds:
        raise ValueError(fault)


def _is_plain_path(path: str) -> bool:
    """Return whether a path is absolute and has no empty parts, ``.`` or ``..``."""
    parts = path.split("/")
    return path.isprintable() and path.startswith("/") and not {"", ".", ".."} & set(parts[1:])


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("ip is not a numeric address") from None
    _check("%" not in text and not address.is_multicast, "ip is not the address of one machine")
    return _WILDCARDS.get(str(address), str(address))


def _are_z85(*keys: str) -> bool:
    return all(len(key) == Z85_CHARS and _Z85.issuperset(key) for key in keys)


def _field(content: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is missing or is not {kind.__name__}")  # noqa: TRY004  # bad data
    return value
