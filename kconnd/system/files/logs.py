"""Read a kernel's log: its last lines, and what is added to it, over rotations.

How it works. The shim appends to ``log`` and renames it to ``log.1``, ``log.2`` ... once it is full
(`kconnd.programs.shim`). `LogReader` reads the parts as bytes, remembers where it stopped (inode
and offset), and decodes them as one stream, so no character is broken where a read, a part or the
last line ends. A path that is no regular file is not read, and of parts that are longer together no
more than the last `MAX_TAIL_BYTES` are: a kernel can make its log as long as it likes.
"""

import asyncio
import codecs
import os
import stat
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

POLL_INTERVAL_S = 0.2  # only while somebody follows, and cheaper than a watch for each
CHUNK_BYTES = 65536
MAX_TAIL_BYTES = 16 << 20


class LogReader:
    """Reads one log: first `last_lines`, then, if more is wanted, `follow`.

    Parameters
    ----------
    path : Path
        The newest part.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._inode, self._offset = 0, -1  # where reading stopped; -1 for at no place yet

    def last_lines(self, count: int) -> str:
        """Read the last lines, from older parts too where the newest has too few.

        Parameters
        ----------
        count : int
            How many at most.

        Returns
        -------
        str
            Without the beginning of a character whose end has not been written yet.
        """
        lines: deque[bytes] = deque(maxlen=count)
        for stream in _open_tail(_parts(self._path)):
            with stream:
                for line in stream:
                    if lines and not lines[-1].endswith(b"\n"):  # the parts divide a line
                        lines[-1] += line
                    else:
                        lines.append(line)
                self._inode, self._offset = os.fstat(stream.fileno()).st_ino, stream.tell()
        return self._decoder.decode(b"".join(lines))

    def rest(self) -> str:
        """Give the mark for a character that was begun and has no end."""
        return self._decoder.decode(b"", final=True)

    async def follow(self) -> AsyncIterator[str]:
        """Give what is added after the last lines, for ever."""
        stream = self._resume()
        try:
            while True:
                stream = stream or _open(self._path)
                while stream is not None and (added := stream.read(CHUNK_BYTES)):
                    if text := self._decoder.decode(added):
                        yield text
                if stream is not None and _is_rotated(self._path, stream.fileno()):
                    stream.close()
                    stream = _open(self._path)
                    continue
                await asyncio.sleep(POLL_INTERVAL_S)  # no event tells of an added line
        finally:
            if stream is not None:
                stream.close()

    def _resume(self) -> BinaryIO | None:
        """Open the part in which reading stopped, which may have another name by now."""
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
    """List the parts of a log, the oldest first."""
    numbered = sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: -_number(part))
    return [*numbered, path]


def _open_tail(parts: list[Path]) -> list[BinaryIO]:
    """Open parts, the oldest first, from where on they have no more than may be read."""
    found: list[BinaryIO] = []
    room = MAX_TAIL_BYTES
    for part in reversed(parts):
        if room > 0 and (stream := _open(part)) is not None:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - room))
            room -= size
            found.insert(0, stream)
    return found


def _number(path: Path) -> int:
    suffix = path.suffix.removeprefix(".")
    return int(suffix) if suffix.isdecimal() else 0


def _open(path: Path) -> BinaryIO | None:
    """Open a part without waiting for a writer, as the open of a FIFO would."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(file).st_mode):
        return os.fdopen(file, "rb")
    os.close(file)
    return None


def _is_rotated(path: Path, file: int) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file).st_ino
    except OSError:
        return False
