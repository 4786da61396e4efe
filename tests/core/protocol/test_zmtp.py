"""ZMTP as bytes: whatever pieces it comes in, it is the same messages; and no more is kept."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.protocol.zmtp import (
    GREETING,
    MAX_MESSAGE_BYTES,
    MessageReader,
    pack_message,
    pack_ready,
)

frames = st.binary(max_size=255) | st.integers(256, 5000).map(bytes)
messages = st.lists(st.lists(frames, min_size=1, max_size=5), max_size=6)


def long_frame(size: int, *, more: bool = False) -> bytes:
    return bytes((3 if more else 2,)) + size.to_bytes(8, "big") + bytes(size)


def greeted() -> MessageReader:
    reader = MessageReader()
    assert reader.feed(GREETING + pack_ready("PUB")) == []
    return reader


@given(messages, st.lists(st.integers(1, 400)))
def test_messages_are_the_same_in_whatever_pieces_they_come(
    said: list[list[bytes]], pieces: list[int]
) -> None:
    stream = GREETING + pack_ready("ROUTER") + b"".join(pack_message(*one) for one in said)
    reader, heard = MessageReader(), []
    for size in [*pieces, len(stream)]:
        heard += reader.feed(stream[:size])
        stream = stream[size:]
    assert heard == said
    assert reader.ready


def test_nothing_may_be_sent_before_the_other_side_is_ready() -> None:
    reader = MessageReader()
    reader.feed(GREETING + b"\x04\x05\x04PING")
    assert not reader.ready
    reader.feed(pack_ready("PUB"))
    assert reader.ready


@given(
    size=st.integers(MAX_MESSAGE_BYTES + 1, 3 * MAX_MESSAGE_BYTES),
    piece=st.integers(500, MAX_MESSAGE_BYTES),
    more=st.booleans(),
)
def test_a_message_that_is_too_long_is_skipped_and_the_next_one_read(
    *, size: int, piece: int, more: bool
) -> None:
    """A kernel that prints a gigabyte does not have it lie in the daemon."""
    reader, heard = greeted(), []
    stream = long_frame(size, more=more) + (pack_message(b"its end") if more else b"")
    stream += pack_message(b"next")
    while stream:
        heard += reader.feed(stream[:piece])
        stream = stream[piece:]
        assert kept(reader) <= MAX_MESSAGE_BYTES + piece
    assert heard == [[b"next"]]


def kept(reader: MessageReader) -> int:
    return len(reader._pending) + sum(map(len, reader._frames))


def test_a_message_of_very_many_frames_is_skipped_too() -> None:
    reader = greeted()
    for _ in range(1000):
        assert reader.feed(pack_message(*[b""] * 1000)[:-2] + b"\x01\x00") == []
    assert sys.getsizeof(reader._frames) < 10 * MAX_MESSAGE_BYTES
    assert reader.feed(pack_message(b"its end") + pack_message(b"next")) == [[b"next"]]


def test_a_long_frame_that_fits_is_read() -> None:
    assert greeted().feed(long_frame(1000)) == [[bytes(1000)]]


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 400 Bad Request\r\n".ljust(64),
        GREETING.replace(b"\x7f\x03", b"\x7f\x01"),
        GREETING.replace(b"NULL\0", b"CURVE"),
        GREETING + b"\x04\x07\x05ERROR\x00",
    ],
    ids=["http", "old", "encrypted", "refused"],
)
def test_what_is_not_this_protocol_is_told(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"not speak ZMTP|security|refused"):
        MessageReader().feed(stream)
