"""Sends GET requests to owners' daemons, which are untrusted.

Rules. A daemon may send invalid data, stop sending or send without end. One time limit therefore
covers the whole reply, and at most `MAX_REPLY_BYTES` are read. The head of the reply must state the
length of the body. A request runs in the event loop and occupies no thread.
"""

import asyncio
import json
import re
from typing import Any

from kconnd.core.protocol.request_head import request_head
from kconnd.errors import KconndError

REPLY_TIMEOUT_S = 5.0  # the limit for the whole reply
MAX_REPLY_BYTES = 2 << 20
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)


async def get_json(socket_path: str, target: str, timeout_s: float = REPLY_TIMEOUT_S) -> Any:
    """Send a GET request to a daemon and return the reply, parsed as JSON.

    Raises
    ------
    KconndError
        If no valid reply arrives in time. The error's message does not quote the reply.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return _parse(await _exchange(socket_path, target))
    except TimeoutError:
        raise KconndError(
            f"the daemon on {socket_path} did not reply within {timeout_s:g} s"
        ) from None
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError) as error:
        # These exceptions mean that the reply is truncated, invalid or too deeply nested.
        raise KconndError(f"the daemon on {socket_path} gave no valid reply") from error


async def _exchange(socket_path: str, target: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket_path)
    try:
        writer.write(request_head("GET", target, 0))
        length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
        if length is None or int(length[1]) > MAX_REPLY_BYTES:
            raise ValueError("the reply states no length, or one over the limit")
        return await reader.readexactly(int(length[1]))
    finally:
        writer.transport.abort()  # closes at once, even if the daemon is still sending


def _parse(text: bytes) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(text: str) -> float:
    """Refuse NaN and Infinity, which json.loads accepts although they are not JSON."""
    raise ValueError(f"{text} is not JSON")
