"""How many clients are connected to a kernel, read off the system's tables of sockets.

Sources: proc_pid_net(5) for ``/proc/net/tcp``, ``tcp6`` and ``unix``. Pure: text in, number
out. A kernel's side of each connection is counted: with tcp the local address has the
kernel's port; with ipc the accepted socket carries the path of the listening one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

_TCP_ESTABLISHED = "01"
_UNIX_CONNECTED = "03"
_UNIX_FIELDS = 8


def count_tcp(tables: Iterable[str], ports: Sequence[int]) -> Counter[int]:
    """Count established connections for each of these local ports."""
    wanted = set(ports)
    found: Counter[int] = Counter()
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == _TCP_ESTABLISHED and port in wanted:
                found[port] += 1
    return found


def count_unix(table: str, paths: Sequence[str]) -> Counter[str]:
    """Count accepted connections for each of these socket paths."""
    wanted = set(paths)
    found: Counter[str] = Counter()
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=_UNIX_FIELDS - 1)
        if len(fields) == _UNIX_FIELDS and fields[5] == _UNIX_CONNECTED and fields[7] in wanted:
            found[fields[7]] += 1
    return found
