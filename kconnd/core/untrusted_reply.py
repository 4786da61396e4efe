"""What is taken of the reply of another owner's daemon: known fields, each typed and bounded.

An owner's daemon is a process of that owner, who can have any program answer in its place. So
each field of its reply is data to show and nothing else: no path in it is opened, no name in it
decides where a request goes. Both the client (`kconnd.client`) and the front door
(`kconnd.front.owner_kernels`) take such a reply through this module.

How it works. A reader is a function that takes a value of the reply and returns the sound value,
or raises `ValueError`. `record` and `rows` build readers from readers; a field that no reader
names is dropped. `validate_reply` chooses the reader by the request that was made. Text of one line
comes out printable and cut; output of a kernel (``text``, ``output_tail``) keeps its control
characters, since `kconnd.core.terminal_text` filters it where it is shown.

Compatibility. A field that a later version adds must be optional here, since a daemon of an
earlier version does not send it.

Rule: nothing is imported that costs time, since look-ups use this module.
"""

from __future__ import annotations

from kconnd.core.protocol.request_head import unquote
from kconnd.errors import UnreachableError, error_class

TYPE_CHECKING = False  # typing's own would cost a look-up milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from kconnd.errors import KconndError

    Reader = Callable[[object], Any]

KERNELS = "/v1/kernels"
MAX_ROWS = 1000  # kernels of one owner, decisions of one kernel
MAX_LINE_CHARS = 1000
MAX_PATH_CHARS = 4096
MAX_OUTPUT_CHARS = 16 << 10
MAX_LOG_CHARS = 64 << 20  # of one piece; the client reads no more
MAX_NAME_CHARS = 40  # of a profile, and of an instance; kconnd.core.names
MAX_COUNT = 1 << 53  # a number that every reader of JSON has exactly
MAX_SECONDS = 1e9
SUBSTITUTE = "?"  # in the place of a character that is not printable

STATES = ("stopped", "launching", "starting", "running", "stopping", "backoff", "failed", "lost")
PROFILE_STATES = ("current", "changed: restart to apply", "orphaned")
ACTIVITIES = ("busy", "idle", "unknown")
_DIGITS = "0123456789"
_TIMES = {f"0000-00-00T00:00:00{f'.{0:0{n}}' if n else ''}Z" for n in range(7)}


# --- readers of one value


def line(limit: int = MAX_LINE_CHARS) -> Reader:
    """Read text of one line: cut, and without a character that a terminal obeys."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("is not text")  # noqa: TRY004  # one kind of error for a caller
        text = value[:limit]
        if text.isprintable():
            return text
        return "".join(char if char.isprintable() else SUBSTITUTE for char in text)

    return read


def output(limit: int = MAX_OUTPUT_CHARS) -> Reader:
    """Read what a kernel printed: its last characters, as they are, but for broken Unicode."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("is not text")  # noqa: TRY004  # see `line`
        return value[-limit:].encode("utf-8", "replace").decode()

    return read


def word(*known: str) -> Reader:
    """Read one of these words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise ValueError("is none of the known words")

    return read


def label(value: object) -> str:
    """Read a short word that a later version may add to, such as the name of a launcher."""
    if isinstance(value, str) and value.isascii() and len(value) <= MAX_NAME_CHARS:
        letters = value.replace(" ", "").replace("-", "")
        if letters.isalnum():
            return value
    raise ValueError("is no short word")


def name(value: object) -> str:
    """Read a kernel's name, ``NAME`` or ``NAME@INSTANCE`` (see `kconnd.core.names`)."""
    if isinstance(value, str) and all(_is_name(part) for part in value.split("@", 1)):
        return value
    raise ValueError("is no kernel name")


def _is_name(text: str) -> bool:
    plain = "".join(char for char in text if char not in "._-")
    begins = text[:1].isalnum()
    return text.isascii() and begins and plain.isalnum() and len(text) <= MAX_NAME_CHARS


def count(value: object) -> int:
    """Read a whole number, 0 or more."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT:
        return value
    raise ValueError("is no whole number")


def whole(value: object) -> int:
    """Read a whole number of either sign, such as an exit code."""
    return -count(-value) if isinstance(value, int) and value < 0 else count(value)


def seconds(value: object) -> float:
    """Read a length of time."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if 0 <= number <= MAX_SECONDS:  # which NaN is not
        return float(number)
    raise ValueError("is no number of seconds")


def time(value: object) -> str:
    """Read a time as ISO 8601 in UTC."""
    if isinstance(value, str) and len(value) < MAX_NAME_CHARS:
        shape = "".join("0" if char in _DIGITS else char for char in value)
        if shape in _TIMES:
            return value
    raise ValueError("is no time in UTC")


def flag(value: object) -> bool:
    """Read a yes or no."""
    if isinstance(value, bool):
        return value
    raise ValueError("is neither true nor false")


# --- readers of several


def optional(read: Reader) -> Reader:
    """Read a value that may be missing or null."""
    return lambda value: None if value is None else read(value)


