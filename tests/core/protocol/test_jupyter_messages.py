"""Jupyter messages are packed, signed and parsed; garbage is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.protocol.jupyter_messages import (
    DELIMITER,
    Signer,
    may_have_type,
    pack_request,
    parse_message,
)
from tests.core.samples import TEXT


@given(TEXT, st.dictionaries(TEXT, st.integers()))
def test_a_message_is_read_by_who_has_the_key_and_by_nobody_else(
    key: str, content: dict[str, int]
) -> None:
    frames = pack_request("x", content, message_id="1", date="now", signer=Signer(key))
    message = parse_message([b"identity", *frames], Signer(key))
    assert message is not None
    assert (message.kind, message.content) == ("x", content)
    assert may_have_type("x", frames)
    assert not may_have_type("y", frames)
    assert parse_message(frames, Signer(key + "x")) is None


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_garbage_is_no_message(frames: list[bytes]) -> None:
    assert parse_message(frames, Signer("k")) is None
    may_have_type("x", frames)  # must not raise
    unsigned = [DELIMITER, b"", *frames]
    parse_message(unsigned, Signer(""))  # must not raise
    parse_message([DELIMITER, b"", *[b"[" * 20_000] * 4], Signer(""))  # nor for a thousand brackets


@pytest.mark.parametrize(
    ("header", "subshell"),
    [({"subshell_id": "s1"}, "s1"), ({"subshell_id": None}, ""), ({}, "")],
)
def test_the_parent_names_its_subshell(header: dict[str, object], subshell: str) -> None:
    parts = [json.dumps(part).encode() for part in ({"msg_type": "status"}, header, {}, {})]
    message = parse_message([DELIMITER, Signer("k").sign(parts), *parts], Signer("k"))
    assert message is not None
    assert message.parent_subshell == subshell
