"""What a profile may say, checked: the one place that knows its keys, defaults and limits.

Rules. Models are frozen, and what is in them needs no further parsing: durations are seconds,
sizes are bytes. Each field's description is what editors show. A check's text says what is
wrong with the value in front of it; the reader of files (`kconnd.system.profiles`) adds where.
Fields marked *later* are checked and kept, and not acted on yet.
"""

import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from kconnd.core.lifecycle import Policy
from kconnd.core.names import PATTERN
from kconnd.core.ports import COUNT
from kconnd.core.units import parse_duration, parse_size

OURS = ("KCONND_CONNECTION_FILE", "KCONND_KERNEL", "JPY_PARENT_PID")
LAST_PORT = 65535


def _no_as_word(given: object) -> object:
    """Read what YAML 1.1 makes of a bare ``no`` as the word that was written."""
    return "no" if given is False else given


def _no_as_none(given: object) -> object:
    return "none" if given is False else given


def _off_as_infinity(given: object) -> object:
    return "infinity" if given is False or given in {"off", "no", "never"} else given


def _duration(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(f"{given!r} is not a duration such as 30s or 5min")  # noqa: TRY004
    return parse_duration(given)


def _size(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError(f"{given!r} is not a size such as 10M or 2G")  # noqa: TRY004
    return parse_size(given)


def _path(given: object) -> object:
    if isinstance(given, str) and given and not given.startswith(("/", "~")):
        raise ValueError(f"{given!r} is neither absolute nor begins with ~")
    return given


def _plain(seconds: float) -> float | str:
    return "infinity" if math.isinf(seconds) else seconds


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(_plain, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "5min", "1h 30min"]}),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["500K", "10M", "2G"]}),
]
AbsolutePath = Annotated[str, BeforeValidator(_path)]
Word = Annotated[str, Field(pattern=r"^@?[A-Za-z_][A-Za-z0-9_.-]*$")]


class _Part(BaseModel):
    """A mapping of the profile: its keys are known, its values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Restart(_Part):
    """What follows an end that nobody asked for."""

    policy: Annotated[Literal["no", "on-failure", "always"], BeforeValidator(_no_as_word)] = Field(
        "on-failure",
        description="Whether a kernel that ended by itself is launched again: never, if it "
        "failed, or always.",
        json_schema_extra={
            "enum": ["no", "on-failure", "always", False],
            "type": ["string", "boolean"],
        },
    )
    max_failures: int = Field(
        5, ge=0, description="How many failures in a row are followed by another launch."
    )
    backoff: Duration = Field(0.5, description="The wait before the first; doubled each time.")
    backoff_max: Duration = Field(60.0, description="The longest wait.")
    stable_after: Duration = Field(60.0, description="A run this long forgets earlier failures.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.backoff > self.backoff_max:
            raise ValueError("backoff is longer than backoff_max")
        return self


class Heartbeat(_Part):
    """How the daemon sees that a kernel still answers."""

    interval: Duration = Field(10.0, ge=1, description="Time between heartbeats; at least 1s.")
    misses: int = Field(3, ge=1, description="How many in a row make it unresponsive.")
    action: Literal["report", "restart"] = Field(
        "report", description="What then: only say so, or end and launch it again."
    )


class Idle(_Part):
    """When a kernel that nobody uses is let go."""

    stop_after: Annotated[Duration, BeforeValidator(_off_as_infinity)] = Field(
        math.inf,
        description="Stop it after so long without execution, unless a client is connected; "
        "off by default.",
        json_schema_extra={"type": ["string", "number", "boolean"]},
    )


class Log(_Part):
    """How much of a kernel's output is kept."""

    max_size: Size = Field(10 << 20, ge=1024, description="Size at which the log is rotated.")
    keep: int = Field(3, ge=0, le=100, description="How many older logs are kept.")


class Access(_Part):
    """Who beside the owner may do what (later): users, and groups as @group."""

    see: tuple[Word, ...] = Field((), description="See its name and state.")
    connect: tuple[Word, ...] = Field((), description="Run code in it, as its owner.")
    manage: tuple[Word, ...] = Field((), description="Start and stop it.")


class Limits(_Part):
    """What a kernel may use at the most (later)."""

    memory: Size | None = Field(None, description="Memory of all its processes.")
    cpu: float | None = Field(None, gt=0, description="How many cores' worth of time.")
    tasks: int | None = Field(None, ge=1, description="How many processes and threads.")
    open_files: int | None = Field(None, ge=16, description="How many open files a process.")


class Ports(_Part):
    """Which ports: any of the daemon's, any of a range, or five fixed ones."""

    range: tuple[int, int] | None = None
    fixed: tuple[int, ...] = ()


