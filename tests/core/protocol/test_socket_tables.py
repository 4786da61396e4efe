"""Clients are counted from the kernel's socket tables."""

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.protocol.socket_tables import (
    Connection,
    count_clients,
    parse_unix_diag,
    tcp_connections,
    unix_connections,
)

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:4E20 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:9C40 0100007F:4E20 01 00000000:00000000 00:00000000 00000000     0        0 3 1
"""


def test_clients_are_counted_on_the_kernels_side() -> None:
    found = list(tcp_connections([TCP], [20000]))
    assert found == [Connection("20000", 3)]
    assert count_clients(found, {3}) == 0
    sockets: list[dict[str, int | str]] = [
        {"state": 10, "path": "/r/lab-1", "peer": 0},
        {"state": 1, "path": "/r/lab-1", "peer": 7},
        {"state": 1, "path": "/r/lab-1", "peer": 8},
        {"state": 1, "path": "/r/lab-2", "peer": 9},
        {"state": 1, "path": "/r/other", "peer": 10},
    ]
    of_lab = list(unix_connections(sockets, {"/r/lab-1", "/r/lab-2"}))
    assert count_clients(of_lab, set()) == 2
    assert count_clients(of_lab, {7}) == 1


@given(st.binary(max_size=200))
def test_garbage_from_the_system_ends_and_does_no_harm(reply: bytes) -> None:
    with contextlib.suppress(OSError, struct.error):
        parse_unix_diag(reply)
