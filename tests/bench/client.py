"""Asks a server over kept connections, as fast as it answers: a program of its own.

It has a processor to itself, and imports nothing but the standard library. What it is to do, it
gets as JSON in its one argument; it prints ``{"seconds": ..., "times": [...]}``. Only an answer of
status 200 counts; any other ends it with an error.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Task:
    """What is to be done.

    Parameters
    ----------
    where : str or int
        The path of a socket, or a port on loopback.
    path : str
        What is asked for.
    headers : dict of str to str
        What makes the request admitted.
    clients : int
        Over how many connections.
    seconds : float
        How long.
    """

    where: str | int
    path: str
    clients: int
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def request(self) -> bytes:
        """Give the request, which is always the same."""
        lines = [f"GET {self.path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Answers:
    """How long the asking took altogether, and each answer to come."""

    seconds: float
    times: list[float]

    @property
    def rate(self) -> float:
        """Give the answers per second."""
        return len(self.times) / self.seconds


async def ask(task: Task) -> Answers:
    """Connect with all clients, then ask with all of them at once until the time is up."""
    pairs: list[Pair] = []
    try:
        for _ in range(task.clients):
            pairs.append(await _connect(task.where))  # noqa: PERF401  # those there are are closed
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            end = begin + task.seconds
            asking = [group.create_task(_ask(pair, task.request, end)) for pair in pairs]
        taken = time.perf_counter() - begin  # the last answers come when the time is up
    finally:
        for _, writer in pairs:
            writer.close()
            await writer.wait_closed()
    return Answers(taken, [one for each in asking for one in each.result()])


async def _connect(where: str | int) -> Pair:
    if isinstance(where, int):
        return await asyncio.open_connection("127.0.0.1", where)
    return await asyncio.open_unix_connection(where)


async def _ask(pair: Pair, request: bytes, end: float) -> list[float]:
    reader, writer = pair
    times: list[float] = []
    while (begin := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(size_of(head))
        times.append(time.perf_counter() - begin)
    return times


def size_of(head: bytes) -> int:
    """Give the size of a body; an answer that is no success is refused."""
    status, _, headers = head.lower().partition(b"\r\n")
    if status.split()[1] != b"200":
        raise RuntimeError(f"the server answered: {status.decode()}")
    return int(headers.partition(b"content-length: ")[2].split()[0])


if __name__ == "__main__":
    found = asyncio.run(ask(Task(**json.loads(sys.argv[1]))))
    print(json.dumps({"seconds": found.seconds, "times": found.times}))
