"""``scripts/chaos``: kill the daemon again and again while kernels work and clients ask.

Real ipykernels count in a cell each, over ipc and over tcp. Clients meanwhile start small
kernels, end them by a signal and look how that was told. The daemon is killed with -9 at
random moments, while it starts, too. What must not be lost is counted at the end; the exit
code is 1 if anything was.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient

from kconnd.system.processes import is_alive
from tests.end_to_end.daemon import IPYKERNEL, SMALL, Daemon, DaemonError

COUNTING = """
import os, time
count = 0
while not os.path.exists({gate!r}):
    count += 1
    time.sleep(0.01)
count
"""
ENDS = (signal.SIGKILL, signal.SIGABRT, signal.SIGTERM, signal.SIGSEGV)
GONE = (OSError, http.client.HTTPException, ValueError)


@dataclass
class Counted:
    """What the clients saw."""

    requests: int = 0
    refused: int = 0  # because no daemon was there
    exits: int = 0
    exits_lost: list[str] = field(default_factory=list)
    starts_lost: list[str] = field(default_factory=list)  # begun, and then nobody knew of them


def main() -> int:
    """Do it and tell what came of it."""
    parser = argparse.ArgumentParser("scripts/chaos", description=__doc__)
    parser.add_argument("--kernels", type=int, default=20)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kc-", dir="/tmp") as folder:
        results = chaos(Path(folder), given)
    lost = [key for key in results if key.endswith(("lost", "doubled")) and results[key]]
    if given.json:
        print(json.dumps(results))
    else:
        for key, value in results.items():
            print(f"{key.replace('_', ' '):32} {value}")
    return 1 if lost else 0


def chaos(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run the whole of it in a folder, and leave no process behind."""
    gate, counted = folder / "gate", Counted()
    with Daemon(folder) as daemon:
        daemon.profile("ipc", IPYKERNEL)
        daemon.profile("tcp", IPYKERNEL + "transport: tcp\n")
        daemon.profile("fork", IPYKERNEL + "launcher: fork\n")
        daemon.profile("small", SMALL + "restart: {policy: no}\n")
        daemon.start()
        kinds = ("ipc", "tcp", "fork")
        names = [f"{kinds[number % 3]}@{number}" for number in range(given.kernels)]
        before = {name: daemon.post(name, "start") for name in names}
        shims = {name: daemon.shim_of(name) for name in names}
        with attached(before) as clients:
            cell = COUNTING.format(gate=str(gate))
            asked = {name: one.execute(cell) for name, one in clients.items()}
            with crowd(daemon, given.clients, counted):
                adoptions = kill_often(daemon, given.kills, random.Random(given.seed))
            gate.touch()
            results = [result(one, asked[name]) for name, one in clients.items()]
        after = {name: daemon.info(name) for name in names}
        same = [
            is_alive(shims[name])
            and all(after[name][key] == before[name][key] for key in ("pid", "generation"))
            for name in names
        ]
        found = {
            "kernels": given.kernels,
            "daemon_killed": given.kills,
            "requests_by_clients": counted.requests,
            "of_which_found_no_daemon": counted.refused,
            "kernels_ended_from_outside": counted.exits,
            "kernels_lost": same.count(False),
            "executions_lost": results.count(None),
            "exit_codes_lost": len(counted.exits_lost),
            "starts_lost": len(counted.starts_lost),
            "processes_doubled": doubled_processes(daemon),
            "ports_doubled": doubled_ports(after),
            "median_adoption_s": round(sorted(adoptions)[len(adoptions) // 2], 3),
            "slowest_adoption_s": round(max(adoptions), 3),
            "seed": given.seed,
        }
        for one in daemon.get("/v1/kernels")["kernels"]:
            daemon.post(one["name"], "stop")
    return found


@contextlib.contextmanager
def crowd(daemon: Daemon, size: int, counted: Counted) -> Iterator[None]:
    """Have clients ask things all the while."""
    ending = threading.Event()
    threads = [
        threading.Thread(target=pester, args=(daemon, number, counted, ending))
        for number in range(size)
    ]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        ending.set()
        for one in threads:
            one.join()


@contextlib.contextmanager
def attached(kernels: dict[str, dict[str, Any]]) -> Iterator[dict[str, BlockingKernelClient]]:
    """Attach a Jupyter client to each kernel."""
    with contextlib.ExitStack() as stack:
        clients = {}
        for name, info in kernels.items():
            one = BlockingKernelClient(connection_file=info["connection_file"])
            one.load_connection_file()
            one.start_channels()
            stack.callback(one.context.term)
            stack.callback(one.stop_channels)
            one.wait_for_ready(timeout=60)
            clients[name] = one
        yield clients


def result(client: BlockingKernelClient, request: str) -> int | None:
    """Wait for the number that a cell was to give; None where it never comes."""
    with contextlib.suppress(Exception):  # queue.Empty: it is lost
        while True:
            message = client.get_iopub_msg(timeout=60)
            ours = message["parent_header"].get("msg_id") == request
            if ours and message["msg_type"] == "execute_result":
                return int(message["content"]["data"]["text/plain"])
    return None


def kill_often(daemon: Daemon, times: int, chance: random.Random) -> list[float]:
    """Kill the daemon so many times; gives how long each took to have all kernels again."""
    adoptions = []
    for _ in range(times):
        time.sleep(chance.uniform(0, 1))
        daemon.kill()
        if chance.random() < 0.3:  # in the midst of its start, too
            spawn_and_kill(daemon, chance.uniform(0, 0.4))
        began = time.monotonic()
        daemon.start()
        adoptions.append(time.monotonic() - began)
    return adoptions


def spawn_and_kill(daemon: Daemon, seconds: float) -> None:
    """Start a daemon and kill it before it has got far."""

    def kill() -> None:
        if daemon.process is not None:
            daemon.process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    with contextlib.suppress(AssertionError):
        daemon.start()
    timer.join()
    assert daemon.process is not None  # start has set it
    daemon.process.wait()


def pester(daemon: Daemon, number: int, counted: Counted, ending: threading.Event) -> None:
    """Be one client: look, start, end, ask how it ended, and try again where nobody answers."""

    def ask(method: str, path: str) -> Any:
        while True:
            try:
                counted.requests += 1
                return daemon.ask(method, f"/v1/{path}", {} if method == "POST" else None)
            except GONE:
                counted.refused += 1
                time.sleep(0.02)

    turn, chance = 0, random.Random(number)
    while not ending.is_set():
        turn += 1
        name, how = f"small@{number}-{turn}", chance.choice(ENDS)
        pid = start(ask, name, counted)
        ask("GET", "kernels")
        os.kill(pid, how)
        ended = ask("GET", f"kernels/{name}/wait?for=stopped")
        counted.exits += 1
        if (ended["last_exit"] or {}).get("signal") != how:
            counted.exits_lost.append(f"{name}: {how}, {ended['last_exit']}")


def start(ask: Any, name: str, counted: Counted) -> int:
    """Start a kernel; a daemon that died meanwhile may have begun it, or not."""
    while True:
        try:
            info = ask("POST", f"kernels/{name}/start")
            if info["pid"]:
                return int(info["pid"])
        except DaemonError as error:
            if "nobody saw" in str(error) or "nothing is left" in str(error):
                counted.starts_lost.append(f"{name}: {error}")


def doubled_processes(daemon: Daemon) -> int:
    """Count the kernel processes that share a connection file with another."""
    files: Counter[str] = Counter()
    for process in psutil.process_iter(["cmdline", "status"]):
        for part in process.info["cmdline"] or ():
            if part.startswith(f"{daemon.runtime}/kernel-"):
                files[part] += process.info["status"] != psutil.STATUS_ZOMBIE
    return sum(count - 1 for count in files.values() if count > 1)


def doubled_ports(infos: dict[str, dict[str, Any]]) -> int:
    """Count the tcp ports that two kernels have."""
    ports = Counter(
        value
        for info in infos.values()
        if info["connection"]["transport"] == "tcp"
        for key, value in info["connection"].items()
        if key.endswith("_port")
    )
    return sum(count - 1 for count in ports.values())


if __name__ == "__main__":
    sys.exit(main())
