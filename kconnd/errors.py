"""What can go wrong, as exceptions that can be told to a person, a client and a shell.

::

    KconndError                  failed              1   500
    ├── UsageError               usage               2   400   the request makes no sense
    ├── NotRunningError          not-running         3   409   it needs a live kernel
    ├── NoSuchKernelError        no-such-kernel      4   404   no profile and no kernel of that name
    ├── ElsewhereError           elsewhere           4   421   it is another owner's kernel
    ├── RefusedError             refused             5   403   the caller may not
    ├── UnreachableError         unreachable         6   503   no daemon answers
    ├── ProfileError             bad-profile         1   422   a profile has faults
    ├── StartFailedError         start-failed        1   500   the kernel did not become ready
    │   └── StillRunningError    start-failed        1   500   a process of it is there already
    ├── StopFailedError          stop-failed         1   500   some process would not go
    ├── TimedOutError            timed-out           1   504   it may still happen
    ├── UnsafePathError          unsafe-path         1   500   another user may have touched it
    ├── PortsTakenError          ports-taken         1   500   no free ports where asked for
    ├── StateFileError           bad-state           1   500   what was saved cannot be read
    └── LockedError              locked              1   500   another process holds it

The columns are the class, its ``code`` on the socket, its exit code and its HTTP status.
Rules: a message says what was being done, to what and why it failed, in one sentence;
``hint`` says what to do next. This file imports nothing, since every program starts with it.
"""


class KconndError(Exception):
    """Something that a user of kconnd has to be told.

    Parameters
    ----------
    message : str
        One sentence: what was being done, to what, and why it failed.
    hint : str
        What to do next, or ``""``.
    output : str
        The last lines that the kernel itself said, or ``""``.
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
    """The request makes no sense as it stands."""

    code, exit_code, http_status = "usage", 2, 400


class NotRunningError(KconndError):
    """The request needs a live kernel and this one is not."""

    code, exit_code, http_status = "not-running", 3, 409


class NoSuchKernelError(KconndError):
    """Neither a profile nor a kernel has that name."""

    code, exit_code, http_status = "no-such-kernel", 4, 404


class ElsewhereError(KconndError):
    """The kernel of that name is another owner's; ``owner`` says whose."""

    code, exit_code, http_status = "elsewhere", 4, 421
    owner = ""


class RefusedError(KconndError):
    """The caller may not do that."""

    code, exit_code, http_status = "refused", 5, 403


class UnreachableError(KconndError):
    """No daemon answers on the socket."""

    code, exit_code, http_status = "unreachable", 6, 503


class ProfileError(KconndError):
    """A profile has faults, so the kernel cannot be started from it."""

    code, exit_code, http_status = "bad-profile", 1, 422


class StartFailedError(KconndError):
    """The kernel did not become ready."""

    code = "start-failed"


class StillRunningError(StartFailedError):
    """An earlier process of the kernel is still there, and there is never a second one."""


class StopFailedError(KconndError):
    """Some process of the kernel is still there."""

    code = "stop-failed"


class TimedOutError(KconndError):
    """The caller's time is over; what was waited for may still happen."""

    code, exit_code, http_status = "timed-out", 1, 504


class UnsafePathError(KconndError):
    """Another user could have had a hand in this path, so it is not used."""

    code = "unsafe-path"


class PortsTakenError(KconndError):
    """There are no free ports where they were asked for."""

    code = "ports-taken"


class StateFileError(KconndError):
    """What was saved cannot be read back."""

    code = "bad-state"


class LockedError(KconndError):
    """Another process holds the lock."""

    code = "locked"


def error_class(code: str) -> type[KconndError]:
    """Give the class for a ``code`` read from the socket; an unknown one is a plain failure."""
    return next((kind for kind in KconndError.__subclasses__() if kind.code == code), KconndError)
