"""Limits of a real process: raised, named by a signal, and read."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from kconnd.system.process.session_limits import read_inherited

RAISE = "from kconnd.system.process.session_limits import raise_soft_limits as r; r()\n"
SHOW = "import resource as r; print(r.getrlimit(r.RLIMIT_{}))\n"


def limited(name: str, soft: int, hard: int, code: str) -> "subprocess.CompletedProcess[str]":
    number = getattr(resource, f"RLIMIT_{name}")
    before = f"import resource as r; r.setrlimit({number}, ({soft}, {hard}))\n"
    command = [sys.executable, "-c", before + RAISE + code]
    return subprocess.run(command, capture_output=True, check=False, text=True)


@pytest.mark.parametrize("name", ["CPU", "FSIZE", "AS"])
def test_a_soft_limit_of_the_session_is_raised(name: str) -> None:
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
    if hard != resource.RLIM_INFINITY:
        pytest.skip("the session of this test has a hard limit")
    assert limited(name, 1 << 40, hard, SHOW.format(name)).stdout == "(-1, -1)\n"


def test_the_end_of_processor_time_names_itself() -> None:
    """At the hard limit, Linux would send SIGKILL."""
    assert limited("CPU", 2, 2, "while True: pass").returncode == -signal.SIGXCPU


def test_what_a_process_inherited_is_read() -> None:
    command = ["nice", "-n", "3", "sh", "-c", "ulimit -t 5000; echo; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        inherited = read_inherited(process.pid)
        process.kill()
    assert inherited.hard_limits["cpu"] == 5000
    assert inherited.nice == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    assert inherited.processors == len(os.sched_getaffinity(0))
    with pytest.raises(OSError, match="No such"):
        read_inherited(process.pid)
