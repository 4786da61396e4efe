"""``scripts/bench``: how fast and how small, side by side with what else there is, in one run."""

import argparse
import asyncio
import concurrent.futures
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from kconnd.system.processes import is_alive
from tests.bench import subjects
from tests.bench.results import STARTS, Result, as_json, median, picture, ratio, table
from tests.bench.subjects import JupyterServer, Kconnd
from tests.conftest import wait_for

Series = dict[str, list[float]]
Target = tuple[Path | int, str, dict[str, str]]  # socket or port, path, headers


def main() -> int:
    """Measure, and show what came of it."""
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under two minutes")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the starts")
    parser.add_argument("--only", metavar="PART", choices=[*PARTS], help=", ".join(PARTS))
    given = parser.parse_args()
    results: list[Result] = []
    for name, part in PARTS.items():
        if given.only in {None, name}:
            print(f"measuring: {name} ...", file=sys.stderr)
            results += part(quick=given.quick)
    print(as_json(results) if given.json else table(results))
    if given.picture:
        picture(results, given.picture)
    return 0


# --- starting


def starts(*, quick: bool) -> Iterator[Result]:
    """One kernel after the other, by each way in turn."""
    series: Series = {name: [] for name in STARTS}
    with (
        Kconnd() as kconnd,
        JupyterServer() as server,
        tempfile.TemporaryDirectory(prefix="kb-", dir="/tmp") as folder,
    ):
        first_reply: list[float] = []

        def ours(name: str) -> float:
            taken = kconnd.start(name)
            kconnd.stop(name)
            return taken

        def warm() -> float:
            taken = kconnd.start("warm")
            kconnd.stop("warm")
            kconnd.warm_up()
            first_reply.append(kconnd.start_and_ask("warm"))
            kconnd.stop("warm")
            kconnd.warm_up()
            return taken

        ways: dict[str, Callable[[], float]] = {
            "start: kconnd, warm": warm,
            "start: kconnd, fork": lambda: ours("fork"),
            "start: kconnd, cold": lambda: ours("cold"),
            "start: python -m ipykernel_launcher": lambda: subjects.plain_ipykernel(Path(folder)),
            "start: AsyncKernelManager": lambda: asyncio.run(subjects.kernel_manager()),
            "start: Jupyter server, REST": server.start,
        }
        for _ in range(5 if quick else 15):
            for name, way in ways.items():
                series[name].append(way())
    yield from (median(name, series[name]) for name in STARTS)
    manager, plain = series["start: AsyncKernelManager"], series[STARTS[3]]
    cold, fork = series["start: kconnd, cold"], series["start: kconnd, fork"]
    over = (statistics.median(cold) - statistics.median(plain)) * 1000
    yield Result("cold start, more than plain ipykernel", over, "ms", "<= 25")
    yield ratio("cold start / AsyncKernelManager", cold, manager, "<= 0.75")
    yield ratio("fork start / AsyncKernelManager", fork, manager, "<= 0.08")
    taken = median("warm hand-over to a new client's first reply", first_reply)
    yield Result(taken.name, taken.value, "ms", "<= 15", taken.spread)


def many(*, quick: bool) -> Iterator[Result]:
    """Fifty at once."""
    count, rounds = 50, 3 if quick else 20
    ours: list[float] = []
    theirs: list[float] = []
    failures = 0
    with Kconnd() as kconnd:
        names = [f"fork@{number}" for number in range(count)]
        for number in range(rounds):
            if number < (1 if quick else 3):
                theirs.append(asyncio.run(subjects.many_by_manager(count)))
            ours.append(asyncio.run(_at_once(kconnd, names)))
            failures += count - len(kconnd.pids())
            kconnd.stop_all()
    yield median(f"{count} at once: kconnd, fork", ours)
    yield median(f"{count} at once: AsyncMultiKernelManager", theirs)
    yield ratio(f"{count} at once: fork / AsyncMultiKernelManager", ours, theirs, "<= 0.12")
    yield Result(f"{count} at once: failures in {rounds} runs", failures, "", "<= 0")


async def _at_once(kconnd: Kconnd, names: list[str]) -> float:
    pool = concurrent.futures.ThreadPoolExecutor(len(names))
    asyncio.get_running_loop().set_default_executor(pool)
    return await kconnd.start_many(names)


# --- what a kernel takes


