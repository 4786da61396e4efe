"""Validates the reply of another owner's daemon; only known fields of bounded size pass.

A daemon runs as its owner, so the owner can replace the daemon by any program. Fields of a reply
are therefore only displayed: no path in a reply is opened, and no name in a reply is used for
another request. The one exception is the connection info: the user's client connects to the
addresses in it, after `kconnd.core.launch.connection.parse_foreign_connection` has checked its
values. The client (`kconnd.client`) and the front door (`kconnd.front.owner_kernels`) use this
module.

How it works. A reader is a function that takes a value of the reply and returns the valid value, or
raises `ValueError`. `record` and `rows` build readers from other readers; a field without a reader
is dropped. `validate_reply` chooses the reader by the path of the request. A one-line text is
truncated to a maximum length, and its unprintable characters are replaced. The output of a kernel
(``text``, ``output_tail``) keeps its control characters, because `kconnd.core.terminal_text`
filters the output when it is displayed.

Compatibility. A field that a later version adds must be optional here, because daemons of earlier
versions do not send the field.

Rule: this module imports nothing slow, because commands of the client import it.
"""

from __future__ import annotations

import shlex

from kconnd.core.limits import LIMIT_KEYS
from kconnd.core.protocol.request_head import unquote
from kconnd.errors import UnreachableError, UsageError, error_class

TYPE_CHECKING = False  # importing typing would cost each command milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from kconnd.errors import KconndError

    Reader = Callable[[object], Any]

KERNELS = "/v1/kernels"
MAX_ROWS = 1000  # the maximum of kernels of one owner and of decisions of one kernel
MAX_LINE_CHARS = 1000
MAX_PATH_CHARS = 4096
MAX_OUTPUT_CHARS = 16 << 10
MAX_LOG_CHARS = 64 << 20  # the client reads at most this much of one reply
MAX_NAME_CHARS = 40  # the maximum for a profile and for an instance, as in kconnd.core.names
MAX_COUNT = 1 << 53  # every JSON parser represents integers up to this limit exactly
MAX_SECONDS = 1e9
SUBSTITUTE = "?"  # replaces a character that is not printable

STATES = ("stopped", "launching", "starting", "running", "stopping", "backoff", "failed", "lost")
PROFILE_STATES = ("current", "changed: restart to apply", "orphaned")
ACTIVITIES = ("busy", "idle", "unknown")
_DIGITS = "0123456789"
_TIMES = {f"0000-00-00T00:00:00{f'.{0:0{n}}' if n else ''}Z" for n in range(7)}


# --- readers of one value


def line(limit: int = MAX_LINE_CHARS) -> Reader:
    """Return a reader of a line of text; it truncates the text and replaces control characters."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("is not text")  # noqa: TRY004  # callers catch one kind of error
        text = value[:limit]
        if text.isprintable():
            return text
        return "".join(char if char.isprintable() else SUBSTITUTE for char in text)

    return read


def output(limit: int = MAX_OUTPUT_CHARS) -> Reader:
    """Return a reader of a kernel's output; it keeps the last ``limit`` characters.

    Invalid Unicode is replaced; control characters are kept.
    """

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("is not text")  # noqa: TRY004  # see `line`
        return value[-limit:].encode("utf-8", "replace").decode()

    return read


def word(*choices: str) -> Reader:
    """Return a reader that accepts only these words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise ValueError("is none of the known words")

    return read


def label(value: object) -> str:
    """Read a short word that this module does not list, such as the name of a launcher."""
    if isinstance(value, str) and value.isascii() and len(value) <= MAX_NAME_CHARS:
        letters = value.replace(" ", "").replace("-", "")
        if letters.isalnum():
            return value
    raise ValueError("is not a short word")


def name(value: object) -> str:
    """Read a kernel's name, ``NAME`` or ``NAME@INSTANCE`` (see `kconnd.core.names`)."""
    if isinstance(value, str) and all(_is_name(part) for part in value.split("@", 1)):
        return value
    raise ValueError("is not a kernel name")


def _is_name(text: str) -> bool:
    plain = "".join(char for char in text if char not in "._-")
    begins = text[:1].isalnum()
    return text.isascii() and begins and plain.isalnum() and len(text) <= MAX_NAME_CHARS


def count(value: object) -> int:
    """Read a whole number, 0 or more."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT:
        return value
    raise ValueError("is not a whole number")


def whole(value: object) -> int:
    """Read a whole number of either sign, such as an exit code."""
    return -count(-value) if isinstance(value, int) and value < 0 else count(value)


def seconds(value: object) -> float:
    """Read a duration in seconds."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if 0 <= number <= MAX_SECONDS:  # false for NaN
        return float(number)
    raise ValueError("is not a number of seconds")


