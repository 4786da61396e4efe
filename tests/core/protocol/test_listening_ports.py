"""The users that listen on a port, in tables as Linux writes them."""

import sys

import pytest

from kconnd.core.protocol.listening_ports import listener_uids

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout\n"
)
LOOPBACK, ANY, OTHER = "0100007F", "00000000", "0200007F"
PORT = 0x7530


def table(*rows: tuple[str, str, int], port: int = PORT) -> str:
    """Write a table of sockets, each with its local address, state and user."""
    lines = (
        f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000"
        f" {uid:5d}        0 12345 1 0000000000000000 100 0 0 10 0\n"
        for address, state, uid in rows
    )
    return HEAD + "".join(lines)


@pytest.mark.skipif(sys.byteorder == "big", reason="the addresses above are little-endian")
@pytest.mark.parametrize(
    ("rows", "uids"),
    [
        ([(LOOPBACK, "0A", 7)], {7}),
        ([(LOOPBACK, "01", 7)], set()),  # a connection
        ([(OTHER, "0A", 7)], set()),
        ([(ANY, "0A", 7)], {7}),
        ([(ANY, "0A", 7), (LOOPBACK, "0A", 8)], {8}),  # it gets the connections
        ([(LOOPBACK, "0A", 7), (LOOPBACK, "0A", 8)], {7, 8}),  # SO_REUSEPORT
    ],
)
def test_the_closest_listeners_count(rows: list[tuple[str, str, int]], uids: set[int]) -> None:
    assert listener_uids([table(*rows)], "127.0.0.1", PORT) == uids
    assert listener_uids([table(*rows, port=1)], "127.0.0.1", PORT) == set()


def test_sockets_of_ipv6_listen_on_addresses_of_ipv4_too() -> None:
    mapped, wildcard = f"{'0' * 16}FFFF0000{LOOPBACK}", "0" * 32
    if sys.byteorder == "little":
        assert listener_uids([HEAD, table((mapped, "0A", 7))], "127.0.0.1", PORT) == {7}
    assert listener_uids([HEAD, table((wildcard, "0A", 7))], "127.0.0.1", PORT) == {7}
    assert listener_uids([table((ANY, "0A", 7))], "::1", PORT) == set()
