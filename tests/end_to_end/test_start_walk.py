"""What one start costs: records, scans, questions, and how often it comes back into a room."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, SMALL_KERNEL, Daemon, DaemonError
from tests.end_to_end.start_walk import read_walk, recorded

STORED = Path(__file__).parents[1] / "data/start-walk.json"


@pytest.mark.parametrize("origin", ["profile", "kernel spec"])
def test_a_start_costs_no_more_than_it_did(
    folder: Path, capsys: pytest.CaptureFixture[str], origin: str
) -> None:
    report, spec = folder / "walk.json", folder / "jupyter-path/kernels/small/kernel.json"
    with recorded(Daemon(folder), report) as daemon:
        if origin == "profile":
            daemon.profile("small", SMALL)
        else:
            spec.parent.mkdir(parents=True)
            argv = [sys.executable, str(SMALL_KERNEL), "{connection_file}"]
            spec.write_text(json.dumps({"argv": argv, "display_name": "small"}))
        daemon.start(env={**os.environ, "JUPYTER_PATH": str(folder / "jupyter-path")})
        for _ in range(2):  # each waits for a scan, so that the daemon's first one is over
            with pytest.raises(DaemonError):
                daemon.info("unknown")
        daemon.post("small", "start")
        wait_for(report.exists, "the walk")
    walk = read_walk(report)
    with capsys.disabled():
        sys.stdout.write(f"\nThe walk of a start from a {origin}:\n{walk}\n")
    most = json.loads(STORED.read_bytes())
    costs = walk.figures()
    assert costs.keys() == most.keys()
    assert {figure: cost for figure, cost in costs.items() if cost > most[figure]} == {}
