"""Asks owners' daemons, which may lie, dawdle or never end: in the loop, and all bounded.

Rules. A daemon has a time limit for all of its answer, whatever it trickles; it holds no
thread; its answer has a length that it tells first, and only so much is read.
"""

import asyncio
import json
import re
from typing import Any

from kconnd.core.protocol.request_head import request_head
from kconnd.errors import KconndError

LIMIT = 5.0  # seconds for all of an answer
MOST = 2 << 20  # bytes of it
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)


async def ask(path: str, what: str, limit: float = LIMIT) -> Any:
    """Make a GET request of a daemon, and give its answer's JSON.

    Raises
    ------
    KconndError
        If it gives none that is sound and in time. Nothing that it says is in the message.
    """
    try:
        async with asyncio.timeout(limit):
            return _parse(await _exchange(path, what))
    except TimeoutError:
        raise KconndError(f"what listens on {path} takes too long") from None
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError) as error:
        # The types that reading and json.loads have for what is cut off, garbled or too deep.
        raise KconndError(f"what listens on {path} gives no answer that makes sense") from error


async def _exchange(path: str, what: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request_head("GET", what, 0))
        length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
        if length is None or int(length[1]) > MOST:
            raise ValueError("no sensible length")
        return await reader.readexactly(int(length[1]))
    finally:
        writer.transport.abort()  # at once, whatever it has still to say


def _parse(text: bytes) -> Any:
    return json.loads(text, parse_constant=_no_number)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