def _ports(given: object) -> object:
    """Read ``auto``, ``FIRST-LAST``, a list of five, or a mapping of the five channels."""
    if given == "auto":
        return {}
    if isinstance(given, str):
        return {"range": _port_range(given)}
    if isinstance(given, Mapping) and "shell" in given:
        names = ("shell", "iopub", "stdin", "control", "hb")
        if set(given) != set(names):
            raise ValueError(f"it needs just the ports {', '.join(names)}")
        given = [given[name] for name in names]
    if isinstance(given, list | tuple):
        return {"fixed": _fixed_ports(given)}
    if isinstance(given, Mapping | Ports):
        return given
    raise ValueError(f"{given!r} is not auto, a range such as 20000-20999, or five ports")


def _port_range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.strip().isdecimal() and last.strip().isdecimal()):
        raise ValueError(f"{text!r} is not auto, a range such as 20000-20999, or five ports")
    low, high = int(first), int(last)
    if not 1 <= low <= high <= LAST_PORT or high - low + 1 < COUNT:
        raise ValueError(f"{text!r} is not a range of at least {COUNT} ports up to {LAST_PORT}")
    return low, high


def _fixed_ports(given: Any) -> tuple[int, ...]:
    good = [port for port in given if type(port) is int and 1 <= port <= LAST_PORT]
    if len(good) != COUNT or len(given) != COUNT or len(set(good)) != COUNT:
        raise ValueError(f"{list(given)} is not five different ports from 1 to {LAST_PORT}")
    return tuple(good)


PORTS_SCHEMA = {
    "anyOf": [
        {"const": "auto"},
        {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 5, "maxItems": 5},
        {
            "type": "object",
            "required": ["shell", "iopub", "stdin", "control", "hb"],
            "additionalProperties": {"type": "integer"},
        },
    ]
}


