"""The exit status of a run, from the replies that kernels send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.execution_outcome import (
    SKIPPED,
    exit_status_of,
    is_exit,
    message_of,
    without_exit_advice,
)

REPLIES: list[tuple[dict[str, Any], int, str]] = [
    ({"status": "ok"}, 0, ""),
    ({"status": "error", "ename": "ValueError", "evalue": "3"}, 1, ""),
    ({"status": "error"}, 1, ""),
    (
        {"status": "aborted"},
        1,
        "kconnd-ctl: the kernel skipped the code, since a request before it failed",
    ),
    ({"status": "abort"}, 130, ""),
    ({"status": "error", "ename": "KeyboardInterrupt"}, 130, ""),
    ({"status": "error", "ename": "KernelInterrupt"}, 130, ""),
    ({"status": "error", "ename": "SystemExit", "evalue": "3"}, 3, ""),
    ({"status": "error", "ename": "SystemExit", "evalue": "-1"}, 255, ""),
    ({"status": "error", "ename": "SystemExit"}, 0, ""),
    ({"status": "error", "ename": "SystemExit", "evalue": "False"}, 0, ""),
    ({"status": "error", "ename": "SystemExit", "evalue": "True"}, 1, ""),
    ({"status": "error", "ename": "SystemExit", "evalue": "9" * 5000}, 255, ""),
    ({"status": "error", "ename": "<class 'SystemExit'>", "evalue": "3"}, 3, ""),
    ({"status": "error", "ename": "<class 'KeyboardInterrupt'>"}, 130, ""),
    ({"status": "error", "ename": ["KeyboardInterrupt"]}, 1, ""),
    ({"status": "error", "ename": "SystemExit", "evalue": "no disk"}, 1, "no disk"),
    ({"status": "error", "ename": "SystemExit", "evalue": "²"}, 1, "²"),
    ({}, 1, ""),
]


@pytest.mark.parametrize(("reply", "status", "message"), REPLIES)
def test_a_reply(reply: dict[str, Any], status: int, message: str) -> None:
    assert exit_status_of(reply, interrupted=False) == status
    assert message_of(reply, interrupted=False) == message
    assert exit_status_of(reply, interrupted=True) == 130


def test_a_cell_that_published_nothing_was_skipped_and_not_interrupted() -> None:
    reply = {"status": "abort"}
    assert exit_status_of(reply, interrupted=False, has_begun=False) == 1
    assert message_of(reply, interrupted=False, has_begun=False) == f"kconnd-ctl: {SKIPPED}"
    assert exit_status_of(reply, interrupted=True, has_begun=False) == 130
    assert message_of(reply, interrupted=True, has_begun=False) == ""


@given(st.integers())
def test_sys_exit_keeps_eight_bits(number: int) -> None:
    reply = {"status": "error", "ename": "SystemExit", "evalue": str(number)}
    assert exit_status_of(reply, interrupted=False) == number % 256


@given(st.text())
def test_sys_exit_with_a_text_fails_unless_it_is_a_number(text: str) -> None:
    reply = {"status": "error", "ename": "SystemExit", "evalue": text}
    assert (exit_status_of(reply, interrupted=False) == 1) or not message_of(
        reply, interrupted=False
    )


def test_only_system_exit_is_no_failure() -> None:
    assert is_exit({"ename": "SystemExit"})
    assert not is_exit({"ename": "ValueError"})


def test_only_the_advice_is_removed_from_stderr() -> None:
    advice = "To exit: use 'exit', 'quit', or Ctrl-D."
    warning = f'x.py:1: UserWarning: {advice}\n  warn("{advice}", stacklevel=1)\n'
    assert without_exit_advice(f"a\n{warning}b\n") == "a\nb\n"
    assert without_exit_advice(f"{advice}\n") == f"{advice}\n"
