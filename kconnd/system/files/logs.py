"""Read a kernel's log: the last lines, and new output, across rotations.

How it works. The shim appends to ``log``. When ``log`` is full, the shim renames it to ``log.1``,
and older parts to ``log.2`` and so on (`kconnd.programs.shim`). `LogReader` reads these parts as
bytes and decodes them as one stream, so that a multi-byte character is never split. `LogReader`
remembers the inode and the offset at which it stopped, and ignores paths that are not regular
files. A log can be long, so `LogReader` looks for the last lines in the last `MAX_TAIL_BYTES` of
all parts together.
"""

import asyncio
import codecs
import os
import stat
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

POLL_INTERVAL_S = 0.2  # polling happens only while a client follows the log
CHUNK_BYTES = 65536
MAX_TAIL_BYTES = 16 << 20


class LogReader:
    """Reads one log. `last_lines` is called first; then `follow` can yield the further output.

    Parameters
    ----------
    path : Path
        The path of the newest part.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # The position after the last read; -1 before the first read.
        self._inode, self._offset = 0, -1

    def last_lines(self, count: int) -> str:
        """Read the last lines of the log, from as many parts as necessary.

        Parameters
        ----------
        count : int
            The maximum number of lines.

        Returns
        -------
        str
            The lines, without the bytes of an incomplete last character.
        """
        lines: deque[bytes] = deque(maxlen=count)
        for stream in _open_tail(_parts(self._path)):
            with stream:
                for line in stream:
                    # The first line of a newer part can continue the last line of the older part.
                    if lines and not lines[-1].endswith(b"\n"):
                        lines[-1] += line
                    else:
                        lines.append(line)
                self._inode, self._offset = os.fstat(stream.fileno()).st_ino, stream.tell()
        return self._decoder.decode(b"".join(lines))

    def finish(self) -> str:
        """Return the replacement character if the last character is incomplete, else ``""``."""
        return self._decoder.decode(b"", final=True)

    async def follow(self) -> AsyncIterator[str]:
        """Yield the output that follows the last lines; never return."""
        stream = self._resume()
        try:
            while True:
                stream = stream or _open(self._path)
                while stream is not None and (chunk := stream.read(CHUNK_BYTES)):
                    if text := self._decoder.decode(chunk):
                        yield text
                if stream is not None and _is_rotated(self._path, stream.fileno()):
                    stream.close()
                    stream = _open(self._path)
                    continue
                await asyncio.sleep(POLL_INTERVAL_S)  # there is no event for a write to a file
        finally:
            if stream is not None:
                stream.close()

    def _resume(self) -> BinaryIO | None:
        """Open the part that was read last, even if a rotation has renamed this part."""
        for part in reversed(_parts(self._path)) if self._offset >= 0 else ():
            stream = _open(part)
            if stream is None:
                continue
            if os.fstat(stream.fileno()).st_ino == self._inode:
                stream.seek(self._offset)
                return stream
            stream.close()
        return None


def _parts(path: Path) -> list[Path]:
    """List the parts of a log, oldest first."""
    numbered = sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: -_number(part))
    return [*numbered, path]


def _open_tail(parts: list[Path]) -> list[BinaryIO]:
    """Open the parts, oldest first, that contain the last `MAX_TAIL_BYTES` bytes."""
    streams: list[BinaryIO] = []
    remaining_bytes = MAX_TAIL_BYTES
    for part in reversed(parts):
        if remaining_bytes > 0 and (stream := _open(part)) is not None:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - remaining_bytes))
            remaining_bytes -= size
            streams.insert(0, stream)
    return streams


def _number(path: Path) -> int:
    suffix = path.suffix.removeprefix(".")
    return int(suffix) if suffix.isdecimal() else 0


def _open(path: Path) -> BinaryIO | None:
    """Open a part without blocking, even if the path is a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    return None


def _is_rotated(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino != os.fstat(descriptor).st_ino
    except OSError:
        return False
