"""Whether a new client can attach, from what can be seen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.reachability import (
    BOUND_INSTEAD,
    REQUIRED_CHANNELS,
    Listener,
    find_ipc_fault,
    find_tcp_fault,
    parse_listeners,
    parse_unix_listeners,
)
from kconnd.core.launch.connection import CHANNELS, ConnectionInfo

TCP = ConnectionInfo("tcp", "127.0.0.1", (11, 12, 13, 14, 15), "k")
IPC = ConnectionInfo("ipc", "/run/k", (1, 2, 3, 4, 5), "k")
ALL = frozenset(Listener(port, 100 + port) for port in TCP.ports)
OWN = {one.inode for one in ALL}

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:000B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:000C 0100007F:8888 01 00000000:00000000 00:00000000 00000000     0        0 112 1
"""


def test_listeners_are_read_and_connections_are_not() -> None:
    assert parse_listeners([TABLE, TABLE.splitlines()[0]]) == {Listener(11, 111)}


def test_a_listener_on_every_address_is_marked() -> None:
    everywhere = TABLE.replace("0100007F:000B", "00000000:000B")
    assert parse_listeners([everywhere]) == {Listener(11, 111, on_every_address=True)}
    six = TABLE.replace("0100007F:000B", f"{'0' * 32}:000B")
    assert parse_listeners([six]) == {Listener(11, 111, on_every_address=True)}


UNIX_TABLE = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 17 /run/k-1
0000000000000000: 00000002 00000000 00010000 0001 01 18 /run/with space-1
0000000000000000: 00000003 00000000 00000000 0001 03 19 /run/k-1
0000000000000000: 00000002 00000000 00010000 0001 01 20
"""


def test_only_unix_sockets_that_listen_at_a_path_are_read() -> None:
    assert parse_unix_listeners(UNIX_TABLE) == {17: "/run/k-1", 18: "/run/with space-1"}


@given(st.sets(st.sampled_from(CHANNELS)))
def test_each_channel_that_clients_need_is_missed(dead: set[str]) -> None:
    ports = {channel: TCP.ports[CHANNELS.index(channel)] for channel in dead}
    left = {one for one in ALL if one.port not in ports.values()}
    fault = find_tcp_fault(TCP, left, OWN)
    paths = {IPC.socket_paths()[CHANNELS.index(channel)] for channel in dead}
    ipc_fault = find_ipc_fault(IPC, lambda path: path not in paths)
    needed = [channel for channel in REQUIRED_CHANNELS if channel in dead]
    assert bool(fault) == bool(ipc_fault) == bool(needed)
    for channel in needed:
        assert channel in fault
        assert channel in ipc_fault
        assert str(ports[channel]) in fault


def test_what_it_has_bound_instead_is_told() -> None:
    moved = {replace(one, port=one.port + 1000) for one in ALL}
    fault = find_tcp_fault(TCP, moved, OWN)
    assert f"{BOUND_INSTEAD} 1011, 1012, 1013, 1014, 1015" in fault
    assert BOUND_INSTEAD not in find_tcp_fault(TCP, moved, ())


@pytest.mark.parametrize("channel", REQUIRED_CHANNELS)
def test_another_program_on_one_of_its_ports_is_told(channel: str) -> None:
    port = TCP.ports[CHANNELS.index(channel)]
    strange = {one for one in ALL if one.port != port} | {Listener(port, 9)}
    fault = find_tcp_fault(TCP, strange, OWN)
    assert fault == f"another program listens on its {channel} channel ({port})"


def test_a_proxy_that_listens_for_all_of_them_is_no_fault() -> None:
    """As where the kernel is in a container: its processes are not seen, or have no socket."""
    assert find_tcp_fault(TCP, ALL, ()) == ""
    assert find_tcp_fault(TCP, ALL, {7}) == ""