def rows(read: Reader, limit: int = MAX_ROWS) -> Reader:
    """Read a list; what is over the limit is dropped."""

    def read_rows(value: object) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("is no list")  # noqa: TRY004  # see `line`
        return [read(one) for one in value[:limit]]

    return read_rows


def record(fields: Mapping[str, Reader]) -> Reader:
    """Read an object: these fields, and no others."""

    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("is no object")  # noqa: TRY004  # see `line`
        return {key: _field(key, fields[key], value.get(key)) for key in fields}

    return read


def _field(key: str, read: Reader, value: object) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None


# --- what a daemon replies

_line, _path = line(), line(MAX_PATH_CHARS)
_ports = {f"{one}_port": count for one in ("shell", "iopub", "stdin", "control", "hb")}
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
# What `kconnd.core.kernel.view.describe` gives, and the daemon's list of consoles.
KERNEL_FIELDS: dict[str, Reader] = {
    "name": name,
    "profile": name,
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
    "kernel_name": optional(_line),
    "language": optional(_line),
    "language_version": optional(_line),
    "implementation": optional(_line),
    "implementation_version": optional(_line),
    "protocol_version": optional(_line),
    "connection_file": optional(_path),
    "connection": optional(record({**_summary, "kernel_name": _line, "encrypted": flag})),
    "clients": optional(count),
    "heartbeat": record({"state": label, "last_at": optional(time)}),
    "execution_state": optional(word(*ACTIVITIES)),
    "last_activity": optional(time),
    "kept_alive": optional(_line),
    "memory": optional(count),
    "last_exit": optional(record({**_exit, "output_tail": output()})),
    "log_file": _path,
    "profile_status": word(*PROFILE_STATES),
    "next_attempt_at": optional(time),
    "unrecorded": optional(_line),
    "unreachable": optional(_line),
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
    **dict.fromkeys(("", "wait", "start", "stop", "restart", "interrupt", "signal"), _kernel),
    "why": record({"name": name, "decisions": rows(_decision)}),
    "connection": lambda value: {
        key: one for key, one in _connection(value).items() if one is not None
    },
    "logs": record({"text": output(MAX_LOG_CHARS)}),
}


# What may be asked of another owner's daemon by the socket that it listens on.
OWNER_READERS: dict[str, Reader] = {
    KERNELS: lambda value: {**_list(value), "elsewhere": []},
    "/v1/events": record({"at": optional(time), "kernel": name, "event": label, "message": _line}),
    "/v1/health": record(
        {
            "version": _line,
            "started_at": optional(time),
            **dict.fromkeys(("pid", "uid", "kernels", "running", "warm", "faults"), count),
            **dict.fromkeys(("socket", "runtime_dir", "state_dir"), optional(_path)),
            "configs": optional(rows(_path)),
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
    """Take what makes sense of a reply, or of one line of a stream.

    Parameters
    ----------
    path : str
        The path and query that were asked for.
    content : object
        The reply, read as JSON.
    uid, owner : int and str
        Whose daemon replied. It goes into each kernel in the place of what the reply says.
    user_of : callable
        Gives the uid of a process, or None where that cannot be seen. A pid of somebody else's
        process is left out, so that nobody signals what is not the owner's.

    Raises
    ------
    UnreachableError
        If it has a field of a wrong type, speaks of another kernel than was asked for, or if
        no reply of another owner is taken to such a request. The text has nothing of the reply.
    """
    asked = path.partition("?")[0]
    try:
        found = _read_reply(asked, content)
    except ValueError as error:
        raise _not_believed(owner, error) from None
    for kernel in found["kernels"] if asked == KERNELS else [found]:
        if "state" in kernel:
            kernel.update(owner=owner, uid=uid)
            for one in (kernel, *(kernel["consoles"] or ())):
                if one["pid"] is not None and user_of(one["pid"]) not in {uid, None}:
                    one["pid"] = None
    return found


def _read_reply(asked: str, content: object) -> dict[str, Any]:
    if asked in OWNER_READERS:
        found: dict[str, Any] = OWNER_READERS[asked](content)
        return found
    kernel, _, verb = asked.removeprefix(f"{KERNELS}/").partition("/")
    if not asked.startswith(f"{KERNELS}/") or verb not in READERS:
        raise ValueError("only one's own daemon answers such a request")
    found = READERS[verb](content)
    if "name" in found and found["name"] != unquote(kernel):
        raise ValueError("it is about another kernel")
    return found


def validate_error(content: object, owner: str) -> KconndError:
    """Give the error that another owner's daemon tells, as words of that owner.

    Parameters
    ----------
    content : object
        The error in its reply.
    owner : str
        Whose daemon it is.
    """
    try:
        told = _error(content)
    except ValueError as error:
        return _not_believed(owner, error)
    says = f"the daemon of {owner} says: "
    hint = f"{says}{told['hint']}" if told["hint"] else ""
    return error_class(told["code"])(says + told["message"], hint=hint, output=told["output"] or "")


def _not_believed(owner: str, why: ValueError) -> UnreachableError:
    return UnreachableError(
        f"the daemon of {owner} gives a reply that is not believed: {why}",
        hint=f"it is a program of {owner}, whom you may ask about it",
    )
