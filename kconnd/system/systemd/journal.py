"""Set up logging: to the journal with fields, if stderr is the journal; else text on stderr.

The ``extra`` argument of a log call carries the fields (systemd.journal-fields(7)). Kernel events
have ``KCONND_KERNEL``, ``KCONND_OWNER``, ``KCONND_EVENT`` and ``MESSAGE_ID``. Audited requests have
``KCONND_UID``, ``KCONND_PID``, ``KCONND_VERB``, ``KCONND_KERNEL`` and ``KCONND_OUTCOME``.
"""

import logging
import os
import stat
import sys

EVENT = "7a2f6ccf3f7e4d0c9d3b0e0f5a7d9f11"  # MESSAGE_ID of kernel events
AUDIT = "c0b7d1f2a5b94c1e8f6d4a3b2c1d0e9f"  # MESSAGE_ID of audited requests
TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def set_up_logging(level: str) -> None:
    """Set up logging: through systemd-python if stderr is the journal, else to stderr.

    If a service starts while journald is down, its stderr is ``/dev/null`` until the service exits.
    The lines of such a service are sent to the journal's socket, which works again once journald
    runs.
    """
    logging.basicConfig(level=level.upper(), format=TEXT_FORMAT, handlers=[_handler()])
    logging.getLogger("tornado").setLevel(logging.ERROR)


def _handler() -> logging.Handler:
    environment = os.environ
    if _is_journal(environment.get("JOURNAL_STREAM", "")) or (
        "INVOCATION_ID" in environment and _is_null()
    ):
        try:
            from systemd.journal import JournalHandler  # noqa: PLC0415  # an optional dependency
        except ImportError:
            return logging.StreamHandler()
        handler: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER="kconnd")
        return handler
    return logging.StreamHandler()


def _is_journal(journal_stream: str) -> bool:
    """Check whether stderr is the journal, by the device and inode in ``$JOURNAL_STREAM``."""
    status = os.fstat(sys.stderr.fileno())
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def _is_null() -> bool:
    """Check whether stderr is ``/dev/null``."""
    status = os.fstat(sys.stderr.fileno())
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116  # a device
