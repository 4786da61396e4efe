"""What a profile may say: its keys, their defaults, and what contradicts what.

Rules: pure; a profile is frozen and wholly parsed, so nobody reads its text again; a fault
within one key is found by that key's type, a fault between keys by a row of `rules.RULES`, and
both kinds are told together. Paths keep their ``~``, since the home is not known here.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    WithJsonSchema,
    field_validator,
)

from kconnd.core.names import NAME_PATTERN
from kconnd.core.profile import values
from kconnd.core.profile.problems import InvalidValueError
from kconnd.core.profile.quantities import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
)
from kconnd.core.profile.values import MAX_PORT, MIN_PORT, Ports

_NUMBER = {"type": "number", "minimum": 0}
_SPAN = {"type": "string", "pattern": DURATION_PATTERN}
_AMOUNT = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SIZE_PATTERN}]
_PORT = {"type": "integer", "minimum": MIN_PORT, "maximum": MAX_PORT}
_FIVE = len(values.CHANNELS)
_PORTS_SCHEMA = {
    "anyOf": [
        {"const": "auto"},
        {"type": "string", "pattern": r"^\s*[0-9]{4,5}\s*-\s*[0-9]{4,5}\s*$"},
        {"type": "array", "items": _PORT, "minItems": _FIVE, "maxItems": _FIVE},
        {
            "type": "object",
            "properties": dict.fromkeys(values.CHANNELS, _PORT),
            "required": list(values.CHANNELS),
            "additionalProperties": False,
        },
    ]
}


def _false_is(word: str) -> BeforeValidator:
    """Take YAML 1.1's false for the word that was written: ``no`` (or ``none``, for nothing)."""
    return BeforeValidator(lambda value: word if value is False else value)


def _from(low: float, high: float = math.inf) -> BeforeValidator:
    return BeforeValidator(partial(values.parse_duration_within, low, high))


Text = Annotated[str, AfterValidator(values.check_text)]
Argument = Annotated[Text, AfterValidator(values.reject_instance)]
FilePath = Annotated[Argument, AfterValidator(values.check_absolute)]
EnvName = Annotated[str, AfterValidator(values.check_env_name)]
EnvValue = Annotated[
    Text,
    BeforeValidator(values.env_text),
    WithJsonSchema({"type": ["string", "number"]}),
]
Members = tuple[Annotated[str, AfterValidator(values.check_member)], ...]
PositiveInt = Annotated[int, Strict(), Field(ge=1)]
OptionalLimit = Annotated[
    int | None, Strict(), Field(ge=1), WithJsonSchema({"type": "integer", "minimum": 1})
]
Seconds = Annotated[
    float,
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [_NUMBER, _SPAN]}),
]
Size = Annotated[
    int,
    BeforeValidator(partial(values.parse_size_from, 4096)),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": _AMOUNT}),
]


class Section(BaseModel):
    """A mapping of a profile: frozen, and no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    @field_validator("*", mode="before")
    @classmethod
    def _has_value(cls, value: object) -> object:
        """Refuse a key with nothing behind it: dropping it and emptying it could differ."""
        if value is None:
            raise InvalidValueError(
                "has no value", "give it one, or drop the key to have the default"
            )
        return value


class Restart(Section):
    """What happens after a kernel's end that nobody asked for."""

    policy: Annotated[
        Literal["no", "on-failure", "always"],
        _false_is("no"),
        WithJsonSchema({"enum": ["no", "on-failure", "always", False]}),
    ] = Field("on-failure", description="After which ends the kernel is started again.")
    max_failures: PositiveInt = Field(5, description="Failures in a row before it is given up.")
    backoff: Annotated[Seconds, _from(0.01, 86_400)] = Field(
        0.5, description="The wait before the first restart; it doubles with each failure."
    )
    backoff_max: Annotated[Seconds, _from(0.01, 86_400)] = Field(
        60.0, description="The longest wait before a restart."
    )
    stable_after: Annotated[Seconds, _from(0)] = Field(
        60.0, description="A run of this length makes earlier failures forgotten."
    )


class Heartbeat(Section):
    """How a kernel is asked whether it lives, and what silence leads to."""

    interval: Annotated[Seconds, _from(0.1)] = Field(
        10.0, description="The time between two questions; infinity asks never."
    )
    misses: PositiveInt = Field(
        3, description="Unanswered questions until it counts as unresponsive."
    )
    action: Literal["report", "restart"] = Field(
        "report", description="Whether an unresponsive kernel is told of, or ended and restarted."
    )


class Idle(Section):
    """What happens to a kernel that nobody uses."""

    stop_after: Annotated[
        Seconds,
        BeforeValidator(partial(values.parse_duration_or_off, 1.0)),
        WithJsonSchema({"anyOf": [_NUMBER, _SPAN, {"enum": ["off", False]}]}),
    ] = Field(math.inf, description="Stop after so long idle and without clients; off: never.")


class LogRetention(Section):
    """How much of a kernel's output is kept."""

    max_size: Size = Field(10 << 20, description="The size at which a new log file is begun.")
    keep: Annotated[int, Strict()] = Field(3, ge=0, le=100, description="Full log files kept.")


class Access(Section):
    """Who besides the owner may do what: login names, and groups as @NAME."""

    see: Members = Field((), description="May list the kernel and see its state.")
    connect: Members = Field((), description="May run code in it, which is acting as its owner.")
    manage: Members = Field((), description="May start, stop and restart it too.")


