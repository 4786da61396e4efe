"""What processes use of memory, processor time and descriptors, as Linux counts it."""

import os
import socket
import subprocess
import sys
from dataclasses import replace

from kconnd.system.process.processes import ProcessId, read_stat
from kconnd.system.process.resource_usage import (
    count_descriptors,
    sockets_of,
    tree_cpu_seconds,
    tree_memory,
)

OURS = ProcessId(os.getpid(), read_stat(os.getpid())[2])


def test_memory_and_time_are_those_of_a_process_and_its_children() -> None:
    alone = tree_memory(OURS)
    assert alone > 1 << 20
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        used = tree_cpu_seconds(OURS)
        assert used[OURS.pid, OURS.started] > 0
        assert (child.pid, read_stat(child.pid)[2]) in used
        assert tree_memory(ProcessId(child.pid, 0)) < tree_memory(OURS)
        child.communicate(b"\n")


def test_a_process_with_another_start_time_has_used_nothing() -> None:
    assert (OURS.pid, 1) not in tree_cpu_seconds(replace(OURS, started=1))


def test_sockets_are_told_from_other_descriptors() -> None:
    before = count_descriptors()[0]
    with socket.socket() as ours, open(os.devnull, "rb"):  # noqa: PTH123  # a descriptor
        assert os.fstat(ours.fileno()).st_ino in set(sockets_of(os.getpid()))
        assert count_descriptors()[0] == before + 2
    assert all(inode > 0 for inode in sockets_of(os.getpid()))
