"""The exit status of a run, from the replies that kernels send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.execution_outcome import exit_status_of, is_exit_notice, message_of

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
    ({"status": "error", "ename": "SystemExit", "evalue": "no disk"}, 1, "no disk"),
    ({"status": "error", "ename": "SystemExit", "evalue": "²"}, 1, "²"),
    ({}, 1, ""),
]


@pytest.mark.parametrize(("reply", "status", "message"), REPLIES)
def test_a_reply(reply: dict[str, Any], status: int, message: str) -> None:
    assert exit_status_of(reply, interrupted=False) == status
    assert message_of(reply) == message
    assert exit_status_of(reply, interrupted=True) == 130


@given(st.integers())
def test_sys_exit_keeps_eight_bits(number: int) -> None:
    reply = {"status": "error", "ename": "SystemExit", "evalue": str(number)}
    assert exit_status_of(reply, interrupted=False) == number % 256


@given(st.text())
def test_sys_exit_with_a_text_fails_unless_it_is_a_number(text: str) -> None:
    reply = {"status": "error", "ename": "SystemExit", "evalue": text}
    assert (exit_status_of(reply, interrupted=False) == 1) or not message_of(reply)


def test_only_messages_about_the_exit_are_notices() -> None:
    assert is_exit_notice("error", {"ename": "SystemExit"})
    assert not is_exit_notice("error", {"ename": "ValueError"})
    advice = {"name": "stderr", "text": "UserWarning: To exit: use 'exit', 'quit', or Ctrl-D.\n"}
    assert is_exit_notice("stream", advice)
    assert not is_exit_notice("stream", {"name": "stdout", "text": "SystemExit"})
