"""How another owner's kernel is reached, as that owner's daemon says: what is taken of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.connection import ConnectionInfo, CurveKeys, parse_foreign_connection
from kconnd.core.protocol.listening_ports import listener_uids

PORTS = (5001, 5002, 5003, 5004, 5005)
CURVE = CurveKeys("a" * 40, "b" * 40)
TCP = ConnectionInfo("tcp", "127.0.0.1", PORTS, "key", "python3", CURVE)
IPC = ConnectionInfo("ipc", "/run/kconnd/u/7/ipc/lab", (1, 2, 3, 4, 5), "key")


@pytest.mark.parametrize("known", [TCP, IPC])
def test_what_a_kernel_has_is_taken(known: ConnectionInfo) -> None:
    assert parse_foreign_connection(known.to_file()) == known


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("transport", ["udp", "pgm", "inproc", "TCP", "", None, 7, "tcp\n"]),
        (
            "ip",
            ["localhost", "example.org", "224.0.0.1", "ff02::1", "fe80::1%lo", "", None, "127.1"],
        ),
        ("shell_port", [0, -1, 65536, "5001", True, None, 1.5, 5002]),
        ("key", ["", None, 7, "k\n", "ä", "x" * 1001]),
        ("signature_scheme", ["hmac-md5", "none", "", "hmac-shake_128", 7]),
        ("curve_publickey", ["a" * 39, "", "ä" * 40, " " * 40, None, 7]),
        ("curve_secretkey", ["a" * 41, None]),
    ],
)
def test_what_no_kernel_has_is_refused(key: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=r"\w"):
            parse_foreign_connection({**TCP.to_file(), key: value})


@pytest.mark.parametrize(
    "path", ["run/x", "/run/../x", "/run//x", "/run/./x", "/run/x/", "", "/", "/run/x\n", "@x"]
)
def test_a_path_that_leads_up_is_none(path: str) -> None:
    with pytest.raises(ValueError, match="not the path of a socket"):
        parse_foreign_connection({**IPC.to_file(), "ip": path})


@pytest.mark.parametrize(("ip", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])  # noqa: S104  # read only
def test_every_address_is_the_loopback_one(ip: str, reached: str) -> None:
    assert parse_foreign_connection({**TCP.to_file(), "ip": ip}).ip == reached


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(sorted(TCP.to_file())), JUNK))
def test_junk_is_an_error_or_a_sound_connection(junk: dict[str, Any]) -> None:
    try:
        found = parse_foreign_connection({**TCP.to_file(), **junk})
    except ValueError:
        return
    assert found.transport in {"tcp", "ipc"}
    assert found.key
    assert found.url("shell").startswith(f"{found.transport}://")


# --- who listens

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"


def row(address: str, port: int, uid: int, state: str = "0A") -> str:
    zeros = "0" * len(address)
    return f"0: {address}:{port:04X} {zeros}:0000 {state} 0:0 00:0 0 {uid} 0 4711 1"


LOOP, ANY = "0100007F", "00000000"
LOOP6, ANY6 = "0" * 24 + "01000000", "0" * 32
MAPPED = "0" * 16 + "FFFF0000" + LOOP
OTHER = "0200007F"


@pytest.mark.parametrize(
    ("ip", "rows", "uids"),
    [
        ("127.0.0.1", [row(LOOP, 5001, 7)], {7}),
        ("127.0.0.1", [row(LOOP, 5002, 7)], set()),
        ("127.0.0.1", [row(LOOP, 5001, 7, "01")], set()),
        ("127.0.0.1", [row(ANY, 5001, 7)], {7}),
        ("127.0.0.1", [row(ANY, 5001, 7), row(LOOP, 5001, 8)], {8}),
        ("127.0.0.1", [row(OTHER, 5001, 7), row(LOOP, 5001, 0)], {0}),
        ("127.0.0.1", [row(OTHER, 5001, 7)], set()),
        ("127.0.0.1", [row(LOOP, 5001, 7), row(LOOP, 5001, 8)], {7, 8}),
        ("127.0.0.1", [row(MAPPED, 5001, 7)], {7}),
        ("127.0.0.1", [row(ANY6, 5001, 7)], {7}),
        ("127.0.0.1", [row(LOOP6, 5001, 7)], set()),
        ("::1", [row(LOOP6, 5001, 7)], {7}),
        ("::1", [row(LOOP, 5001, 7)], set()),
        ("::1", [row(ANY6, 5001, 7)], {7}),
        ("::1", [row(ANY, 5001, 7)], set()),
    ],
)
def test_who_gets_what_is_sent_to_a_port(ip: str, rows: list[str], uids: set[int]) -> None:
    assert listener_uids(["\n".join([HEAD, *rows]), ""], ip, 5001) == uids
    assert listener_uids([HEAD, "\n".join([HEAD, *rows])], ip, 5001) == uids
