"""A kernel that answers with tens of megabytes, or of nothing but frames, holds up nobody."""

from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon, DaemonError
from tests.end_to_end.slow_turns import (
    Lookups,
    assert_answers_in_time,
    assert_no_slow_turn,
    measured,
)

TCP = SMALL.replace("transport: ipc", "transport: tcp\nencryption: none")


@pytest.fixture
def banner(folder: Path) -> Path:
    path = folder / "banner"
    path.write_text("0")
    return path


@pytest.mark.parametrize("transport", ["tcp", pytest.param("ipc", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("size", [50_000_000, pytest.param(-200_000, marks=pytest.mark.nightly)])
def test_a_reply_without_bounds(daemon: Daemon, banner: Path, transport: str, size: int) -> None:
    """Once it has answered as others do, its state stays right, and it can be stopped."""
    profile = TCP if transport == "tcp" else SMALL
    daemon.profile("large", f"{profile}env: {{SMALL_KERNEL_BANNER: {banner}}}\n")
    daemon.profile("lab", SMALL)
    measured(daemon).start()
    daemon.post("lab", "start")

    def measure() -> Lookups:
        banner.write_text("0")
        pid = daemon.post("large", "start")["pid"]
        daemon.end()
        banner.write_text(str(size))
        daemon.start()
        spent = processor_time(pid)
        with Lookups(daemon, "lab") as lookups:
            wait_for(lambda: processor_time(pid) > spent + 0.2, "it to have answered")
            with pytest.raises(DaemonError, match="it is running after 2 s"):
                daemon.get("/v1/kernels/large/wait?for=stopped&timeout=2")
            assert daemon.state_of("large") == "running"
            assert daemon.info("large")["pid"] == pid
            daemon.post("large", "stop")
        assert daemon.state_of("large") == "stopped"
        assert_no_slow_turn(daemon, since=lookups.began)
        return lookups

    assert_answers_in_time(measure)


def processor_time(pid: int) -> float:
    """Give how many seconds a process has computed, from proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
