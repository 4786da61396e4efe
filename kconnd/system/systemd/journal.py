"""Set up logging: to the journal with fields if systemd reads our stderr, as plain text otherwise.

The ``extra`` argument of a log call carries the fields (systemd.journal-fields(7)). Kernel events
have ``KCONND_KERNEL``, ``KCONND_OWNER``, ``KCONND_EVENT`` and ``MESSAGE_ID``. Audited requests have
``KCONND_UID``, ``KCONND_PID``, ``KCONND_VERB``, ``KCONND_KERNEL`` and ``KCONND_OUTCOME``.
"""

import logging
import os
import sys

EVENT = "7a2f6ccf3f7e4d0c9d3b0e0f5a7d9f11"  # MESSAGE_ID of kernel events
AUDIT = "c0b7d1f2a5b94c1e8f6d4a3b2c1d0e9f"  # MESSAGE_ID of audited requests
TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def set_up_logging(level: str) -> None:
    """Log to stderr, or through systemd-python if stderr is the journal."""
    logging.basicConfig(level=level.upper(), format=TEXT_FORMAT, handlers=[_handler()])
    logging.getLogger("tornado").setLevel(logging.ERROR)


def _handler() -> logging.Handler:
    if _is_journal(os.environ.get("JOURNAL_STREAM", "")):
        try:
            from systemd.journal import JournalHandler  # noqa: PLC0415  # an optional dependency
        except ImportError:
            return logging.StreamHandler()
        handler: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER="kconnd")
        return handler
    return logging.StreamHandler()


def _is_journal(journal_stream: str) -> bool:
    """Check whether stderr is still the journal, by the device and inode that systemd announced."""
    status = os.fstat(sys.stderr.fileno())
    return journal_stream == f"{status.st_dev}:{status.st_ino}"
