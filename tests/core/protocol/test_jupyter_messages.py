"""Jupyter messages are packed, signed and parsed; garbage is refused."""

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
