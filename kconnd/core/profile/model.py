"""The model of a profile: its keys, their types, defaults and descriptions.

Rules. A profile is frozen and fully parsed, so its text is not needed again. The type of a key
validates the key's value; `kconnd.core.profile.parse` checks keys against each other. Paths keep
their ``~``, because this module has no I/O and cannot look up the home folder.
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


def _false_means(word: str) -> BeforeValidator:
    """Return a validator that replaces false by ``word``; YAML 1.1 reads ``no`` as false."""
    return BeforeValidator(lambda value: word if value is False else value)


def _duration(low: float, high: float = math.inf) -> BeforeValidator:
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
    """A mapping in a profile; the parsed mapping is immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    @field_validator("*", mode="before")
    @classmethod
    def _has_value(cls, value: object) -> object:
        """Refuse a key without a value, because the meaning of such a key is ambiguous."""
        if value is None:
            raise InvalidValueError(
                "has no value", "give it one, or drop the key to have the default"
            )
        return value


class Restart(Section):
    """When to restart a kernel after an exit that nobody requested."""

    policy: Annotated[
        Literal["no", "on-failure", "always"],
        _false_means("no"),
        WithJsonSchema({"enum": ["no", "on-failure", "always", False]}),
    ] = Field("on-failure", description="The exits after which the kernel is restarted.")
    max_failures: PositiveInt = Field(
        5, description="Failures in a row after which no restart is tried."
    )
    backoff: Annotated[Seconds, _duration(0.01, 86_400)] = Field(
        0.5, description="The wait before the first restart; it doubles with each failure."
    )
    backoff_max: Annotated[Seconds, _duration(0.01, 86_400)] = Field(
        60.0, description="The longest wait before a restart."
    )
    stable_after: Annotated[Seconds, _duration(0)] = Field(
        60.0, description="A run of this length resets the count of failures."
    )


class Heartbeat(Section):
    """The interval of heartbeats, and the action when heartbeats are missing."""

    interval: Annotated[Seconds, _duration(0.1)] = Field(
        10.0, description="The time between two heartbeats; infinity sends none."
    )
    misses: PositiveInt = Field(
        3, description="Missed heartbeats after which the kernel is unresponsive."
    )
    action: Literal["report", "restart"] = Field(
        "report",
        description="Whether an unresponsive kernel is reported, or stopped and restarted.",
    )


class Idle(Section):
    """When to stop an idle kernel."""

    stop_after: Annotated[
        Seconds,
        BeforeValidator(partial(values.parse_duration_or_off, 1.0)),
        WithJsonSchema({"anyOf": [_NUMBER, _SPAN, {"enum": ["off", False]}]}),
    ] = Field(
        math.inf,
        description="Stop the kernel after this time idle and without clients; off: never.",
    )


class LogRetention(Section):
    """The size and number of log files with the kernel's output."""

    max_size: Size = Field(10 << 20, description="The size at which a new log file begins.")
    keep: Annotated[int, Strict()] = Field(
        3, ge=0, le=100, description="Number of full log files to keep."
    )


class Access(Section):
    """The rights of other users: login names, and groups as @NAME."""

    see: Members = Field((), description="Users who may list the kernel and see its state.")
    connect: Members = Field(
        (), description="Users who may run code in it, which acts with the owner's rights."
    )
    manage: Members = Field((), description="Users who may also start, stop and restart it.")


class Limits(Section):
    """The resource limits of a kernel; an absent key means no limit."""

    memory: Annotated[Size | None, WithJsonSchema({"anyOf": _AMOUNT})] = Field(
        None, description="Memory; a kernel that exceeds it is killed."
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
    ] = Field(None, description="Processor time, in processors: 1.5, or 150%.")
    tasks: OptionalLimit = Field(None, description="Processes and threads.")
    open_files: OptionalLimit = Field(None, description="Open files of each process.")