class Limits(Section):
    """What a kernel may use of the machine; without a key there is no limit."""

    memory: Annotated[Size | None, WithJsonSchema({"anyOf": _AMOUNT})] = Field(
        None, description="Memory, after which the kernel is ended."
    )
    cpu: Annotated[
        float | None,
        BeforeValidator(values.parse_cpus),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 0},
                    {"type": "string", "pattern": r"^[0-9.]+%?$"},
                ]
            }
        ),
    ] = Field(None, description="Processors' worth of time: 1.5, or 150%.")
    tasks: OptionalLimit = Field(None, description="Processes and threads.")
    open_files: OptionalLimit = Field(None, description="Open files of each process.")


class Profile(Section):
    """One kernel, as it should be run."""

    name: Annotated[str, AfterValidator(values.check_kernel_name)] = Field(
        description="The kernel's name; by default the file's name without .yaml.",
        json_schema_extra={"pattern": f"^{NAME_PATTERN}$"},
    )
    kernel: Annotated[str, AfterValidator(values.check_spec_name)] = Field(
        "", description="The installed kernel spec to run, as 'jupyter kernelspec list' names it."
    )
    python: FilePath = Field("", description="The Python interpreter to run ipykernel with.")
    argv: Annotated[tuple[Argument, ...], AfterValidator(values.check_command)] = Field(
        (), description="The command to run, with {connection_file} in it."
    )
    env: Mapping[EnvName, EnvValue] = Field(
        default_factory=dict, description="Environment variables; {instance} is filled in."
    )
    env_file: FilePath = Field("", description="A file with lines NAME=VALUE for the environment.")
    cwd: Annotated[
        Text, AfterValidator(values.check_absolute), AfterValidator(values.check_placeholders)
    ] = Field("~", description="The folder to run in; {instance} is filled in.")
    shell: Literal["none", "login"] = Field(
        "none", description="Whether a login shell runs first, as it would for the user."
    )
    setup: Annotated[
        tuple[Text, ...],
        BeforeValidator(values.split_lines),
        AfterValidator(values.flatten_lines),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ] = Field((), description="Lines that the login shell runs before the kernel: module load …")
    transport: Literal["auto", "ipc", "tcp"] = Field(
        "auto", description="Unix sockets (ipc) or TCP; auto is ipc where the kernel can."
    )
    encryption: Literal["auto", "curve", "none"] = Field(
        "auto", description="Whether TCP is encrypted with CURVE; auto: where the kernel can."
    )
    ip: Annotated[str, AfterValidator(values.check_ip)] = Field(
        "127.0.0.1", description="The address that the kernel listens on, with TCP."
    )
    ports: Annotated[
        Ports,
        PlainValidator(values.parse_ports),
        PlainSerializer(lambda ports: list(ports.fixed) or str(ports), when_used="json"),
        WithJsonSchema(_PORTS_SCHEMA),
    ] = Field(Ports(), description="auto, a range 20000-20999, or five fixed ports, with TCP.")
    start: Literal["boot", "on-demand", "manual"] = Field(
        "on-demand", description="With the daemon, when somebody asks for it, or only by 'start'."
    )
    restart: Restart = Field(Restart(), description="After an end that nobody asked for.")
    startup_timeout: Annotated[Seconds, _from(0.1)] = Field(
        60.0, description="How long the kernel may take until it answers."
    )
    stop_timeout: Annotated[Seconds, _from(0)] = Field(
        10.0,
        description="How long each step of stopping waits before a harder one; at least 35 s "
        "where a kernel waits for ended children alone.",
    )
    heartbeat: Heartbeat = Field(Heartbeat(), description="Whether it still answers.")
    idle: Idle = Field(Idle(), description="When it is stopped because nobody uses it.")
    log: LogRetention = Field(LogRetention(), description="How much of its output is kept.")
    launcher: Literal["auto", "local", "systemd", "fork"] = Field(
        "auto", description="What the kernel is started with."
    )
    user: Annotated[str, AfterValidator(values.check_user_name)] = Field(
        "", description="Who it runs as; only in profiles of the whole machine."
    )
    access: Access = Field(Access(), description="Who besides the owner may do what.")
    limits: Limits = Field(Limits(), description="What it may use of the machine.")
    preload: tuple[Annotated[str, AfterValidator(values.check_module_name)], ...] = Field(
        (), description="Modules that a parent process imports once for many kernels."
    )
    warm: Annotated[int, Strict()] = Field(
        0, ge=0, le=100, description="Kernels kept started ahead of the next request."
    )
    publish: Annotated[
        Literal["none", "jupyter"],
        _false_is("none"),
        WithJsonSchema({"enum": ["none", "jupyter", False]}),
    ] = Field("none", description="Whether Jupyter's front ends are shown this profile.")
    instance: Literal["shared", "per-session"] = Field(
        "shared", description="One kernel for all sessions of a front end, or one for each."
    )
    on_frontend_shutdown: Literal["detach", "stop"] = Field(
        "detach", description="What a front end's 'shut down' does to the kernel."
    )


def instantiate(profile: Profile, instance: str) -> Profile:
    """Make the profile of a further kernel by filling in ``{instance}``.

    Parameters
    ----------
    profile : Profile
        The template; it keeps its name.
    instance : str
        What stands after the ``@``; ``""`` for the profile's own kernel.
    """
    env = {name: value.replace("{instance}", instance) for name, value in profile.env.items()}
    cwd = profile.cwd.replace("{instance}", instance)
    if (env, cwd) == (profile.env, profile.cwd):
        return profile  # this is asked for with every request
    return profile.model_copy(update={"env": env, "cwd": cwd})


def shared_ports(one: Profile, other: Profile) -> tuple[int, ...]:
    """Find the fixed ports that two profiles both claim on an address."""
    anywhere = {"0.0.0.0", "::"}  # noqa: S104  # compared, not listened on
    if one.ip != other.ip and anywhere.isdisjoint({one.ip, other.ip}):
        return ()
    return tuple(sorted(set(one.ports.fixed) & set(other.ports.fixed)))
