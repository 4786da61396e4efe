"""The session of an owner's client: what a kernel takes from the shell in which it is started.

A kernel that Jupyter launches inherits the environment of Jupyter. A kernel of kconnd has another
parent, so the owner's client sends what programs need of its environment with each request for a
start. The daemon uses a session only if the client runs as the owner; it ignores the session of any
other peer. The kernel's record keeps the session, so that a restart has the same environment, also
after the daemon or the machine has restarted.

By default, a client sends PATH, the umask, and the variables of `is_sent_unasked`: the locale, the
time zone and the proxies. It sends the other variables that a profile names in ``pass_env`` after
the daemon has requested them, so that no client sends a secret that no profile names.

All functions are pure. `kconnd.client.caller_session` collects the session.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

LOGIN_SHELL = "PATH of the login shell"
MAX_SESSION_BYTES = 32 << 10  # of all names and values; the body of a request is limited as well
MAX_UMASK = 0o777
_LOCALE = frozenset({"LANG", "LANGUAGE", "TZ"})
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_UNASKED = _LOCALE | {*_PROXIES, *map(str.upper, _PROXIES)}
_NOT_PASSED = {
    "JPY_PARENT_PID": "a kernel exits when the process with this pid exits",
    "KCONND_": "kconnd sets the variables of this prefix itself",
}


@dataclass(frozen=True)
class Session:
    """What the owner's client sent with its request for a start.

    Parameters
    ----------
    path : str
        The client's PATH; ``""`` if the variable is not set.
    prefix : str
        The Python environment (``sys.prefix``) in which the client runs, if it is an installation
        of the user's own; ``""`` otherwise.
    variables : mapping
        The variables that the client sent. They may contain secrets.
    umask : int, optional
        The client's umask; None if it is unknown.
    requested : tuple of str
        The names of the variables that the daemon requested, sorted. A name that is missing in
        ``variables`` is not set in the client's environment.
    client : str
        The name of the client's program.
    pid : int
        The client's process id.
    time : float
        The time of the request, in seconds since the epoch.
    """

    path: str = ""
    prefix: str = ""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    umask: int | None = None
    requested: tuple[str, ...] = ()
    client: str = ""
    pid: int = 0
    time: float = 0.0


class UmaskSource(StrEnum):
    """Where the umask of a kernel comes from."""

    PROFILE = "profile"
    CLIENT = "client"  # the owner's client that requested the start
    ACCOUNT = "account"  # the owner's service manager, for which PAM has set it
    DAEMON = "daemon"


@dataclass(frozen=True)
class Umask:
    """The umask of a kernel, and where it comes from."""

    value: int
    source: str

    def __str__(self) -> str:
        return f"{self.value:03o}"


@dataclass(frozen=True)
class Inherited:
    """What a kernel inherits, as a child of a shell would.

    Parameters
    ----------
    path, path_source : str
        PATH, and where it comes from, for the user.
    variables : mapping, optional
        The variables of the client's session; None if no client of the owner has sent a session.
        They may contain secrets.
    umask : Umask
        The umask.
    """

    path: str
    path_source: str
    variables: Mapping[str, str] | None = field(repr=False)
    umask: Umask


def choose_umask(session: Session | None, profile_umask: str) -> Umask | None:
    """Choose the umask of the profile or of the client; None if the account determines it."""
    if profile_umask:
        return Umask(int(profile_umask, 8), UmaskSource.PROFILE)
    if session is not None and session.umask is not None:
        return Umask(session.umask, UmaskSource.CLIENT)
    return None


def inherit(
    session: Session | None, pass_env: tuple[str, ...], account_path: str, umask: Umask
) -> Inherited:
    """Choose what a kernel inherits.

    Parameters
    ----------
    session : Session, optional
        The session of the owner's client; None if no client has sent one.
    pass_env : tuple of str
        The key of the profile.
    account_path : str
        The PATH of the owner's login shell; it is used if the session has none.
    umask : Umask
        The umask.
    """
    if session is None:
        return Inherited(account_path, LOGIN_SHELL, None, umask)
    path, source = session.path, "PATH of the session in which it was started"
    if not path:
        path, source = account_path, LOGIN_SHELL
    return Inherited(path, source, passed_variables(session, pass_env), umask)


def passed_variables(session: Session, pass_env: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of a session that a profile passes to its kernels."""
    names = (name for name in session.variables if is_sent_unasked(name) or name in pass_env)
    return {name: session.variables[name] for name in names if not why_not_passed(name)}


def material_of(session: Session | None) -> str:
    """Return a text that is equal for sessions from which kernels inherit the same.

    The clients of such sessions, and the times, may differ.
    """
    return repr(session and sorted(session_to_json(taken_by(session, "", 0, 0.0)).items()))