def time(value: object) -> str:
    """Read a time as ISO 8601 in UTC."""
    if isinstance(value, str) and len(value) < MAX_NAME_CHARS:
        shape = "".join("0" if char in _DIGITS else char for char in value)
        if shape in _TIMES:
            return value
    raise ValueError("is no time in UTC")


def flag(value: object) -> bool:
    """Read a Boolean."""
    if isinstance(value, bool):
        return value
    raise ValueError("is neither true nor false")


# --- readers that combine readers


def optional(read: Reader) -> Reader:
    """Return a reader that also accepts a missing value or null."""
    return lambda value: None if value is None else read(value)


def rows(read: Reader, limit: int = MAX_ROWS) -> Reader:
    """Return a reader of lists: ``read`` reads the first ``limit`` items; others are dropped."""

    def read_rows(value: object) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("is not a list")  # noqa: TRY004  # see `line`
        return [read(item) for item in value[:limit]]

    return read_rows


def record(fields: Mapping[str, Reader]) -> Reader:
    """Return a reader of objects with these fields; it drops other fields."""

    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("is not an object")  # noqa: TRY004  # see `line`
        return {key: _field(key, fields[key], value.get(key)) for key in fields}

    return read


def _field(key: str, read: Reader, value: object) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None


# --- the replies of a daemon

_line, _path = line(), line(MAX_PATH_CHARS)
_ports = {f"{channel}_port": count for channel in ("shell", "iopub", "stdin", "control", "hb")}
_summary = {"transport": word("tcp", "ipc"), "ip": _path, **_ports, "signature_scheme": _line}
_exit = {"code": optional(whole), "signal": optional(whole), "reason": _line, "at": optional(time)}
_console = {
    "kernel": name,
    "pid": count,
    "started_at": optional(time),
    "code": optional(whole),
    "reason": _line,
    "output_tail": output(),
}
# The fields that `kconnd.core.kernel.view.describe` builds, and the list of consoles that the
# daemon adds.
KERNEL_FIELDS: dict[str, Reader] = {
    "name": name,
    "profile": name,
    "jupyter_name": optional(_line),
    "owner": _line,
    "state": word(*STATES),
    "wanted": word("up", "down"),
    "reason": _line,
    "waits_for": optional(_line),
    "pid": optional(count),
    "generation": count,
    "restarts": count,
    "failures": optional(count),
    "started_at": optional(time),
    "ready_after": optional(seconds),
    "launcher": optional(label),
    "launcher_note": optional(_line),
    "limits": optional(record(dict.fromkeys(LIMIT_KEYS, optional(seconds)))),
    "limits_unenforced": optional(_line),
    "program": optional(_line),
    "program_origin": optional(_line),
    "notebook": optional(record({"path": _path, "folder": _path, "file": _path})),
    "kernel_name": optional(_line),
    "language": optional(_line),
    "language_version": optional(_line),
    "implementation": optional(_line),
    "implementation_version": optional(_line),
    "protocol_version": optional(_line),
    "umask": optional(_line),
    "umask_source": optional(label),
    "session": lambda _value: None,  # it concerns the owner alone
    "connection_file": optional(_path),
    "connection": optional(record({**_summary, "kernel_name": _line, "encrypted": flag})),
    "clients": optional(count),
    "heartbeat": record({"state": label, "last_at": optional(time)}),
    "execution_state": optional(word(*ACTIVITIES)),
    "last_activity": optional(time),
    "kept_alive": optional(_line),
    "memory": optional(count),
    "last_exit": optional(record({**_exit, "output_tail": output(), "requested": optional(flag)})),
    "log_file": _path,
    "profile_status": word(*PROFILE_STATES),
    "next_attempt_at": optional(time),
    "unrecorded": optional(_line),
    "unreachable": optional(_line),
    "unanswered": optional(_line),
    "in_subshells": optional(_line),
    "warnings": rows(_line),
    "consoles": optional(rows(record(_console))),
}
_kernel = record(KERNEL_FIELDS)
_list = record({"kernels": rows(_kernel)})
_decision = record({"at": optional(time), "what": _line, "reason": _line})
_curve = {"curve_publickey": optional(_line), "curve_secretkey": optional(_line)}
_connection = record({**_summary, "key": _line, "kernel_name": optional(_line), **_curve})
_error = record(
    {"code": line(), "message": _line, "hint": optional(_line), "output": optional(output())}
)
READERS: dict[str, Reader] = {
    **dict.fromkeys(("", "wait", "start", "stop", "restart", "signal"), _kernel),
    "interrupt": record({**KERNEL_FIELDS, "interrupt": optional(label)}),
    "why": record({"name": name, "decisions": rows(_decision)}),
    "connection": lambda value: {
        key: field for key, field in _connection(value).items() if field is not None
    },
    "logs": record({"text": output(MAX_LOG_CHARS)}),
}


