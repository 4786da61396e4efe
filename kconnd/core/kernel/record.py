"""A kernel's record, which outlives the daemon, and the record's JSON form in a state file.

Rules. A record contains no open file and no monotonic time. The JSON form has a version number, and
files of every released version load for ever (``tests/data``). The record contains the kernel's
key, with which the daemon can rewrite a deleted connection file. Because of the key, the record's
file is private.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from math import isfinite
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from kconnd.core.kernel.events import Step
from kconnd.core.kernel.habits import Habits
from kconnd.core.kernel.lifecycle import (
    Desired,
    Lifecycle,
    State,
    StopCause,
)
from kconnd.core.launch.connection import ConnectionInfo, parse_connection
from kconnd.core.launch.notebook import Notebook, parse_notebook
from kconnd.core.launch.program_search import Program
from kconnd.core.launch.session import Session, Umask, parse_session, session_to_json
from kconnd.errors import UsageError

T = TypeVar("T")
_field_types = cache(get_type_hints)  # parsing a record needs the hints for each of its decisions

VERSION = 1
# The keys of `Lifecycle.desired` and `Lifecycle.stop_cause` in the JSON form; version 0.1.0 chose
# these names, and they cannot change.
WANTED, ENDING = "wanted", "ending"
MAX_DECISIONS = 50  # the number of decisions to keep for ``kconnd-ctl why``


@dataclass(frozen=True)
class Decision:
    """A change of a kernel's state and the reason, as ``kconnd-ctl why`` prints them."""

    at: float
    what: str
    reason: str


@dataclass(frozen=True)
class LastExit:
    """The exit of the last process.

    Parameters
    ----------
    at : float, optional
        Seconds since the epoch.
    requested : bool
        Whether the process ended because of a stop or a restart that was requested.
    """

    code: int | None
    signal: int | None
    reason: str
    at: float | None
    output_tail: str
    requested: bool = False


@dataclass(frozen=True)
class Facts:
    """Facts about the present process.

    The fields from ``language`` to ``protocol_version`` come from the kernel_info_reply.
    """

    started_at: float | None = None
    ready_after: float | None = None
    kernel_name: str = ""
    language: str = ""
    language_version: str = ""
    implementation: str = ""
    implementation_version: str = ""
    protocol_version: str = ""
    interrupt_mode: str = "signal"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """The system on which a file was written: machine (machine-id(5)), host name and boot.

    The origins of two containers of one machine may differ only in the host name and in the pid
    namespace (namespaces(7)). Records of earlier versions contain no pid namespace, so
    ``pid_namespace`` can be empty.
    """

    machine: str
    host: str
    boot_id: str
    pid_namespace: str = ""


@dataclass(frozen=True)
class KernelRecord:
    """The data about one kernel that outlives the daemon.

    Parameters
    ----------
    name : str
        The kernel's name.
    lifecycle : Lifecycle
        The kernel's state; its deadline is not saved.
    profile : mapping
        The profile that the present process was launched from, as plain data.
    handle : mapping, optional
        The data that the launcher needs to find the process again.
    connection : ConnectionInfo, optional
        The connection info; a restart keeps it.
    habits : Habits
        The observed behaviour of the kernel's software; empty in records of older versions.
    origin : Origin, optional
        The system that saved the record; the store sets it.
    program : Program, optional
        The program of the last launch; a restart keeps it. None in records of older versions.
    session : Session, optional
        The session of the owner's client that requested the latest start or restart; it may
        contain secrets.
    umask : Umask, optional
        The umask of the last launch; None in records of older versions.
    notebook : Notebook, optional
        The notebook of the front end that requested the last start.
    """

    name: str
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    profile: Mapping[str, Any] | None = None
    handle: Mapping[str, Any] | None = None
    connection: ConnectionInfo | None = None
    facts: Facts = field(default_factory=Facts)
    habits: Habits = field(default_factory=Habits)
    last_exit: LastExit | None = None
    decisions: tuple[Decision, ...] = ()
    origin: Origin | None = None
    program: Program | None = None
    session: Session | None = None
    umask: Umask | None = None
    notebook: Notebook | None = None

    @property
    def is_down(self) -> bool:
        """Whether the kernel is stopped, and is to stay so."""
        return (self.lifecycle.state, self.lifecycle.desired) == (State.STOPPED, Desired.DOWN)

    @property
    def is_ended_run(self) -> bool:
        """Whether the kernel of a run was stopped, so that nobody needs the kernel any more.

        The record of a kernel that has ended by itself is kept, because it says why.
        """
        has_run = self.notebook is not None and self.notebook.run is not None
        was_stopped = self.last_exit is not None and self.last_exit.requested
        return has_run and was_stopped and self.is_down

    def with_decision(self, decision: Decision) -> "KernelRecord":
        """Return a copy with a decision appended.

        Beyond `MAX_DECISIONS`, the oldest decision is dropped.
        """
        return replace(self, decisions=(*self.decisions, decision)[-MAX_DECISIONS:])


