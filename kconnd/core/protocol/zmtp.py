"""A subset of ZMTP 3.0, sufficient to subscribe to a kernel and to send requests.

Source: RFC 23 of ZeroMQ (https://rfc.zeromq.org/spec/23/): each side sends a greeting, then a READY
command, then messages, which consist of frames. Nothing is encrypted, because the permissions of
the socket's folder control access. libzmq is not used, because it needs 40 kB for each idle
connection.

Rule: a message that is too long is discarded while it arrives; no part of the message is kept.
"""

ZMTP_VERSION = 3
MECHANISM = b"NULL".ljust(20, b"\0")
GREETING = b"\xff" + bytes(8) + b"\x7f" + bytes((ZMTP_VERSION, 0)) + MECHANISM + bytes(32)
SUBSCRIBE = b"\x01"  # a subscription is a message: this byte, then the topic prefix
MAX_SHORT_FRAME_BYTES = 255  # the longest frame whose length field has one byte
MAX_MESSAGE_BYTES = 1 << 16  # a status message of a kernel has about 1500 bytes

_MORE, _LONG, _COMMAND = 1, 2, 4
_READY, _ERROR = b"\x05READY", b"\x05ERROR"


def pack_ready(kind: str) -> bytes:
    """Build the READY command, which contains the type of the daemon's socket."""
    name, value = b"Socket-Type", kind.encode()
    body = _READY + bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value
    return bytes((_COMMAND, len(body))) + body


def pack_message(*frames: bytes) -> bytes:
    """Build a message from frames."""
    last = len(frames) - 1
    return b"".join(_pack_frame(frame, more=at < last) for at, frame in enumerate(frames))


def _pack_frame(frame: bytes, *, more: bool) -> bytes:
    flags, size = _MORE if more else 0, len(frame)
    if size <= MAX_SHORT_FRAME_BYTES:
        return bytes((flags, size)) + frame
    return bytes((flags | _LONG,)) + size.to_bytes(8, "big") + frame


class MessageReader:
    """Parses the byte stream of the peer, piece by piece.

    Parameters
    ----------
    max_bytes : int
        The size of the longest message to accept.
    """

    __slots__ = ("_frames", "_greeted", "_max_bytes", "_pending", "_size", "_skip", "ready")

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        # Whether the peer's READY has arrived. Before READY arrives, no message may be sent.
        self.ready = False
        self._greeted = False
        self._pending = b""  # an incomplete greeting or frame
        self._skip = 0  # how many bytes of a frame that is too long are still to arrive
        self._frames: list[bytes] = []  # the frames of an incomplete message
        self._size = 0  # the bytes of the incomplete message so far

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Parse the next bytes of the stream, and return the messages that are complete now.

        Raises
        ------
        ValueError
            If the peer does not speak ZMTP 3 or has refused the connection.
        """
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        data, at = self._pending + data[skipped:], 0
        if not self._greeted and len(data) >= len(GREETING):
            _check_greeting(data)
            self._greeted, at = True, len(GREETING)
        messages: list[list[bytes]] = []
        while self._greeted and (head := _parse_head(data, at)):
            flags, begin, end = head
            if end > len(data) and end - begin <= self._max_bytes:
                break
            self._add_frame(flags, data[begin:end], end - at, messages)
            self._skip, at = max(0, end - len(data)), min(end, len(data))
        self._pending = data[at:]
        return messages

    def _add_frame(self, flags: int, body: bytes, size: int, messages: list[list[bytes]]) -> None:
        """Process a frame; ``body`` is incomplete if the frame is too long."""
        if flags & _COMMAND:
            if body.startswith(_ERROR):
                raise ValueError("the peer refused the connection")
            self.ready = self.ready or body.startswith(_READY)
            return
        self._size += size
        if self._size <= self._max_bytes:
            self._frames.append(body)
        if flags & _MORE:
            return
        if self._size <= self._max_bytes:
            messages.append(self._frames)
        self._frames, self._size = [], 0


def parse_mechanism(greeting: bytes) -> str:
    """Return the security mechanism in a greeting; ``""`` for an incomplete or invalid greeting."""
    try:
        if len(greeting) < len(GREETING):
            return ""
        _check_signature(greeting)
        return greeting[12:32].rstrip(b"\0").decode("ascii")
    except ValueError:
        return ""


def _check_signature(data: bytes) -> None:
    if data[0] != GREETING[0] or data[9] != GREETING[9] or data[10] < ZMTP_VERSION:
        raise ValueError("the peer does not speak ZMTP 3")


def _check_greeting(data: bytes) -> None:
    _check_signature(data)
    if data[12:32] != MECHANISM:
        raise ValueError("the peer requires a security mechanism")


def _parse_head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Parse the head of a frame: its flags, and the start and end of its body."""
    if len(data) < at + 2:
        return None
    flags = data[at]
    if not flags & _LONG:
        return flags, at + 2, at + 2 + data[at + 1]
    begin = at + 9
    if len(data) < begin:
        return None
    return flags, begin, begin + int.from_bytes(data[at + 1 : begin], "big")