def describe_session(
    session: Session | None, pass_env: tuple[str, ...]
) -> dict[str, list[str] | str | int | float]:
    """Describe a session for the owner, without the values of its variables.

    ``variables`` are the names that the kernel has, ``absent`` those of ``pass_env`` that are not
    set in the session, and ``unsent`` those that no client was asked for.
    """
    known = session or Session()
    variables = passed_variables(known, pass_env)
    absent = {*known.requested} & {*pass_env} - {*variables}
    return {
        "client": known.client,
        "pid": known.pid,
        "variables": sorted({*variables, *(("PATH",) if known.path else ())}),
        "absent": sorted(absent),
        "unsent": list(names_to_request(known, pass_env)),
    }


def is_sent_unasked(name: str) -> bool:
    """Return whether clients send a variable by default: locale, time zone and proxies."""
    return name in _UNASKED or name.startswith("LC_")


def why_not_passed(name: str) -> str:
    """Return why a variable may not be passed from a client to a kernel; ``""`` if it may."""
    if not name or "=" in name or "\0" in name:
        return "it is not a name for a variable"
    return next((why for start, why in _NOT_PASSED.items() if name.startswith(start)), "")


def names_to_request(session: Session, pass_env: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of ``pass_env`` that the client was not asked for, sorted."""
    names = {name for name in pass_env if not is_sent_unasked(name)}
    return tuple(sorted(names - {*session.requested}))


def parse_session(content: object) -> Session:
    """Parse the session in the body of a request or in a record.

    Unknown fields are ignored, because a newer client may send them.

    Raises
    ------
    ValueError
        If a field is invalid.
    """
    if not isinstance(content, Mapping):
        raise ValueError("session: it is not a mapping")  # noqa: TRY004  # one error for all faults
    variables = content.get("variables", {})
    if not isinstance(variables, Mapping):
        raise ValueError("session.variables: it is not a mapping")  # noqa: TRY004
    requested = content.get("requested", [])
    if not isinstance(requested, list | tuple):
        raise ValueError("session.requested: it is not a list")  # noqa: TRY004
    return Session(
        path=_text(content, "path"),
        prefix=_text(content, "prefix"),
        variables={_name(name): _value(name, value) for name, value in variables.items()},
        umask=_umask(content.get("umask")),
        requested=tuple(sorted({_name(name) for name in requested})),
        client=_text(content, "client"),
        pid=_number(content, "pid", int),
        time=_number(content, "time", int | float),
    )


def check_sent(session: Session) -> None:
    """Check a session that a client sent; a session in a record was checked by an older version.

    Raises
    ------
    ValueError
        If a variable may not be passed, or if the session is too large.
    """
    for name in (*session.variables, *session.requested):
        if reason := why_not_passed(name):
            raise ValueError(f"session.variables: {name!r} cannot be passed: {reason}")
    size = session_bytes(session)
    if size > MAX_SESSION_BYTES:
        raise ValueError(f"session: it takes {size} bytes, and the limit is {MAX_SESSION_BYTES}")


def session_bytes(session: Session) -> int:
    """Return the size of a session: of its texts in UTF-8."""
    texts = (session.path, session.prefix, *session.requested, session.client)
    variables = (text for pair in session.variables.items() for text in pair)
    return sum(len(text.encode(errors="surrogatepass")) for text in (*texts, *variables))


def session_to_json(session: Session) -> dict[str, Any]:
    """Convert a session to plain data; fields with their default value are omitted."""
    values = {**vars(session), "requested": list(session.requested)}
    values["variables"] = dict(session.variables)
    defaults = {**vars(_EMPTY), "requested": [], "variables": {}}
    return {key: value for key, value in values.items() if value != defaults[key]}


def taken_by(session: Session, client: str, pid: int, time: float) -> Session:
    """Return the session with its origin, as the operating system reports it."""
    return replace(session, client=client, pid=pid, time=time)


_EMPTY = Session()


def _text(content: Mapping[str, Any], key: str) -> str:
    return _checked(f"session.{key}", content.get(key, ""))


def _name(name: object) -> str:
    return _checked(f"session.variables: the name {name!r}", name)


def _value(name: object, value: object) -> str:
    return _checked(f"session.variables.{name}", value)


def _checked(where: str, value: object) -> str:
    """Return a text that can be passed to a process; the error does not contain the text."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: it is not text")  # noqa: TRY004  # one error for all faults
    if "\0" in value:
        raise ValueError(f"{where}: it holds a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{where}: it is not UTF-8")
    return value


def _umask(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_UMASK:
        raise ValueError(f"session.umask: {value!r} is not a number from 0 to {MAX_UMASK}")
    return value


def _number(content: Mapping[str, Any], key: str, kind: Any) -> Any:
    value = content.get(key, 0)
    if not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < 1 << 40:
        raise ValueError(f"session.{key}: {value!r} is not a positive number")
    return value
