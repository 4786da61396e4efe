"""Limits that a daemon inherits from the session that started it."""

import pytest

from kconnd.core.inherited_limits import (
    SessionLimits,
    describe_inherited,
    explain_signal,
    parse_hard_limits,
    soft_limit,
)

PROC = """\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              60                   120                  seconds
Max file size             unlimited            unlimited            bytes
Max address space         1000                 2000                 bytes
Max open files            1024                 4096                 files
"""


@pytest.mark.parametrize(
    ("name", "soft", "hard", "wanted"),
    [
        ("cpu", 60, -1, -1),
        ("cpu", 60, 120, 119),
        ("cpu", 60, 60, 59),
        ("cpu", 1, 1, 1),
        ("as", 10, 20, 20),
        ("as", 20, 20, 20),
        ("fsize", -1, -1, -1),
    ],
)
def test_a_soft_limit_is_raised(name: str, soft: int, hard: int, wanted: int) -> None:
    """Processor time ends one second early, so that the signal names the reason."""
    assert soft_limit(name, soft, hard, -1) == wanted


def test_finite_hard_limits_are_read() -> None:
    assert parse_hard_limits(PROC) == {"cpu": 120, "as": 2000}


def test_each_restriction_is_described() -> None:
    inherited = SessionLimits({"cpu": 120}, 5, 1, 8, 300)
    assert list(describe_inherited(inherited)) == [
        "may use 120 s of processor time (ulimit -Ht)",
        "may use 1 of 8 processors (taskset)",
        "give way to other processes (nice 5)",
        "are killed first if memory runs out (oom_score_adj 300)",
    ]
    assert list(describe_inherited(SessionLimits({}, -5, 8, 8, -100))) == []


def test_signals_of_limits_are_explained() -> None:
    assert "ulimit -t" in explain_signal("SIGXCPU")
    assert explain_signal("SIGTERM") == ""
