"""The sockets of a kernel that its connection file does not account for."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.exposure import REWRITTEN, describe_exposure, describe_rewriting
from kconnd.core.kernel.reachability import Listener
from kconnd.core.launch.connection import ConnectionInfo, CurveKeys

TCP = ConnectionInfo("tcp", "127.0.0.1", (11, 12, 13, 14, 15), "k")
EVERYWHERE = replace(TCP, ip="0.0.0.0")  # noqa: S104  # the profile's own wish
IPC = ConnectionInfo("ipc", "/run/k", (1, 2, 3, 4, 5), "k")


def listeners(*ports: int, everywhere: bool = False) -> list[Listener]:
    return [Listener(port, port, on_every_address=everywhere) for port in ports]


def quiet(_port: int) -> str:
    """Do not speak ZMTP."""
    return ""


@pytest.mark.parametrize(
    ("connection", "sockets"),
    [
        (TCP, listeners(*TCP.ports)),
        (EVERYWHERE, listeners(*TCP.ports, everywhere=True)),
        (IPC, []),
        (TCP, []),
    ],
)
def test_a_kernel_that_listens_as_told_is_not_warned_about(
    connection: ConnectionInfo, sockets: list[Listener]
) -> None:
    assert describe_exposure(connection, sockets, quiet) == ()


def test_every_address_is_warned_about() -> None:
    (warning,) = describe_exposure(TCP, listeners(*TCP.ports, everywhere=True), quiet)
    assert "every address of this machine, not only on 127.0.0.1" in warning
    assert "ports 11, 12, 13, 14, 15" in warning
    assert "everybody who can reach the machine can read its output" in warning
    encrypted = replace(TCP, curve=CurveKeys("p", "s"))
    (warning,) = describe_exposure(encrypted, listeners(11, everywhere=True), quiet)
    assert "can read" not in warning


def test_a_port_that_is_not_in_the_connection_file_is_warned_about() -> None:
    sockets = [*listeners(*TCP.ports), *listeners(5005)]
    assert describe_exposure(TCP, sockets, quiet) == (
        "it also listens on port 5005, not in its connection file",
    )
    (warning,) = describe_exposure(IPC, listeners(*range(11, 18), everywhere=True), quiet)
    assert "on every address of this machine on ports 11, 12, 13, 14, 15 and 2 more" in warning


def test_a_zmq_socket_of_its_own_on_loopback_is_no_exposure() -> None:
    assert describe_exposure(IPC, listeners(5005), lambda _port: "NULL") == ()
    assert describe_exposure(IPC, listeners(5005, everywhere=True), lambda _port: "NULL")


WRITTEN = replace(TCP, curve=CurveKeys("PUBL1C", "S3CRET"), key="K3Y").to_file()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ip": "0.0.0.0"}, "(ip 127.0.0.1 → 0.0.0.0)"),  # noqa: S104  # a text
        (
            {"shell_port": 1, "hb_port": None},
            "(shell_port 11 → 1, hb_port 15 → None)",
        ),
        ({"key": "stolen"}, "(another key)"),
        ({"curve_secretkey": "N3W"}, "(another curve_secretkey)"),
        ({"more": 1}, "(another more)"),
    ],
)
def test_a_rewritten_file_is_compared_and_its_secrets_are_not_shown(
    changes: dict[str, object], text: str
) -> None:
    warning = describe_rewriting(WRITTEN, json.dumps({**WRITTEN, **changes}).encode())
    assert warning.startswith(f"{REWRITTEN} {text}; ")
    for secret in ("K3Y", "S3CRET", "stolen", "N3W"):
        assert secret not in warning


def test_a_file_in_another_form_is_the_same() -> None:
    content = dict(reversed(WRITTEN.items()))
    assert describe_rewriting(WRITTEN, json.dumps(content, indent=9).encode()) == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_object_is_named_as_that(content: bytes) -> None:
    assert "(it is no JSON object any more)" in describe_rewriting(WRITTEN, content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda part: st.lists(part, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*WRITTEN]) | st.text(), JSON, max_size=4))
def test_any_content_can_be_described(content: dict[str, object]) -> None:
    warning = describe_rewriting(WRITTEN, json.dumps(content).encode())
    assert bool(warning) is (content != WRITTEN)