class Profile(Section):
    """The configuration of one kernel."""

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
        default_factory=dict, description="Environment variables; {instance} is replaced."
    )
    env_file: FilePath = Field("", description="A file with lines NAME=VALUE for the environment.")
    pass_env: tuple[Annotated[str, AfterValidator(values.check_passed_name)], ...] = Field(
        (),
        description="Variables that the kernel takes from your session at a start; it takes "
        "PATH, locale, time zone and proxies without the key.",
    )
    cwd: Annotated[
        Text, AfterValidator(values.check_folder), AfterValidator(values.check_placeholders)
    ] = Field(
        "",
        description="The working directory; {instance} is replaced. notebook: the folder of the "
        "notebook or run, or ~ without one; this is the default with instance: per-session, "
        "else ~.",
    )
    umask: Annotated[
        str,
        BeforeValidator(values.parse_umask),
        WithJsonSchema({"type": "string", "pattern": f"^{values.UMASK_PATTERN}$"}),
    ] = Field(
        "",
        description="The umask in octal digits, in quotes: the rights that new files do not get; "
        "without the key that of your session.",
    )
    shell: Literal["none", "login"] = Field(
        "none", description="Whether the kernel starts from a login shell of the user."
    )
    setup: Annotated[
        tuple[Text, ...],
        BeforeValidator(values.split_lines),
        AfterValidator(values.flatten_lines),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ] = Field((), description="Lines that the login shell runs before the kernel: module load …")
    connection_folder: Annotated[Argument, AfterValidator(values.check_folder_pair)] = Field(
        "",
        description="A folder for its connection file and sockets that its container has, too: "
        "FOLDER, or FOLDER:PATH-IN-THE-CONTAINER.",
    )
    transport: Literal["auto", "ipc", "tcp"] = Field(
        "auto", description="Unix sockets (ipc) or TCP; auto selects ipc if the kernel supports it."
    )
    encryption: Literal["auto", "curve", "none"] = Field(
        "auto", description="Whether TCP is encrypted with CURVE; auto: if the kernel supports it."
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
        "on-demand",
        description="When to start: with the daemon, on the first request, or only by 'start'.",
    )
    restart: Restart = Field(Restart(), description="When to restart the kernel after an exit.")
    startup_timeout: Annotated[Seconds, _duration(0.1)] = Field(
        60.0, description="The time that the kernel may take until it answers."
    )
    stop_timeout: Annotated[Seconds, _duration(0)] = Field(
        10.0,
        description="The time that each step of a stop waits before the next harder one; at least "
        "35 s while only uncollected children delay the exit.",
    )
    heartbeat: Heartbeat = Field(
        Heartbeat(), description="How to check that the kernel still answers."
    )
    idle: Idle = Field(Idle(), description="When to stop the kernel because nobody uses it.")
    log: LogRetention = Field(LogRetention(), description="The size and number of its log files.")
    launcher: Literal["auto", "local", "systemd", "fork"] = Field(
        "auto", description="The launcher that starts the kernel."
    )
    user: Annotated[str, AfterValidator(values.check_user_name)] = Field(
        "", description="The user that it runs as; only in profiles of the whole machine."
    )
    access: Access = Field(Access(), description="The rights of other users.")
    limits: Limits = Field(Limits(), description="Its resource limits.")
    preload: tuple[Annotated[str, AfterValidator(values.check_module_name)], ...] = Field(
        (), description="Modules that a parent process imports once for all kernels that it forks."
    )
    warm: Annotated[int, Strict()] = Field(
        0, ge=0, le=100, description="Number of kernels to keep started in advance."
    )
    publish: Annotated[
        Literal["none", "jupyter"],
        _false_means("none"),
        WithJsonSchema({"enum": ["none", "jupyter", False]}),
    ] = Field("none", description="Whether Jupyter front ends list this profile.")
    instance: Literal["shared", "per-session"] = Field(
        "shared", description="One kernel for all sessions of a front end, or one for each."
    )
    on_frontend_shutdown: Literal["auto", "detach", "stop"] = Field(
        "auto",
        description="The effect of a front end's 'shut down' on the kernel. auto: detach, but a "
        "run such as papermill stops the kernel that it has to itself (instance: per-session).",
    )


def instantiate(profile: Profile, instance: str) -> Profile:
    """Build the profile of an instance: replace ``{instance}`` in the profile.

    Parameters
    ----------
    profile : Profile
        The profile that may contain ``{instance}``; the result has the same ``name``.
    instance : str
        The text after the ``@`` in the kernel's name; ``""`` for the profile's own kernel.
    """
    env = {name: value.replace("{instance}", instance) for name, value in profile.env.items()}
    cwd = profile.cwd.replace("{instance}", instance)
    if (env, cwd) == (profile.env, profile.cwd):
        return profile  # the most frequent case: every request calls this function
    return profile.model_copy(update={"env": env, "cwd": cwd})


def follows_notebook(profile: Profile) -> bool:
    """Return whether a kernel starts in the folder of its notebook."""
    if not profile.cwd:
        return profile.instance == "per-session"
    return profile.cwd == values.NOTEBOOK_FOLDER


def ends_with_run(profile: Profile) -> bool:
    """Return whether a kernel that a run has to itself ends with the run."""
    return profile.instance == "per-session" and profile.on_frontend_shutdown != "detach"


def shared_ports(first: Profile, second: Profile) -> tuple[int, ...]:
    """Return the fixed ports that two profiles use on the same address."""
    wildcards = {"0.0.0.0", "::"}  # noqa: S104  # compared, not listened on
    if first.ip != second.ip and wildcards.isdisjoint({first.ip, second.ip}):
        return ()
    return tuple(sorted(set(first.ports.fixed) & set(second.ports.fixed)))