def to_json(record: KernelRecord) -> dict[str, Any]:
    """Convert a record to plain data for JSON."""
    kernel = record.lifecycle
    return {
        "version": VERSION,
        "name": record.name,
        **_origin_to_json(record.origin),
        "lifecycle": {
            "state": kernel.state.value,
            WANTED: kernel.desired.value,
            "generation": kernel.generation,
            "restarts": kernel.restarts,
            "failures": kernel.failures,
            "port_tries": kernel.port_tries,
            "proved": kernel.proved,
            "unresponsive": kernel.unresponsive,
            "step": kernel.step and kernel.step.value,
            ENDING: kernel.stop_cause and kernel.stop_cause.value,
            "new_key": kernel.new_key,
            "reason": kernel.reason,
            **_delay(kernel),
        },
        "profile": record.profile,
        "handle": record.handle,
        "connection": record.connection and record.connection.to_file(),
        "facts": vars(record.facts) | {"warnings": list(record.facts.warnings)},
        "habits": vars(record.habits),
        **_exit_to_json(record.last_exit),
        "decisions": [vars(decision) for decision in record.decisions],
        **({"program": vars(record.program)} if record.program is not None else {}),
        **_inherited_to_json(record),
        **({"notebook": record.notebook.to_json()} if record.notebook else {}),
    }


def _inherited_to_json(record: KernelRecord) -> dict[str, Any]:
    """Convert what a kernel inherits to fields of the JSON form; unknown fields are omitted."""
    session = {"session": session_to_json(record.session)} if record.session is not None else {}
    umask = {"umask": vars(record.umask)} if record.umask is not None else {}
    return {**session, **umask}


def _exit_to_json(last_exit: LastExit | None) -> dict[str, Any]:
    """Convert an exit to fields of the JSON form.

    ``requested`` is stored beside ``last_exit``, because older daemons refuse an unknown field
    within ``last_exit``.
    """
    if last_exit is None:
        return {"last_exit": None}
    saved = dict(vars(last_exit))
    return {"exit_requested": saved.pop("requested"), "last_exit": saved}


def _origin_to_json(origin: Origin | None) -> dict[str, Any]:
    """Convert an origin to fields of the JSON form.

    The pid namespace is stored beside ``origin``, because older daemons refuse an unknown field
    within ``origin``.
    """
    if origin is None:
        return {"origin": None}
    saved = dict(vars(origin))
    return {"pid_namespace": saved.pop("pid_namespace"), "origin": saved}


def _delay(kernel: Lifecycle) -> dict[str, Any]:
    """Convert the fields about a delayed exit to fields of the JSON form.

    Older daemons refuse these fields, so the fields are omitted unless an exit is delayed.
    """
    if not kernel.waits_for:
        return {}
    return {"waits_for": kernel.waits_for, "children_alone": kernel.children_alone}


def parse_record(content: Mapping[str, Any]) -> KernelRecord:
    """Parse the plain data of a record.

    Raises
    ------
    ValueError
        If the data is not a valid record, or has a version that this program does not know.
    """
    if not isinstance(content, Mapping):
        raise ValueError("not a kernel's record")  # noqa: TRY004  # one error for all damage
    if content.get("version") != VERSION:
        raise ValueError(f"version {content.get('version')!r} is not known here")
    try:
        return _parse(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a kernel's record: {error}") from error


def _parse(content: Mapping[str, Any]) -> KernelRecord:
    saved = dict(content["lifecycle"])
    saved |= {
        "state": State(saved["state"]),
        "desired": Desired(saved.pop(WANTED)),
        "step": _optional(Step, saved["step"]),
        "stop_cause": _optional(StopCause, saved.pop(ENDING)),
    }
    facts = dict(content["facts"])
    facts["warnings"] = tuple(map(_text, facts["warnings"]))
    return KernelRecord(
        name=_text(content["name"]),
        lifecycle=_make(Lifecycle, saved),
        profile=_mapping(content["profile"]),
        handle=_mapping(content["handle"]),
        connection=_optional(parse_connection, content["connection"]),
        facts=_make(Facts, facts),
        habits=_make(Habits, content.get("habits", {})),
        last_exit=_optional(partial(_make, LastExit), _saved_exit(content)),
        decisions=tuple(_make(Decision, decision) for decision in content["decisions"]),
        origin=_parse_origin(content),
        program=_optional(partial(_make, Program), content.get("program")),
        session=_optional(parse_session, content.get("session")),
        umask=_optional(partial(_make, Umask), content.get("umask")),
        notebook=_optional(_parse_notebook, content.get("notebook")),
    )


def _parse_notebook(content: object) -> Notebook:
    try:
        return parse_notebook(content)
    except UsageError as error:
        raise ValueError(error.message) from error


def _saved_exit(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    last_exit = content["last_exit"]
    if last_exit is None:
        return None
    return {**last_exit, "requested": content.get("exit_requested", False)}


def _parse_origin(content: Mapping[str, Any]) -> Origin | None:
    """Parse the origin.

    Early records contain the pid namespace within ``origin``; later records contain it beside
    ``origin``.
    """
    if content["origin"] is None:
        return None
    saved = {**content["origin"]}
    if "pid_namespace" in content:
        saved["pid_namespace"] = content["pid_namespace"]
    return _make(Origin, saved)


def _optional(parse: Callable[[Any], T], value: object) -> T | None:
    return None if value is None else parse(value)


def _make(kind: type[T], saved: Mapping[str, Any]) -> T:
    """Build a dataclass from saved fields; each must have the type that the class declares."""
    for name, declared in _field_types(kind).items():  # type: ignore[arg-type]  # a class can be hashed
        if name in saved and not _fits(saved[name], declared):
            raise ValueError(f"{name} is {saved[name]!r}")
    return kind(**saved)


def _fits(value: object, declared: Any) -> bool:
    if isinstance(declared, UnionType):
        return any(_fits(value, member) for member in get_args(declared))
    kind = get_origin(declared) or declared
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, kind)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")  # noqa: TRY004  # one error for all damage
    return value


def _mapping(value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{value!r} is not an object")
    return value
