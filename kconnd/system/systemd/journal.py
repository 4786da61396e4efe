"""Logging: to the journal with fields where systemd reads us, as plain text elsewhere.

Fields (systemd.journal-fields(7)): ``KCONND_KERNEL``, ``KCONND_OWNER``, ``KCONND_EVENT`` and
``MESSAGE_ID`` of what happens to kernels; ``KCONND_UID``, ``KCONND_PID``, ``KCONND_VERB``,
``KCONND_KERNEL`` and ``KCONND_OUTCOME`` of what was asked. They are given as ``extra``.
"""

import logging
import os
import sys

EVENT = "7a2f6ccf3f7e4d0c9d3b0e0f5a7d9f11"  # MESSAGE_ID of what happens to a kernel
AUDIT = "c0b7d1f2a5b94c1e8f6d4a3b2c1d0e9f"  # and of what somebody asked for
TEXT = "%(asctime)s %(levelname)s %(message)s"


def set_up_logging(level: str) -> None:
    """Log to where our stderr goes: by systemd-python if that is the journal."""
    logging.basicConfig(level=level.upper(), format=TEXT, handlers=[_handler()])
    logging.getLogger("tornado").setLevel(logging.ERROR)


def _handler() -> logging.Handler:
    if _is_journal(os.environ.get("JOURNAL_STREAM", "")):
        try:
            from systemd.journal import JournalHandler  # noqa: PLC0415  # an extra
        except ImportError:
            return logging.StreamHandler()
        handler: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER="kconnd")
        return handler
    return logging.StreamHandler()


def _is_journal(stream: str) -> bool:
    """Tell whether stderr is what systemd says it is, and nobody has redirected it since."""
    about = os.fstat(sys.stderr.fileno())
    return stream == f"{about.st_dev}:{about.st_ino}"