class Profile(_Part):
    """A kernel as its owner wants it."""

    name: str = Field(
        pattern=f"^{PATTERN}$", description="The kernel's name; the file's name by default."
    )
    kernel: str = Field("", description="An installed Jupyter kernel spec to run.")
    python: AbsolutePath = Field(
        "", description="Path of a Python interpreter to run ipykernel with."
    )
    argv: tuple[str, ...] = Field(
        (), description="A command to run; {connection_file} stands for the file's path."
    )
    env: Mapping[str, str] = Field(
        default_factory=dict,
        description="Environment variables; ${NAME} and {instance} are replaced.",
        json_schema_extra={"additionalProperties": {"type": ["string", "number"]}},
    )
    env_file: AbsolutePath = Field("", description="A file of KEY=VALUE lines; env goes before it.")
    cwd: AbsolutePath = Field(
        "", description="The folder it starts in; the home folder by default."
    )
    shell: Literal["none", "login"] = Field(
        "none", description="login: the user's login shell starts it, with its environment."
    )
    setup: tuple[str, ...] = Field(
        (),
        description="Lines for that shell to run first, such as module load.",
        json_schema_extra={"type": ["array", "string"]},
    )
    transport: Literal["auto", "ipc", "tcp"] = Field(
        "auto", description="auto: Unix sockets where the kernel speaks them, else tcp."
    )
    encryption: Annotated[Literal["auto", "curve", "none"], BeforeValidator(_no_as_none)] = Field(
        "auto",
        description="auto: CURVE on tcp where the kernel says that it can.",
        json_schema_extra={"enum": ["auto", "curve", "none", False], "type": ["string", "boolean"]},
    )
    ip: str = Field("127.0.0.1", description="The address to listen on with tcp.")
    ports: Annotated[Ports, BeforeValidator(_ports), WithJsonSchema(PORTS_SCHEMA)] = Field(
        Ports(), description="auto, a range such as 20000-20999, or five ports."
    )
    start: Literal["boot", "on-demand", "manual"] = Field(
        "on-demand",
        description="boot: with the daemon; on-demand: when somebody asks for it; manual: "
        "only by kconnd-ctl start.",
    )
    restart: Restart = Field(Restart(), description="What follows an end nobody asked for.")
    startup_timeout: Duration = Field(
        60.0, gt=0, description="How long it may take to its first answer."
    )
    stop_timeout: Duration = Field(
        10.0, gt=0, description="How long it may take to end before it is killed."
    )
    heartbeat: Heartbeat = Field(Heartbeat(), description="How it is seen to be alive.")
    idle: Idle = Field(Idle(), description="When it is let go.")
    log: Log = Field(Log(), description="How much output is kept.")
    launcher: Literal["auto", "local", "systemd", "fork"] = Field(
        "auto", description="Later: the home it gets."
    )
    user: str = Field("", description="Later: whose kernel it is, in system profiles.")
    access: Access = Field(Access(), description="Later: who else may use it.")
    limits: Limits = Field(Limits(), description="Later: what it may use.")
    preload: tuple[str, ...] = Field((), description="Later: modules to import beforehand.")
    warm: int = Field(0, ge=0, le=100, description="Later: how many to hold ready.")
    publish: Annotated[Literal["none", "jupyter"], BeforeValidator(_no_as_none)] = Field(
        "none",
        description="Later: whether Jupyter servers list it.",
        json_schema_extra={"enum": ["none", "jupyter", False], "type": ["string", "boolean"]},
    )
    instance: Literal["shared", "per-session"] = Field(
        "shared", description="Later: whether each notebook gets one of its own."
    )
    on_frontend_shutdown: Literal["detach", "stop"] = Field(
        "detach", description="Later: what a front end's shutdown means."
    )

    @field_validator("setup", mode="before")
    @classmethod
    def _lines(cls, given: object) -> object:
        return given.splitlines() if isinstance(given, str) else given

    @field_validator("env", mode="before")
    @classmethod
    def _environment(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        return {_variable(name): _text(name, value) for name, value in given.items()}

    @field_validator("argv")
    @classmethod
    def _command(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if given and not any("{connection_file}" in arg for arg in given[1:]):
            raise ValueError("no argument has {connection_file} in it, so it could not be found")
        if given and "/" in given[0]:
            _path(given[0])
        return given

    @field_validator("ip")
    @classmethod
    def _address(cls, given: str) -> str:
        try:
            return str(ipaddress.ip_address(given))
        except ValueError:
            raise ValueError(f"{given!r} is not an IP address") from None

    @field_validator("cwd")
    @classmethod
    def _only_instance(cls, given: str) -> str:
        for placeholder in re.findall(r"\{[^}]*\}", given):
            if placeholder != "{instance}":
                raise ValueError(f"{placeholder} is not known here; {{instance}} is")
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Find what is right by itself and wrong together."""
        kinds = [key for key in ("kernel", "python", "argv") if getattr(self, key)]
        if len(kinds) != 1:
            found = f"it has {' and '.join(kinds)}" if kinds else "it has none of them"
            raise ValueError(f"it needs one of kernel, python and argv; {found}")
        if self.setup and self.shell == "none":
            raise ValueError("setup needs a shell to run it: add 'shell: login'")
        if self.ports.fixed and self.transport == "ipc":
            raise ValueError("ports are for tcp, and transport is ipc")
        if self.ports.fixed and self.instance == "per-session":
            raise ValueError("several instances cannot share fixed ports: use a range")
        return self

    def instantiate(self, instance: str) -> Self:
        """Give the profile of one instance: ``{instance}`` replaced in env and cwd.

        Parameters
        ----------
        instance : str
            What stands behind the ``@`` of its name; ``""`` for the profile's own kernel.
        """
        return self.model_copy(
            update={
                "env": {key: _put(value, instance) for key, value in self.env.items()},
                "cwd": _put(self.cwd, instance),
            }
        )

    def policy(self) -> Policy:
        """Give what the lifecycle has to know."""
        return Policy(
            restart=self.restart.policy,
            max_failures=self.restart.max_failures,
            backoff=self.restart.backoff,
            backoff_max=self.restart.backoff_max,
            stable_after=self.restart.stable_after,
            startup_timeout=self.startup_timeout,
            stop_timeout=self.stop_timeout,
            restart_unresponsive=self.heartbeat.action == "restart",
        )


def _variable(name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is not a name for an environment variable")
    if name in OURS:
        raise ValueError(f"{name} is set by kconnd itself")
    return name


def _text(name: object, value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{name}: YAML reads this as {value}; put it in quotes")  # noqa: TRY004
    return str(value) if isinstance(value, int | float) else value


def _put(text: str, instance: str) -> str:
    return text.replace("{instance}", instance)


def file_schema() -> dict[str, Any]:
    """Give the JSON Schema of a profile file: one profile, or a mapping of several.

    Returns
    -------
    dict
        A schema of draft 2020-12, which editors use to complete and to check.
    """
    profile = Profile.model_json_schema(ref_template="#/$defs/{model}")
    definitions = profile.pop("$defs", {})
    profile.pop("title", None)
    profile["required"] = []
    one_kind = [{"required": [key]} for key in ("kernel", "python", "argv")]
    definitions["Profile"] = {**profile, "oneOf": one_kind}
    several = {
        "type": "object",
        "required": ["kernels"],
        "additionalProperties": False,
        "properties": {
            "kernels": {
                "type": "object",
                "propertyNames": {"pattern": f"^{PATTERN}$"},
                "additionalProperties": {"$ref": "#/$defs/Profile"},
            }
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kconnd profile",
        "anyOf": [several, {"$ref": "#/$defs/Profile"}],
        "$defs": definitions,
    }
