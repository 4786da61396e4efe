"""A probe of real kernels finds what is known of them."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.daemon import Daemon
from tests.jupyter.kernel_measurement import NAME, kernel_environment
from tests.jupyter.kernel_table import ROWS

OWN = Path(sys.executable).parent.parent
ALL_TRUE = {
    "unix_sockets": True,
    "curve": True,
    "listens_as_told": True,
    "rewrites_connection_file": False,
    "answers_on_control": True,
    "heartbeat_idle": True,
    "heartbeat_busy": True,
    "sigint_ends_cell": True,
    "survives_sigint": True,
    "interrupt_request_ends_cell": True,
    "interrupt_reply": True,
    "replies_after_interrupt": True,
    "exits_after_shutdown": True,
}
KERNELS: list[tuple[str, dict[str, Any]]] = [
    ("ipykernel", {}),
    ("bash_kernel", {}),
    (
        "xeus-python",
        {
            "unix_sockets": False,
            "curve": False,
            "sigint_ends_cell": False,
            "survives_sigint": False,
            "interrupt_request_ends_cell": False,
            "replies_after_interrupt": None,
        },
    ),
    (
        "IRkernel",
        {
            "curve": False,
            "answers_on_control": False,
            "heartbeat_busy": False,
            "interrupt_request_ends_cell": False,
            "interrupt_reply": False,
        },
    ),
]


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [] if name == "ipykernel" else [pytest.mark.languages, pytest.mark.nightly]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "differs"),
    [pytest.param(name, differs, id=name, marks=marks(name)) for name, differs in KERNELS],
)
def test_a_probe_finds_what_a_kernel_does(name: str, differs: dict[str, Any], home: Path) -> None:
    row = next(row for row in ROWS if row.name == name)
    if row.program and not shutil.which(row.program):
        pytest.skip(f"{row.program} is not installed here")
    env = kernel_environment(home, OWN)
    with Daemon(home) as daemon:
        daemon.profile(
            NAME, row.profile.replace("{venv}", str(OWN)).replace("{python}", sys.executable)
        )
        daemon.start(env=env)
        reply = daemon.post(NAME, "probe")
    values = {row["fact"]: row["value"] for row in reply["facts"]}
    assert 0 < values.pop("seconds_to_start") < reply["took_s"]
    assert values == ALL_TRUE | differs, reply
