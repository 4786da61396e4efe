"""The exceptions of kconnd, each with a code for clients, an exit code and an HTTP status.

::

    KconndError                  failed              1   500
    ├── UsageError               usage               2   400   the request is not valid
    ├── NotRunningError          not-running         3   409   the request needs a live kernel
    ├── FatalInterruptError      fatal-interrupt     1   409   an interrupt would end the kernel
    ├── InterruptIgnoredError    interrupt-ignored   1   409   the cell goes on after an interrupt
    ├── NoSuchKernelError        no-such-kernel      4   404   no profile and no kernel of that name
    ├── ElsewhereError           elsewhere           4   421   another owner's kernel
    ├── RefusedError             refused             5   403   the caller lacks the right
    ├── UnreachableError         unreachable         6   503   no daemon answers
    ├── ProfileError             bad-profile         1   422   a profile has faults
    ├── SessionWantedError       session-wanted      1   428   the client has to send more variables
    ├── StartFailedError         start-failed        1   500   the kernel did not become ready
    │   └── StillRunningError    start-failed        1   500   an earlier process is still alive
    ├── StopFailedError          stop-failed         1   500   a process of the kernel did not exit
    ├── TimedOutError            timed-out           1   504   the caller stopped waiting
    ├── UnsafePathError          unsafe-path         1   500   another user may have changed a path
    ├── PortsTakenError          ports-taken         1   500   no free ports in the range
    ├── StateFileError           bad-state           1   500   saved state cannot be read
    └── LockedError              locked              1   500   another process holds the lock

The columns are the class, its ``code`` in replies, the exit code and the HTTP status.

Rules. A message is one sentence: the action, its object and the cause of the failure. ``hint`` is
the next step for the user. This module imports nothing, so that every program can import it fast.
"""


class KconndError(Exception):
    """An error that is reported to a user of kconnd.

    Parameters
    ----------
    message : str
        One sentence: the action, its object and the cause of the failure.
    hint : str
        The next step for the user; ``""`` if there is none.
    output : str
        The last lines of the kernel's output; ``""`` if there are none.
    """

    code = "failed"
    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "", output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.output = output


class UsageError(KconndError):
    """The request is not valid."""

    code, exit_code, http_status = "usage", 2, 400


class NotRunningError(KconndError):
    """The request needs a live kernel, and this kernel has no process."""

    code, exit_code, http_status = "not-running", 3, 409


class FatalInterruptError(KconndError):
    """An interrupt would end the kernel, and the data in its memory would be lost."""

    code, http_status = "fatal-interrupt", 409


class InterruptIgnoredError(KconndError):
    """An interrupt was sent, and the cell has not ended."""

    code, http_status = "interrupt-ignored", 409


class NoSuchKernelError(KconndError):
    """No profile and no kernel has the name."""

    code, exit_code, http_status = "no-such-kernel", 4, 404


class ElsewhereError(KconndError):
    """The kernel belongs to another owner, whose name is in ``owner``."""

    code, exit_code, http_status = "elsewhere", 4, 421
    owner = ""


class RefusedError(KconndError):
    """The caller lacks the right for this request."""

    code, exit_code, http_status = "refused", 5, 403


class UnreachableError(KconndError):
    """No daemon answers on the socket."""

    code, exit_code, http_status = "unreachable", 6, 503


class ProfileError(KconndError):
    """A profile has faults, so its kernel cannot be started."""

    code, exit_code, http_status = "bad-profile", 1, 422


class SessionWantedError(KconndError):
    """The profile passes variables of the client, whose names are in ``names``, to the kernel.

    The client repeats its request with these variables.
    """

    code, exit_code, http_status = "session-wanted", 1, 428
    names: tuple[str, ...] = ()


class StartFailedError(KconndError):
    """The kernel did not become ready."""

    code = "start-failed"


class StillRunningError(StartFailedError):
    """An earlier process of the kernel is still alive, so no second process is started."""


class StopFailedError(KconndError):
    """A process of the kernel did not exit."""

    code = "stop-failed"


class TimedOutError(KconndError):
    """The caller stopped waiting; the operation may still complete."""

    code, exit_code, http_status = "timed-out", 1, 504


class UnsafePathError(KconndError):
    """Another user may have changed this path, so it is not used."""

    code = "unsafe-path"


class PortsTakenError(KconndError):
    """No free ports are left in the requested range."""

    code = "ports-taken"


class StateFileError(KconndError):
    """Saved state cannot be read."""

    code = "bad-state"


class LockedError(KconndError):
    """Another process holds the lock."""

    code = "locked"


def error_class(code: str) -> type[KconndError]:
    """Return the exception class for a ``code`` of a reply; `KconndError` for an unknown code."""
    return next((kind for kind in KconndError.__subclasses__() if kind.code == code), KconndError)
