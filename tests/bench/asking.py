"""Parts about looking kernels up: whole commands, and requests over kept connections."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.bench import client, others
from tests.bench.client import Answers, Task
from tests.bench.results import Result, Rounds, in_ms, median, ratio, spread_of, values_of
from tests.bench.subjects import Kconnd


def commands(*, quick: bool) -> Iterator[Result]:
    """Whole commands, from their start to their end."""
    rounds: list[dict[str, float]] = []
    scripts = Path(sys.executable).parent
    with Kconnd("cold") as kconnd, others.supervisor() as supervisorctl:
        kernel = kconnd.start("cold")
        environment = {**os.environ, "KCONND_SOCKET": str(kconnd.daemon.socket)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        ways = {
            "kconnd-ctl info": [str(scripts / "kconnd-ctl"), "info", "cold@0"],
            "python -c pass": [sys.executable, "-c", "pass"],
            "supervisorctl status": supervisorctl,
            "jupyter kernelspec list": [str(scripts / "jupyter"), "kernelspec", "list"],
            "jupyter server list": [str(scripts / "jupyter"), "server", "list"],
        }
        count, slow = (20, 1) if quick else (40, 5)
        for number in range(count):
            rounds.append({})
            for name, command in ways.items():
                if number < slow or not name.startswith("jupyter"):
                    rounds[-1][name] = time_command(command, environment)
        kernel.end()
    yield from (in_ms(f"command: {name}", values_of(rounds, name)) for name in ways)
    mine = "kconnd-ctl info"
    yield ratio("info / python -c pass", rounds, mine, "python -c pass", "<= 2.5")
    yield ratio("info / supervisorctl status", rounds, mine, "supervisorctl status", "<= 0.2")


def time_command(command: list[str], environment: Mapping[str, str]) -> float:
    """Give the seconds that a command takes from its start to its end."""
    begin = time.perf_counter()
    _output(command, environment)
    return time.perf_counter() - begin


def _output(command: list[str], environment: Mapping[str, str] | None = None) -> bytes:
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{command[0]} failed with {done.returncode}: {said}")
    return done.stdout


# --- requests

OURS, THEIRS = "kconnd", "Jupyter server"
CLIENTS = (1, 10, 100)


def requests(*, quick: bool) -> Iterator[Result]:
    """Requests about one kernel, on connections that are kept."""
    rounds, seconds = (3, 0.3) if quick else (5, 2.0)
    with Kconnd("cold") as kconnd, others.JupyterServer() as server:
        kernel = kconnd.start("cold")
        other = server.ask("POST", "/api/kernels", {"name": "python3"})["id"]
        about = {
            OURS: (str(kconnd.daemon.socket), "/v1/kernels/cold@0", {}),
            THEIRS: (server.port, f"/api/kernels/{other}", server.headers),
        }
        for clients in CLIENTS:
            found: list[dict[str, Answers]] = []
            for _ in range(rounds):
                found.append({})
                for name, (where, path, headers) in about.items():
                    found[-1][name] = _ask(Task(where, path, clients, seconds, headers))
            yield from request_results(clients, found)
        kernel.end()


def _ask(task: Task) -> Answers:
    """Ask from a process of its own, which has a processor of its own."""
    command = [sys.executable, client.__file__, json.dumps(asdict(task))]
    return Answers(**json.loads(_output(command)))


def request_results(clients: int, found: list[dict[str, Answers]]) -> Iterator[Result]:
    """Give what came of asking both in turns by some clients."""
    told = f"{clients} client" + "s" * (clients > 1)
    rates: Rounds = [{name: one.rate for name, one in taken.items()} for taken in found]
    for name in (OURS, THEIRS):
        yield median(f"requests, {told}: {name}", values_of(rates, name), "1/s")
    target = ">= 2" if clients == 1 else ""
    yield ratio(f"requests, {told}: kconnd / Jupyter server", rates, OURS, THEIRS, target)
    for name in (OURS, THEIRS):
        times = [taken[name].times for taken in found]
        limit = "<= 100" if clients == max(CLIENTS) and name == OURS else ""
        whole = p99([one for each in times for one in each])
        yield Result(f"p99, {told}: {name}", whole, "ms", limit, spread_of([*map(p99, times)]))


def p99(times: list[float]) -> float:
    """Give the milliseconds within which 99 of 100 answers came."""
    return statistics.quantiles(times, n=100, method="inclusive")[98] * 1000