def costs(*, quick: bool) -> Iterator[Result]:
    """Memory and processor time of each kernel with its shim."""
    count = 4 if quick else 10
    memory: dict[str, list[float]] = {}
    with Kconnd() as kconnd:
        for kind in ("cold", "fork"):
            names = [f"{kind}@{number}" for number in range(count)]
            for name in names:
                kconnd.start(name)
            processes = [psutil.Process(kconnd.daemon.info(name)["pid"]) for name in names]
            times = [one.cpu_times() for one in processes]
            memory[kind] = [_private(one.pid) for one in processes]
            shims = [_private(kconnd.daemon.shim_of(name).pid) for name in names]
            yield Result(f"memory of its own: {kind}", statistics.median(memory[kind]), "MB")
            yield Result(f"memory of its own: shim, {kind}", statistics.median(shims), "MB")
            used = statistics.median(one.user + one.system for one in times)
            yield Result(f"processor time until ready: {kind}", used * 1000, "ms")
    yield ratio("memory of its own: fork / cold", memory["fork"], memory["cold"], "<= 0.42")


def _private(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    rows = (line.split() for line in text.splitlines() if line.startswith("Private_"))
    return sum(int(row[1]) for row in rows) / 1024


# --- looking up


def commands(*, quick: bool) -> Iterator[Result]:
    """Whole commands, from their start to their end."""
    series: Series = {}
    scripts = Path(sys.executable).parent
    with Kconnd() as kconnd, subjects.supervisor() as supervisorctl:
        kconnd.start("cold")
        environment = {**os.environ, "KCONND_SOCKET": str(kconnd.daemon.socket)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        ways = {
            "kconnd-ctl info": [str(scripts / "kconnd-ctl"), "info", "cold"],
            "python -c pass": [sys.executable, "-c", "pass"],
            "supervisorctl status": supervisorctl,
            "jupyter kernelspec list": [str(scripts / "jupyter"), "kernelspec", "list"],
            "jupyter server list": [str(scripts / "jupyter"), "server", "list"],
        }
        for number in range(10 if quick else 40):
            for name, command in ways.items():
                if number < 5 or not name.startswith("jupyter"):  # they are slow
                    series.setdefault(name, []).append(_time(command, environment))
    yield from (median(f"command: {name}", series[name]) for name in ways)
    mine = series["kconnd-ctl info"]
    yield ratio("info / python -c pass", mine, series["python -c pass"], "<= 2.5")
    yield ratio("info / supervisorctl status", mine, series["supervisorctl status"], "<= 0.2")


def _time(command: list[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - begin


def requests(*, quick: bool) -> Iterator[Result]:
    """Requests about one kernel, on connections that are kept."""
    seconds = 1.0 if quick else 4.0
    with Kconnd() as kconnd, JupyterServer() as server:
        kconnd.start("cold")
        kernel = server.ask("POST", "/api/kernels", {"name": "python3"})["id"]
        ours: Target = (kconnd.daemon.socket, "/v1/kernels/cold", {})
        theirs: Target = (server.port, f"/api/kernels/{kernel}", server.headers)
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(3 if quick else 5):
            for name, target in (("ours", ours), ("theirs", theirs)):
                rates[name].append(len(_ask_by(1, seconds / 2, *target)) / (seconds / 2))
        yield Result("requests, 1 client: kconnd", statistics.median(rates["ours"]), "1/s")
        yield Result(
            "requests, 1 client: Jupyter server", statistics.median(rates["theirs"]), "1/s"
        )
        yield ratio("requests: kconnd / Jupyter server", rates["ours"], rates["theirs"], ">= 2")
        for clients, limit in ((1, ""), (10, ""), (100, "<= 100")):
            times = _ask_by(clients, seconds, *ours)
            rate = Result(f"requests, {clients} clients: kconnd", len(times) / seconds, "1/s")
            late = statistics.quantiles(times, n=100)[98] * 1000
            yield from (rate, Result(f"p99, {clients} clients: kconnd", late, "ms", limit))


CLIENT = """\
import asyncio, json, sys, time
found = []
async def ask(end, asking):
    reader, writer = await {connecting}
    while (begin := time.perf_counter()) < end:
        writer.write(asking)
        head = await reader.readuntil(b"\\r\\n\\r\\n")
        size = int(head.lower().partition(b"content-length: ")[2].split()[0])
        await reader.readexactly(size)
        found.append(time.perf_counter() - begin)
    writer.close()
async def main():
    end = time.perf_counter() + {seconds}
    asking = b"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n{headers}\\r\\n"
    await asyncio.gather(*(ask(end, asking) for _ in range({clients})))
asyncio.run(main())
print(json.dumps(found))
"""


def _connecting(where: Path | int) -> str:
    if isinstance(where, int):
        return f'asyncio.open_connection("127.0.0.1", {where})'
    return f"asyncio.open_unix_connection({str(where)!r})"


def _ask_by(
    clients: int, seconds: float, where: Path | int, path: str, headers: dict[str, str]
) -> list[float]:
    """Ask by many connections of another process, which has a processor of its own."""
    code = CLIENT.format(
        seconds=seconds,
        connecting=_connecting(where),
        path=path,
        clients=clients,
        headers="".join(f"{name}: {value}\\r\\n" for name, value in headers.items()),
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


# --- looking after


def deaths(*, quick: bool) -> Iterator[Result]:
    """From the death of a kernel until it is told, and until it runs again."""
    seen: list[float] = []
    again: list[float] = []
    with Kconnd() as kconnd:
        for number in range(5 if quick else 20):
            kconnd.start(name := f"again@{number}")
            pid = kconnd.daemon.info(name)["pid"]
            with kconnd.daemon.stream(f"/v1/events?follow=1&kernel={name}") as events:
                begin, killed = 0.0, False
                for event in events:
                    if not killed and event["event"] == "running":
                        killed, begin = True, time.perf_counter()
                        os.kill(pid, signal.SIGKILL)
                    elif killed and event["event"] == "backoff":
                        seen.append(time.perf_counter() - begin)
                    elif killed and event["event"] == "running":
                        again.append(time.perf_counter() - begin)
                        break
            kconnd.stop(name)
    for name, times, target in (
        ("a death is seen", seen, "<= 10"),
        ("a dead kernel runs again (fork)", again, "<= 80"),
    ):
        found = median(name, times)
        yield Result(name, found.value, "ms", target, found.spread)


def upkeep(*, quick: bool) -> Iterator[Result]:
    """What the daemon takes with no kernels and with many, and how it takes many up."""
    many_, pause = (50, 5.0) if quick else (200, 20.0)
    with Kconnd() as kconnd:
        adopted: list[float] = []
        had = 0
        for count, cpu, memory in ((0, "", "<= 45"), (50, "", ""), (many_, "<= 0.2", "<= 60")):
            names = [f"fork@{number}" for number in range(had, count)]
            for first in range(0, len(names), 25):
                asyncio.run(_at_once(kconnd, names[first : first + 25]))
            had = count
            if count == 0:
                _restart(kconnd)
            time.sleep(3)  # until starting them has no more after-effects
            yield from _idle(kconnd, count, pause, cpu, memory)
            if count == 50:  # the figure's own number
                adopted += [_adopt(kconnd, count) for _ in range(3)]
        found = median("50 kernels taken up after kill -9", adopted)
        yield Result(found.name, found.value, "ms", "<= 1000", found.spread)


def _idle(kconnd: Kconnd, count: int, pause: float, cpu: str, memory: str) -> Iterator[Result]:
    assert kconnd.daemon.process is not None  # it runs
    process = psutil.Process(kconnd.daemon.process.pid)
    before = _ran(process.pid)
    time.sleep(pause)
    used = (_ran(process.pid) - before) / pause * 100
    yield Result(f"daemon, idle, {count} kernels", used, "%", cpu)
    yield Result(
        f"daemon, memory, {count} kernels", process.memory_info().rss / 2**20, "MB", memory
    )


def _ran(pid: int) -> float:
    """Give the seconds that a process has run, to the nanosecond (proc(5), schedstat).

    Its times in ticks are sampled: one that wakes with the clock is charged a tick for little.
    """
    paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in paths) / 1e9


def _restart(kconnd: Kconnd) -> None:
    """Begin afresh, with the same profiles and none of them prepared for."""
    kconnd.stop_all()
    kconnd.daemon.end()
    kconnd.daemon.start()


def _adopt(kconnd: Kconnd, count: int) -> float:
    """Kill the daemon, and time the next one until it has all kernels."""
    before = set(kconnd.pids())
    kconnd.daemon.kill()
    begin = time.perf_counter()
    kconnd.daemon.start()
    wait_for(lambda: set(kconnd.pids()) == before, f"{count} kernels to be taken up")
    taken = time.perf_counter() - begin
    if not all(is_alive(kconnd.daemon.shim_of(f"fork@{n}")) for n in range(count)):
        raise RuntimeError("a kernel was lost")
    return taken


PARTS: dict[str, Callable[..., Iterator[Result]]] = {
    "starts": starts,
    "many": many,
    "costs": costs,
    "commands": commands,
    "requests": requests,
    "deaths": deaths,
    "upkeep": upkeep,
}

if __name__ == "__main__":
    sys.exit(main())