# The readers by path, for the requests that do not concern a single kernel.
OWNER_READERS: dict[str, Reader] = {
    KERNELS: lambda value: {**_list(value), "elsewhere": []},
    "/v1/events": record({"at": optional(time), "kernel": name, "event": label, "message": _line}),
    "/v1/health": record(
        {
            "version": _line,
            "started_at": optional(time),
            **dict.fromkeys(("pid", "uid", "kernels", "running", "warm", "faults"), count),
            **dict.fromkeys(("socket", "runtime_dir", "state_dir", "home"), optional(_path)),
            **dict.fromkeys(
                ("configs", "system_configs", "kernelspec_dirs"), optional(rows(_path))
            ),
            "launchers": optional(rows(label)),
            "ready": optional(flag),
        }
    ),
}


def validate_reply(
    path: str,
    content: object,
    uid: int,
    owner: str,
    user_of: Callable[[int], int | None] = lambda _pid: None,
) -> dict[str, Any]:
    """Validate a reply of another owner's daemon, or one line of a streamed reply.

    Parameters
    ----------
    path : str
        The path and query of the request.
    content : object
        The reply as parsed JSON.
    uid, owner : int and str
        The uid and the login name of the daemon's owner. They replace the fields ``uid`` and
        ``owner`` of each kernel in the reply.
    user_of : callable
        A function that returns the uid of a process, or None if the uid cannot be determined. The
        pid of a process that belongs to another user than the owner is removed from the reply, so
        that nobody sends a signal to this process by mistake.

    Raises
    ------
    UnreachableError
        If a field is invalid, if the reply is about another kernel, or if the request is one that
        only the user's own daemon may answer. The error message quotes nothing of the reply.
    """
    route = path.partition("?")[0]
    try:
        reply = _read_reply(route, content)
    except ValueError as error:
        raise _invalid_reply(owner, error) from None
    for kernel in reply["kernels"] if route == KERNELS else [reply]:
        if "state" in kernel:
            kernel.update(owner=owner, uid=uid)
            for process in (kernel, *(kernel["consoles"] or ())):
                if process["pid"] is not None and user_of(process["pid"]) not in {uid, None}:
                    process["pid"] = None
    return reply


def _read_reply(route: str, content: object) -> dict[str, Any]:
    if route in OWNER_READERS:
        reply: dict[str, Any] = OWNER_READERS[route](content)
        return reply
    kernel, _, verb = route.removeprefix(f"{KERNELS}/").partition("/")
    if not route.startswith(f"{KERNELS}/") or verb not in READERS:
        raise ValueError("only the user's own daemon answers such a request")
    reply = READERS[verb](content)
    if "name" in reply and not _is_about(reply["name"], unquote(kernel)):
        raise ValueError("it is about another kernel")
    return reply


def _is_about(name: str, text: str) -> bool:
    """Return whether a text from the user means a kernel; it can be Jupyter's name of its spec."""
    if name == text:
        return True
    from kconnd.core.names import kernel_name  # noqa: PLC0415  # for few replies

    try:
        return kernel_name(text) == name
    except UsageError:
        return False


def validate_error(content: object, owner: str, path: str = "") -> KconndError:
    """Build the exception for an error that another owner's daemon reported.

    Parameters
    ----------
    content : object
        The error object of the reply.
    owner : str
        The login name of the daemon's owner. The exception quotes the error's message and hint as
        words of this daemon.
    path : str
        The path and query of the request. In the commands that the hint contains, ``OWNER/NAME``
        replaces the name of the requested kernel, because the name alone would mean a kernel of
        the user who reads the hint.
    """
    try:
        fault = _error(content)
    except ValueError as error:
        return _invalid_reply(owner, error)
    says = f"the daemon of {owner} says: "
    hint = says + _add_owner(fault["hint"], _kernel_of(path), owner) if fault["hint"] else ""
    kind = error_class(fault["code"])
    return kind(says + fault["message"], hint=hint, output=fault["output"] or "")


def _kernel_of(path: str) -> str:
    route = path.partition("?")[0]
    return unquote(route.removeprefix(f"{KERNELS}/").partition("/")[0])


def _add_owner(hint: str, kernel: str, owner: str) -> str:
    words = hint.split(" ")
    for number, word in enumerate(words[2:], 2):
        if words[number - 2].endswith("kconnd-ctl") and word.rstrip(".,;:?)'") == kernel:
            words[number] = shlex.quote(f"{owner}/{kernel}") + word.removeprefix(kernel)
    return " ".join(words)


def _invalid_reply(owner: str, fault: ValueError) -> UnreachableError:
    return UnreachableError(
        f"the daemon of {owner} sent an invalid reply: {fault}",
        hint=f"the program belongs to {owner}; ask {owner} to check it",
    )
