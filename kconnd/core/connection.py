"""What a client has to know to talk to a kernel, and how it stands in a connection file.

The format is Jupyter's ("Connection files" in the jupyter_client documentation); the CURVE
fields are those of jupyter_client 8.9 and ipykernel 7.3. Rule: the key and the CURVE keys
are in here and in `to_file`, never in a ``repr`` and never in `describe`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
SCHEME = "hmac-sha256"

T = TypeVar("T")


@dataclass(frozen=True)
class CurveKeys:
    """A CURVE key pair, Z85 text. The public one admits to iopub, so it is a secret too."""

    public: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ConnectionInfo:
    """Everything that a connection file says.

    Parameters
    ----------
    transport : str
        ``tcp`` or ``ipc``.
    ip : str
        An address; with ipc, the path that the sockets' paths begin with.
    ports : tuple of int
        Five, in the order of `CHANNELS`; with ipc, the numbers that end the sockets' paths.
    key : str
        Text whose bytes are the HMAC key.
    kernel_name : str
        The name of the kernel spec, for clients to show.
    curve : CurveKeys, optional
        Set where the channels are encrypted.
    signature_scheme : str
        ``hmac-`` and a hash of `hashlib`.
    """

    transport: str
    ip: str
    ports: tuple[int, ...]
    key: str = field(repr=False)
    kernel_name: str = ""
    curve: CurveKeys | None = None
    signature_scheme: str = SCHEME

    def url(self, channel: str) -> str:
        """Give the ZMQ endpoint of a channel."""
        port = self.ports[CHANNELS.index(channel)]
        if self.transport == "ipc":
            return f"ipc://{self.ip}-{port}"
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"tcp://{host}:{port}"

    def socket_paths(self) -> tuple[str, ...]:
        """Give the paths of the sockets; none with tcp."""
        if self.transport != "ipc":
            return ()
        return tuple(f"{self.ip}-{port}" for port in self.ports)

    def describe(self) -> dict[str, Any]:
        """Give what anyone who may see the kernel may know: all but the keys."""
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
        """Give the connection file's content, secrets and all."""
        content = self.describe() | {"key": self.key}
        del content["encrypted"]
        if self.curve is not None:
            content |= {"curve_publickey": self.curve.public, "curve_secretkey": self.curve.secret}
        return content


def parse_connection(content: Mapping[str, Any]) -> ConnectionInfo:
    """Read a connection file's content.

    Raises
    ------
    ValueError
        If a field is missing or has a wrong type; the text names the field.
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


def _field(content: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is missing or is not {kind.__name__}")  # noqa: TRY004
    return value
