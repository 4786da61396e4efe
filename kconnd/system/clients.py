"""See who is connected to a kernel. Where that cannot be read, it says so with None."""

from pathlib import Path

from kconnd.core.clients import count_tcp, count_unix
from kconnd.core.connection import CHANNELS, ConnectionInfo

OURS = {"control": 1, "iopub": 1, "hb": 1}  # what `kconnd.system.channels` holds open


def connected_clients(connection: ConnectionInfo) -> int | None:
    """Count the clients of a kernel, the daemon itself not among them.

    Returns
    -------
    int or None
        The most connections that any one channel has; None where it cannot be read.
    """
    try:
        counts = _connections(connection)
    except (OSError, ValueError, IndexError):
        return None
    beyond = (counts[name] - OURS.get(name, 0) for name in CHANNELS)
    return max(0, *beyond)


def _connections(connection: ConnectionInfo) -> dict[str, int]:
    net = Path("/proc/self/net")
    if connection.transport == "ipc":
        paths = connection.socket_paths()
        by_path = count_unix((net / "unix").read_text(encoding="utf-8"), paths)
        return {name: by_path[path] for name, path in zip(CHANNELS, paths, strict=True)}
    tables = [path.read_text(encoding="ascii") for path in (net / "tcp", net / "tcp6")]
    by_port = count_tcp(tables, connection.ports)
    return {name: by_port[port] for name, port in zip(CHANNELS, connection.ports, strict=True)}
