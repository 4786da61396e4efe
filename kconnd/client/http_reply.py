"""Parses the reply of a daemon: a head of HTTP/1.1 (RFC 9112), and a body of JSON.

The size of each part is limited. A reply that is malformed, incomplete or too large raises
UnreachableError: either the server is not a daemon, or the daemon exited while it was replying.
"""

from __future__ import annotations

from kconnd.errors import UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

MAX_LINE_BYTES = 64 << 10  # the limit of a header line and of the line with a chunk's size
MAX_HEADERS = 100
MAX_DIGITS = 18  # of a status or a length; int() refuses very long texts
SUCCESS_STATUS, REDIRECT_STATUS, ERROR_STATUS = 200, 300, 400  # the first status of each class


class HttpReply:
    """A reply. The constructor parses the head; `content` or `lines` reads the body.

    Parameters
    ----------
    stream : file
        A binary file that reads from the connection; the first byte that it reads is the first byte
        of the reply.
    path : str
        The path of the daemon's socket, for error messages.
    max_bytes : int
        The limit of the size of a body, or of each line of a streamed body.
    """

    def __init__(self, stream: BinaryIO, path: str, max_bytes: int) -> None:
        self._stream, self._path = stream, path
        self.max_bytes = max_bytes
        self.status, headers = self._parse_head()
        self._is_chunked = headers.get(b"transfer-encoding") == b"chunked"
        self._length = 0 if self._is_chunked else self._parse_length(headers)

    def content(self) -> Any:
        """Read the whole body and parse it as JSON."""
        body = bytearray()
        for piece in self._pieces():
            body += piece
            if len(body) > self.max_bytes:
                raise self._garbled("its reply does not end")
        return self._parse_json(bytes(body))

    def lines(self) -> Iterator[Any]:
        """Yield the parsed JSON of each line of the body, as soon as the line has arrived."""
        unfinished = b""
        for piece in self._pieces():
            *lines, unfinished = (unfinished + piece).split(b"\n")
            if len(unfinished) > self.max_bytes:
                raise self._garbled("a line does not end")
            yield from map(self._parse_json, lines)
        if unfinished:
            yield self._parse_json(unfinished)

    # --- the head

    def _parse_head(self) -> tuple[int, dict[bytes, bytes]]:
        version, _, status_line = self._read_line().partition(b" ")
        status = _parse_number(status_line[:3])
        if not version.startswith(b"HTTP/1.") or status is None:
            raise self._garbled("it does not speak HTTP")
        if not (SUCCESS_STATUS <= status < REDIRECT_STATUS or status >= ERROR_STATUS):
            raise self._garbled(f"HTTP status {status}, which no daemon sends")
        return status, self._parse_headers()

    def _parse_headers(self) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        for _ in range(MAX_HEADERS):
            line = self._read_line().strip()
            if not line:
                return headers
            key, _, value = line.partition(b":")
            headers[key.strip().lower()] = value.strip().lower()
        raise self._garbled("its headers do not end")

    def _parse_length(self, headers: dict[bytes, bytes]) -> int:
        length = _parse_number(headers.get(b"content-length", b"0"))
        if length is None or length > self.max_bytes:
            raise self._garbled("its reply has no valid length")
        return length

    # --- the body

    def _pieces(self) -> Iterator[bytes]:
        if self._is_chunked:
            yield from self._chunks()
        else:
            yield self._read_exactly(self._length)

    def _chunks(self) -> Iterator[bytes]:
        """Yield the chunks of a chunked body (RFC 9112, section 7.1)."""
        while True:
            try:
                size = int(self._read_line().partition(b";")[0], 16)
            except ValueError:
                raise self._garbled("a chunk has no length") from None
            if not 0 <= size <= self.max_bytes:
                raise self._garbled("a chunk has no valid length")
            if size == 0:
                return
            yield self._read_exactly(size)
            self._read_line()

    def _read_line(self) -> bytes:
        try:
            line = self._stream.readline(MAX_LINE_BYTES)
        except OSError as error:
            raise self._garbled(str(error)) from None
        if not line.endswith(b"\n"):
            raise self._garbled("it hung up before its reply was complete")
        return line

    def _read_exactly(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise self._garbled(str(error)) from None
        if len(data) < size:
            raise self._garbled("it hung up before its reply was complete")
        return data

    def _parse_json(self, text: bytes) -> Any:
        try:
            return parse_json(text)
        except (ValueError, RecursionError):  # a thousand nested brackets raise RecursionError
            raise self._garbled("its reply is not JSON") from None

    def _garbled(self, problem: str) -> UnreachableError:
        return garbled_reply(self._path, problem)


def garbled_reply(path: str, problem: str) -> UnreachableError:
    """Create the error for an incomplete or malformed reply."""
    return UnreachableError(
        f"talking to the daemon on {path}: {problem}",
        hint="the daemon may have exited just now; try again, or see its log",
    )


def _parse_number(text: bytes) -> int | None:
    """Parse a number without sign; return None for any other text."""
    return int(text) if text.isdigit() and len(text) <= MAX_DIGITS else None


class _JsonOptions:
    """The options of a `json.JSONDecoder`, as attributes that the scanner in C reads."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_int, parse_float, parse_constant = int, float, float


def parse_json(text: bytes) -> Any:
    """Parse JSON as `json.loads` does, with the scanner in C.

    The module json is imported only for a text that the scanner alone cannot parse.

    Raises
    ------
    ValueError, RecursionError
        For the texts for which `json.loads` raises them.
    """
    try:
        from _json import make_scanner  # noqa: PLC0415  # some Pythons lack it

        decoded = text.decode()
        # The type stub of _json requires a JSONDecoder, but the scanner reads only the attributes
        # that _JsonOptions has.
        content, end = make_scanner(_JsonOptions)(decoded, 0)  # type: ignore[arg-type]
        if end == len(decoded):
            return content
    except (ImportError, AttributeError, StopIteration, ValueError):
        pass
    import json  # noqa: PLC0415  # for unusual texts only

    return json.loads(text)
