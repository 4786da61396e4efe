"""A process that gives way for a while, and has its priority back afterwards, whoever asks."""

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from kconnd.system.process import priority
from kconnd.system.process.priority import LOWEST_NICE, NORMAL_NICE, LowPriority, read_group_nice
from kconnd.system.process.processes import ProcessId, read_stat
from tests.conftest import wait_until


def is_grouped() -> bool:
    try:
        return Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() == "1"
    except OSError:
        return False


grouped = pytest.mark.skipif(
    not is_grouped(), reason="this Linux does not group processes by session"
)


def sleeper(*, leads: bool) -> tuple[subprocess.Popen[bytes], ProcessId]:
    process = subprocess.Popen(["/bin/sleep", "100"], start_new_session=leads)
    return process, ProcessId(process.pid, read_stat(process.pid)[2])


async def test_the_priority_is_lowered_in_the_block_and_normal_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On any Linux, whether or not it groups processes."""
    values: list[int] = []

    def write(_pid: int, nice: int) -> bool:
        values.append(nice)
        return True

    monkeypatch.setattr(priority, "read_group_nice", lambda _process: NORMAL_NICE)
    monkeypatch.setattr(priority, "_write_group_nice", write)
    async with LowPriority(ProcessId(os.getpid(), read_stat(os.getpid())[2])):
        await wait_until(lambda: values, "it to give way")
    assert values == [LOWEST_NICE, NORMAL_NICE]


@grouped
async def test_it_gives_way_while_the_block_runs_and_not_after_it() -> None:
    process, one = sleeper(leads=True)
    try:
        assert read_group_nice(one) == NORMAL_NICE
        async with LowPriority(one):
            await wait_until(lambda: read_group_nice(one) == LOWEST_NICE, "it to give way")
        assert read_group_nice(one) == NORMAL_NICE
    finally:
        process.kill()
        process.wait()


@grouped
async def test_what_shares_a_session_or_has_ended_is_left_alone() -> None:
    process, one = sleeper(leads=False)
    read_ours = partial(Path("/proc/self/autogroup").read_text, encoding="utf-8")
    ours = read_ours()
    try:
        async with LowPriority(one):
            await asyncio.sleep(0)
            assert read_ours() == ours
    finally:
        process.kill()
        process.wait()
    async with LowPriority(one):
        pass
    async with LowPriority(ProcessId(os.getpid(), 1)):
        pass


@grouped
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_a_user_without_privileges_can_take_it_back() -> None:
    """Others than root may change a group ten times in a second, all together."""
    script = """
import asyncio, json, os, subprocess
from kconnd.system.process import priority
from kconnd.system.process.priority import LowPriority, read_group_nice
from kconnd.system.process.processes import ProcessId, read_stat
os.setgid(65534); os.setuid(65534)
process = subprocess.Popen(["/bin/sleep", "100"], start_new_session=True)
one = ProcessId(process.pid, read_stat(process.pid)[2])
async def main():
    seen = []
    for _ in range(2):
        async with LowPriority(one):
            async with asyncio.timeout(20):
                while read_group_nice(one) != 19:
                    await asyncio.sleep(0.01)
            seen.append(19)
        seen.append(read_group_nice(one))
    return seen
try:
    print(json.dumps(asyncio.run(main())))
finally:
    process.kill()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [LOWEST_NICE, NORMAL_NICE] * 2
