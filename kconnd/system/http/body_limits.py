"""Limit the size of request bodies, and drain the bodies of refused requests.

A body without ``Content-Length`` (RFC 9112, section 6.3) is refused. The size of every other body
is therefore known from the head, and a body that is too large is refused before it is read. After a
refusal, the server reads and drops the rest of the body for a limited time. Without this, a client
that is still writing would get a broken pipe instead of the reply.
"""

import asyncio
import contextlib

from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError

from kconnd.errors import UsageError

MAX_BODY_BYTES = 64 << 10  # the largest request starts a Qt console and contains an environment
MAX_DRAINED_BYTES = 1 << 20
DRAIN_LIMIT_S = 1.0
CHUNK_BYTES = 64 << 10
MAX_LENGTH_DIGITS = 4000  # int() refuses more than 4300 digits


def has_body(headers: HTTPHeaders) -> bool:
    """Check whether a head announces a body."""
    return headers.get("Content-Length", "0").strip() != "0" or "Transfer-Encoding" in headers


def check_size(headers: HTTPHeaders) -> None:
    """Refuse a body that is too large, or whose size is unknown.

    Raises
    ------
    UsageError
        If the body is refused. For a length that is not a number, Tornado closes the connection.
    """
    if "Transfer-Encoding" in headers:
        raise UsageError(
            "the request's body has no Content-Length",
            hint="send Content-Length, and no Transfer-Encoding",
        )
    length = _length(headers)
    if length is not None and length > MAX_BODY_BYTES:
        raise UsageError(
            f"the request's body is too large: the limit is {MAX_BODY_BYTES} bytes",
            hint="GET /v1/openapi.json describes the requests",
        )


def bytes_to_drain(headers: HTTPHeaders) -> int:
    """Return how many bytes of a refused body to read and drop."""
    length = _length(headers)
    return MAX_DRAINED_BYTES if length is None else min(length, MAX_DRAINED_BYTES)


def _length(headers: HTTPHeaders) -> int | None:
    digits = headers.get("Content-Length", "" if "Transfer-Encoding" in headers else "0").strip()
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= MAX_LENGTH_DIGITS
    return int(digits) if is_number else None


async def drain(stream: IOStream, max_bytes: int) -> None:
    """Read and drop at most ``max_bytes`` bytes from a client, for a limited time."""
    remaining = max_bytes
    with contextlib.suppress(TimeoutError, StreamClosedError):
        async with asyncio.timeout(DRAIN_LIMIT_S):
            while remaining > 0:
                chunk = await stream.read_bytes(min(remaining, CHUNK_BYTES), partial=True)
                remaining -= len(chunk)
