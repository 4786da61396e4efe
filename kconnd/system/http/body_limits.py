"""How large a request's body may be, and what happens to one that is not wanted.

The size is known from the head: a body without ``Content-Length`` (RFC 9112, section 6.3) is
refused, so nothing has to be read to see that it is too large. After a refusal the rest of the
body is read and dropped for a moment, since a client that still writes would see a broken pipe
in place of the answer.
"""

import asyncio
import contextlib

from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError

from kconnd.errors import UsageError

MAX_BODY_BYTES = 64 << 10  # the largest request, for a Qt console, has its environment in it
LINGER_BYTES = 1 << 20  # of an unwanted body that are dropped before the connection is closed
LINGER_S = 1.0
CHUNK_BYTES = 64 << 10
MAX_DIGITS = 4000  # of a length; int() refuses more than 4300


def has_body(headers: HTTPHeaders) -> bool:
    """Tell whether a head announces a body."""
    return headers.get("Content-Length", "0").strip() != "0" or "Transfer-Encoding" in headers


def check_size(headers: HTTPHeaders) -> None:
    """Refuse a body that is too large, or does not say how large it is.

    Raises
    ------
    UsageError
        If so. A length that is no number is left to Tornado, which closes the connection.
    """
    if "Transfer-Encoding" in headers:
        raise UsageError(
            "the request's body does not say how long it is",
            hint="send Content-Length, and no Transfer-Encoding",
        )
    length = _length(headers)
    if length is not None and length > MAX_BODY_BYTES:
        raise UsageError(
            f"the request's body is too large: it may have {MAX_BODY_BYTES} bytes",
            hint="GET /v1/openapi.json lists what a request has to say",
        )


def unwanted_bytes(headers: HTTPHeaders) -> int:
    """Give how many bytes of a refused body to wait for, at most."""
    length = _length(headers)
    return LINGER_BYTES if length is None else min(length, LINGER_BYTES)


def _length(headers: HTTPHeaders) -> int | None:
    digits = headers.get("Content-Length", "" if "Transfer-Encoding" in headers else "0").strip()
    sound = digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS
    return int(digits) if sound else None


async def discard(stream: IOStream, left: int) -> None:
    """Read and drop what a client still sends, ``left`` bytes at most and for a bounded time."""
    with contextlib.suppress(TimeoutError, StreamClosedError):
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                left -= len(await stream.read_bytes(min(left, CHUNK_BYTES), partial=True))
