"""Read a kernel's log: its last lines, and what is added, over rotations."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

GLANCE = 0.2  # seconds; only while somebody follows, and cheaper than a watch for each
CHUNK = 65536


def last_lines(path: Path, count: int) -> str:
    """Read the last lines of a log, from its older parts too where the newest has too few."""
    lines: deque[str] = deque(maxlen=count)
    numbered = sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: -_number(part))
    for part in (*numbered, path):
        try:
            with part.open(encoding="utf-8", errors="replace") as stream:
                lines.extend(stream)
        except OSError:
            continue
    return "".join(lines)


def _number(path: Path) -> int:
    suffix = path.suffix.removeprefix(".")
    return int(suffix) if suffix.isdecimal() else 0


async def follow(path: Path) -> AsyncIterator[str]:
    """Give what is added to a log from now on, for ever."""
    stream = None
    try:
        while True:
            if stream is None:
                stream = _open_at_end(path)
            elif stream is not None:
                while text := stream.read(CHUNK):
                    yield text.decode(errors="replace")
                if _rotated(path, stream.fileno()):
                    stream.close()
                    stream = path.open("rb")  # a local file, opened at once
                    continue
            await asyncio.sleep(GLANCE)
    finally:
        if stream is not None:
            stream.close()


def _open_at_end(path: Path) -> BinaryIO | None:
    try:
        stream = path.open("rb")
    except OSError:
        return None
    stream.seek(0, os.SEEK_END)
    return stream


def _rotated(path: Path, file: int) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file).st_ino
    except OSError:
        return False
