"""Decides when to check that an idle kernel answers on its shells, and describes one that does not.

A kernel that hangs after the end of a cell keeps the status ``idle``, and may still answer
heartbeats and control requests. Only the missing answer to a request on the shell channel shows
that it runs no cell any more (`kconnd.daemon.kernel.shell_check`).

Rule: this module reads no clock. Times are arguments, in monotonic seconds.
"""

SILENT_AFTER_S = 2.0  # an idle kernel answers within milliseconds, also on a slow machine
CHECK_AFTER_S = 10.0  # from a client's last request to the check that follows it
MAX_PROOF_AGE_S = 5.0  # with an older answer, a kernel is checked when a user looks at it


def is_check_due(active_at: float, proved_at: float, now: float) -> bool:
    """Return whether an idle kernel must be checked: once after the requests of clients.

    Parameters
    ----------
    active_at : float
        The time of the last status of a client's request.
    proved_at : float
        The time of the last answer of all shells.
    now : float
        The present time.
    """
    return proved_at < active_at <= now - CHECK_AFTER_S


def describe_silence(waited_s: float, *, control_answers: bool) -> str:
    """Describe an idle kernel that has not answered a check; ``""`` if it may still answer.

    Parameters
    ----------
    waited_s : float
        The time since the check, in seconds.
    control_answers : bool
        Whether the kernel has answered on its control channel meanwhile.
    """
    if waited_s < SILENT_AFTER_S:
        return ""
    silence = f"it reports idle, but has not answered on its shell channel for {waited_s:.0f} s"
    return f"{silence}, although its control channel answers" if control_answers else silence


def hint_for_silence(name: str) -> str:
    """Return the next step for a kernel that does not answer on its shell channel."""
    return (
        f"it runs no cell until it answers; kconnd-ctl restart {name} replaces it, and loses its "
        "data"
    )
