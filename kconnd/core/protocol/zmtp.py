"""ZMTP 3.0, as far as it takes to hear and to ask a kernel on a Unix socket, as bytes.

Source: RFC 23 of ZeroMQ (https://rfc.zeromq.org/spec/23/): from each side a greeting, a READY
command, then messages of frames. Nothing is encrypted, since the permissions of the socket's
folder say who may connect. libzmq takes 40 kB for a connection that nothing comes by.

Rule: a message longer than what is allowed is skipped as it comes; no part of it is kept.
"""

ZMTP_VERSION = 3
MECHANISM = b"NULL".ljust(20, b"\0")
GREETING = b"\xff" + bytes(8) + b"\x7f" + bytes((ZMTP_VERSION, 0)) + MECHANISM + bytes(32)
SUBSCRIBE = b"\x01"  # what a SUB sends; what follows it begins the messages that are wanted
MAX_SHORT_FRAME_BYTES = 255  # bytes of a frame that has one byte for its length
MAX_MESSAGE_BYTES = 1 << 16  # bytes of a message that is heard: a kernel's status has about 1500

_MORE, _LONG, _COMMAND = 1, 2, 4
_READY, _ERROR = b"\x05READY", b"\x05ERROR"


def pack_ready(kind: str) -> bytes:
    """Build the command that says what kind of socket this is."""
    name, value = b"Socket-Type", kind.encode()
    body = _READY + bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value
    return bytes((_COMMAND, len(body))) + body


def pack_message(*frames: bytes) -> bytes:
    """Build a message."""
    last = len(frames) - 1
    return b"".join(_pack_frame(frame, more=at < last) for at, frame in enumerate(frames))


def _pack_frame(frame: bytes, *, more: bool) -> bytes:
    flags, size = _MORE if more else 0, len(frame)
    if size <= MAX_SHORT_FRAME_BYTES:
        return bytes((flags, size)) + frame
    return bytes((flags | _LONG,)) + size.to_bytes(8, "big") + frame


class MessageReader:
    """Reads what the other side sends, in whatever pieces it comes.

    Parameters
    ----------
    longest : int
        How many bytes a message may have.
    """

    __slots__ = ("_frames", "_greeted", "_longest", "_rest", "_size", "_skip", "ready")

    def __init__(self, longest: int = MAX_MESSAGE_BYTES) -> None:
        self._longest = longest
        self.ready = False  # whether the other side is; nothing may be sent before
        self._greeted = False
        self._rest = b""  # of what came: the beginning of something
        self._skip = 0  # bytes to come of a frame that is too long
        self._frames: list[bytes] = []  # of a message that is not whole yet
        self._size = 0  # of that, so far

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take some bytes, and give the messages that are whole with them.

        Raises
        ------
        ValueError
            If this is not the protocol, or the other side has refused.
        """
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        data, at = self._rest + data[skipped:], 0
        if not self._greeted and len(data) >= len(GREETING):
            _check_greeting(data)
            self._greeted, at = True, len(GREETING)
        found: list[list[bytes]] = []
        while self._greeted and (head := _parse_head(data, at)):
            flags, begin, end = head
            if end > len(data) and end - begin <= self._longest:
                break
            self._take(flags, data[begin:end], end - at, found)
            self._skip, at = max(0, end - len(data)), min(end, len(data))
        self._rest = data[at:]
        return found

    def _take(self, flags: int, body: bytes, size: int, found: list[list[bytes]]) -> None:
        """Take a frame; of one that is too long ``body`` is a part."""
        if flags & _COMMAND:
            if body.startswith(_ERROR):
                raise ValueError("the other side refused")
            self.ready = self.ready or body.startswith(_READY)
            return
        self._size += size
        if self._size <= self._longest:
            self._frames.append(body)
        if flags & _MORE:
            return
        if self._size <= self._longest:
            found.append(self._frames)
        self._frames, self._size = [], 0


def _check_greeting(data: bytes) -> None:
    if data[0] != GREETING[0] or data[9] != GREETING[9] or data[10] < ZMTP_VERSION:
        raise ValueError("not ZMTP 3")
    if data[12:32] != MECHANISM:
        raise ValueError("it wants a mechanism of security")


def _parse_head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Read a frame's head: its flags, and where its body begins and ends."""
    if len(data) < at + 2:
        return None
    flags = data[at]
    if not flags & _LONG:
        return flags, at + 2, at + 2 + data[at + 1]
    begin = at + 9
    if len(data) < begin:
        return None
    return flags, begin, begin + int.from_bytes(data[at + 1 : begin], "big")
