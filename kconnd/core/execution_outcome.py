"""Decides the exit status of ``kconnd-ctl run`` from the reply to an ``execute_request``.

The replies of kernels were measured; `tests/jupyter/kernel_table.py` has a row for each kernel. The
reply about a failed cell has the status ``error`` and the name of an exception. The reply about an
interrupted cell depends on the kernel:

- ipykernel, async-kernel: an error named ``KeyboardInterrupt`` or ``KernelInterrupt``.
- IRkernel, bash_kernel, fish-kernel: the status ``abort``.
- octave, gnuplot, GAP, deno: the status ``ok``, as if nothing had happened.
- Other kernels that wrap a program with ipykernel's class ``Kernel``: no reply at all.

After a failed cell, kernels skip the cells that are already queued. ipykernel replies ``aborted``
then, and tslab ``abort``. A skipped cell publishes nothing but its status, whereas IRkernel and
bash_kernel publish ``execute_input`` before they run a cell. This tells the two meanings of
``abort`` apart.

If ``kconnd-ctl run`` itself has interrupted the cell, the exit status is therefore 130, independent
of the reply. Kernels report ``sys.exit(n)`` as an error whose name is ``SystemExit`` and whose
value is the text of ``n``. xeus-python writes the name as ``<class 'SystemExit'>``.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SUCCEEDED, FAILED, INTERRUPTED = 0, 1, 130
STATUS_MASK = 0xFF  # exit() keeps the lowest eight bits
STATUS_DIGITS = 8  # the last digits, which determine these bits: 10 ** 8 is a multiple of 256
INTERRUPTS = frozenset({"KeyboardInterrupt", "KernelInterrupt"})  # names of errors
# The status "aborted" is different: it means that the request was skipped.
INTERRUPTED_STATUS = "abort"
SYSTEM_EXIT = "SystemExit"
EXIT_WORDS = {"": SUCCEEDED, "None": SUCCEEDED, "False": SUCCEEDED, "True": FAILED}
EXIT_ADVICE = "To exit: use 'exit', 'quit', or Ctrl-D."  # a warning of IPython after SystemExit
_ADVICE_LINES = re.compile(
    rf"^.*: UserWarning: {re.escape(EXIT_ADVICE)}\n(?:  warn\(.*\n)?", re.MULTILINE
)
SKIPPED = "the kernel skipped the code, since a request before it failed"


def exit_status_of(reply: Mapping[str, Any], *, interrupted: bool, has_begun: bool = True) -> int:
    """Return the exit status for a reply.

    Parameters
    ----------
    reply : mapping
        The content of the ``execute_reply``; empty if the kernel sent no reply after an interrupt.
    interrupted : bool
        Whether ``kconnd-ctl run`` has interrupted the cell.
    has_begun : bool
        Whether the cell has published anything but its status.
    """
    status, name = reply.get("status"), _error_name(reply)
    if interrupted or (status == INTERRUPTED_STATUS and has_begun) or name in INTERRUPTS:
        return INTERRUPTED
    if status == "ok":
        return SUCCEEDED
    if name == SYSTEM_EXIT:
        number = _exit_number(str(reply.get("evalue", "")))
        return FAILED if number is None else number & STATUS_MASK
    return FAILED


def message_of(reply: Mapping[str, Any], *, interrupted: bool, has_begun: bool = True) -> str:
    """Return the text to print on stderr about a reply; ``""`` if there is nothing to print.

    The kernel itself does not publish this text. The parameters are those of `exit_status_of`.
    """
    skips = reply.get("status") == INTERRUPTED_STATUS and not (has_begun or interrupted)
    if skips or reply.get("status") == "aborted":
        return f"kconnd-ctl: {SKIPPED}"
    value = str(reply.get("evalue", ""))
    return value if is_exit(reply) and _exit_number(value) is None else ""


def is_exit(error: Mapping[str, Any]) -> bool:
    """Return whether an error is ``SystemExit``, which is not a failure of the code.

    Parameters
    ----------
    error : mapping
        The content of the message or reply.
    """
    return _error_name(error) == SYSTEM_EXIT


def without_exit_advice(text: str) -> str:
    """Remove IPython's warning about ``SystemExit`` from a text on stderr."""
    return _ADVICE_LINES.sub("", text) if EXIT_ADVICE in text else text


def _error_name(error: Mapping[str, Any]) -> str:
    return str(error.get("ename", "")).removeprefix("<class '").removesuffix("'>")


def _exit_number(value: str) -> int | None:
    """Convert the text of a ``sys.exit`` argument to a number; None if it is a message."""
    if value in EXIT_WORDS:
        return EXIT_WORDS[value]
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        return None
    number = int(digits[-STATUS_DIGITS:])
    return number if value == digits else -number
