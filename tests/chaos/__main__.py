"""``scripts/chaos``: kill the daemon again and again while kernels work and clients ask.

Real kernels count: in a cell, in a subshell, in a thread; over Unix sockets, tcp and CURVE, started
and forked, and one of R. Clients meanwhile start small kernels and end them (`tests.chaos.crowd`).
The daemon is killed with -9 at random moments, while it starts, too; for a quarter of the time
its disk is full; and its clock is set forward and back by hours, with profiles that would stop
an idle kernel after seconds and restart one that is unresponsive (`tests.chaos.trouble`). What must
not be lost is counted at the end; the exit code is 1 if anything was.
"""

import argparse
import contextlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from kconnd.system.process.processes import is_alive
from tests.chaos.crowd import Counted, crowd
from tests.chaos.trouble import Clock, kill_often, small_disk, start
from tests.chaos.work import Subshell, Thread, Worker, cell, cell_in_r
from tests.end_to_end.daemon import IPYKERNEL, SMALL, Daemon

UNUSED = "idle: {stop_after: 10s}\n"  # what works is to be kept by that alone
STRICT = "heartbeat: {interval: 1s, misses: 3, action: restart}\n"
PROFILES = {
    "curve": IPYKERNEL + "transport: tcp\nencryption: curve\n" + UNUSED,
    "ipc": IPYKERNEL + UNUSED,
    "fork": IPYKERNEL + "launcher: fork\n" + UNUSED,
    "tcp": IPYKERNEL + "transport: tcp\nencryption: none\n" + UNUSED,
    "small": SMALL + "restart: {policy: no}\n",
    "r": "kernel: ir\n" + STRICT,
}
KINDS = ("curve", "ipc", "fork", "curve", "tcp", "fork")  # a third each: CURVE, forked, others


@dataclass(frozen=True)
class Kernel:
    """One that works, and what it was like before."""

    worker: Worker
    info: dict[str, Any]
    shim: Any


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
    gate, counted, clock = folder / "gate", Counted(), Clock(folder / "clock")
    disk = folder / "d"
    disk.mkdir()
    clock.set(0)
    with small_disk(disk) as own, Daemon(disk) as daemon, contextlib.ExitStack() as stack:
        daemon.log = folder / "daemon.log"
        for name, text in PROFILES.items():
            daemon.profile(name, text)
        start(daemon, clock)
        kernels = {}
        for name, worker in workers(given.kernels, gate).items():
            kernels[name] = begin(daemon, name, worker)
            stack.callback(worker.end)
        with crowd(daemon, given.clients, counted):
            chance = random.Random(given.seed)
            adoptions = kill_often(daemon, clock, given.kills, chance, disk if own else None)
        after = {name: daemon.info(name) for name in kernels}
        gate.touch()
        results = [one.worker.result(one.info["connection_file"]) for one in kernels.values()]
        found = {
            "kernels": len(kernels),
            "of_which_on_curve": sum(is_encrypted(one) for one in kernels.values()),
            "in_subshells_and_threads": sum(is_unattended(one) for one in kernels.values()),
            "of_R": sum(one.info["kernel_name"] == "ir" for one in kernels.values()),
            "daemon_killed": given.kills,
            "of_which_on_a_full_disk": given.kills // 2 - given.kills // 4 if own else 0,
            "clock_set": clock.changes if clock.environment else 0,
            "requests_by_clients": counted.requests,
            "of_which_found_no_daemon": counted.refused,
            "of_which_found_a_full_disk": counted.unsaved,
            "kernels_ended_from_outside": counted.exits,
            "kernels_lost": sum(not is_same(one, after[name]) for name, one in kernels.items()),
            "executions_lost": results.count(None),
            "exit_codes_lost": len(counted.exits_lost),
            "starts_lost": len(counted.starts_lost),
            "processes_doubled": doubled_processes(daemon),
            "ports_doubled": doubled_ports(after),
            "median_adoption_s": round(sorted(adoptions)[len(adoptions) // 2], 3),
            "slowest_adoption_s": round(max(adoptions), 3),
            "seed": given.seed,
        }
        tell_losses(daemon, kernels, after, results, counted)
        for one in daemon.get("/v1/kernels")["kernels"]:
            daemon.post(one["name"], "stop")
    return found


def tell_losses(
    daemon: Daemon,
    kernels: dict[str, Kernel],
    after: dict[str, dict[str, Any]],
    results: list[int | None],
    counted: Counted,
) -> None:
    """Say of all that was lost what the daemon knows about it."""
    print(*counted.exits_lost, *counted.starts_lost, sep="\n", file=sys.stderr)
    for (name, one), result in zip(kernels.items(), results, strict=True):
        if result is None or not is_same(one, after[name]):
            why = daemon.get(f"/v1/kernels/{name}/why")["decisions"][-4:]
            print(f"{name}, {type(one.worker).__name__}: {why}", file=sys.stderr)


def is_encrypted(kernel: Kernel) -> bool:
    """Tell whether a kernel is reached by CURVE."""
    return bool(kernel.info["connection"]["encrypted"])


def is_unattended(kernel: Kernel) -> bool:
    """Tell whether a kernel works without a client."""
    return isinstance(kernel.worker, Subshell | Thread)


def workers(count: int, gate: Path) -> dict[str, Worker]:
    """Give each kernel its work; of the kernels of each kind, a third do it in each way."""
    found: dict[str, Worker] = {}
    for number in range(count):
        kind, turn = KINDS[number % len(KINDS)], number // len(KINDS) % 3
        ways: tuple[Worker, ...] = (cell(gate), Subshell(gate), Thread(gate))
        found[f"{kind}@{number}"] = ways[turn]
    if shutil.which("R"):
        found["r"] = cell_in_r(gate)
    return found


def begin(daemon: Daemon, name: str, worker: Worker) -> Kernel:
    """Start a kernel and its work."""
    info = daemon.post(name, "start")
    worker.begin(info["connection_file"])
    return Kernel(worker, info, daemon.shim_of(name))


def is_same(before: Kernel, after: dict[str, Any]) -> bool:
    """Tell whether a kernel is the process that it was."""
    same = all(after[key] == before.info[key] for key in ("pid", "generation"))
    return is_alive(before.shim) and same


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
        if info["connection"] and info["connection"]["transport"] == "tcp"
        for key, value in info["connection"].items()
        if key.endswith("_port")
    )
    return sum(count - 1 for count in ports.values())


if __name__ == "__main__":
    sys.exit(main())
