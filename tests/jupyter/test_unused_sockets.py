"""`is_idle`; tests/jupyter/test_two_notebooks.py closes the sockets of a real server."""

from datetime import UTC, datetime

import pytest

from kconnd.jupyter.unused_sockets import is_idle

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "last_activity", "is_due"),
    [
        ("idle", "2026-01-01T11:59:00+00:00", True),
        ("idle", "2026-01-01T11:59:01+00:00", False),
        ("idle", None, True),
        ("busy", "2026-01-01T11:00:00+00:00", False),
        (None, None, False),
    ],
)
def test_when_a_kernel_is_idle(
    state: str | None, last_activity: str | None, is_due: object
) -> None:
    kernel = {"execution_state": state, "last_activity": last_activity}
    assert is_idle(kernel, 60.0, NOW) is is_due
