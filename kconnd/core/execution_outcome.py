"""Decides the exit status of ``kconnd-ctl run`` from the reply to an ``execute_request``.

How kernels reply (measured; `tests/jupyter/kernel_table.py` has a row for each kernel). A failed
cell has the status ``error`` and the name of an exception. An interrupted cell has no common form:

- ipykernel, async-kernel: an error named ``KeyboardInterrupt`` or ``KernelInterrupt``.
- IRkernel, bash_kernel, fish-kernel: the status ``abort``.
- octave, gnuplot, GAP, deno: the status ``ok``, as if nothing had happened.
- Other kernels that wrap a program with ipykernel's class ``Kernel``: no reply at all.

If the command itself has interrupted the cell, the exit status is therefore 130 for every reply.
``sys.exit(n)`` is an error with the name ``SystemExit``, and the value of this error is the text of
``n``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SUCCEEDED, FAILED, INTERRUPTED = 0, 1, 130
STATUS_MASK = 0xFF  # exit() keeps the lowest eight bits
INTERRUPTS = frozenset({"KeyboardInterrupt", "KernelInterrupt"})  # names of errors
# The status "aborted" is different: it means that the request was skipped.
INTERRUPTED_STATUS = "abort"
SYSTEM_EXIT = "SystemExit"
EXIT_ADVICE = "To exit: use 'exit', 'quit', or Ctrl-D."  # a warning of IPython after SystemExit
SKIPPED = "the kernel skipped the code, since a request before it failed"


def exit_status_of(reply: Mapping[str, Any], *, interrupted: bool) -> int:
    """Return the exit status for a reply.

    Parameters
    ----------
    reply : mapping
        The content of the ``execute_reply``; empty if the kernel sent no reply after an interrupt.
    interrupted : bool
        Whether the command has interrupted the cell.
    """
    status, name = reply.get("status"), reply.get("ename")
    if interrupted or status == INTERRUPTED_STATUS or name in INTERRUPTS:
        return INTERRUPTED
    if status == "ok":
        return SUCCEEDED
    if name == SYSTEM_EXIT:
        return _status_of_exit(str(reply.get("evalue", "")))
    return FAILED


def message_of(reply: Mapping[str, Any]) -> str:
    """Return the text for stderr that the kernel itself has not published as output."""
    if reply.get("status") == "aborted":
        return f"kconnd-ctl: {SKIPPED}"
    value = str(reply.get("evalue", ""))
    if reply.get("ename") == SYSTEM_EXIT and not _is_no_text(value):
        return value
    return ""


def is_exit_notice(kind: str, content: Mapping[str, Any]) -> bool:
    """Return whether a message only reports ``SystemExit``, which does not count as a failure.

    Parameters
    ----------
    kind : str
        The type of the message.
    content : mapping
        The content of the message.
    """
    if kind == "error":
        return content.get("ename") == SYSTEM_EXIT
    return kind == "stream" and EXIT_ADVICE in str(content.get("text"))


def _status_of_exit(value: str) -> int:
    """Return the exit status for the text of the argument of ``sys.exit``."""
    if _is_number(value):
        return int(value) & STATUS_MASK
    return SUCCEEDED if _is_no_text(value) else FAILED


def _is_no_text(value: str) -> bool:
    return value in {"", "None"} or _is_number(value)


def _is_number(value: str) -> bool:
    return value.removeprefix("-").isascii() and value.removeprefix("-").isdecimal()
