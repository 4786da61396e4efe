"""What a profile may say: its keys, their defaults, and what contradicts what.

Rules: pure; a profile is frozen and wholly parsed, so nobody reads its text again; a fault
within one key is found by that key's type, a fault between keys by a row of `rules.RULES`, and
both kinds are told together. Paths keep their ``~``, since the home is not known here.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from kconnd.core.names import PATTERN
from kconnd.core.profile import values
from kconnd.core.profile.problems import (
    UNKNOWN_KEY,
    Path,
    Problem,
    WrongError,
    dotted,
    explain,
    nearest,
)
from kconnd.core.profile.quantities import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
)
from kconnd.core.profile.rules import RULES, ContradictionError, Rule
from kconnd.core.profile.values import HIGH_PORT, LOW_PORT, Ports

_NUMBER = {"type": "number", "minimum": 0}
_SPAN = {"type": "string", "pattern": DURATION_PATTERN}
_AMOUNT = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SIZE_PATTERN}]
_PORT = {"type": "integer", "minimum": LOW_PORT, "maximum": HIGH_PORT}
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
    return BeforeValidator(partial(values.duration_within, low, high))


Text = Annotated[str, AfterValidator(values.text)]
Argument = Annotated[Text, AfterValidator(values.without_instance)]
FilePath = Annotated[Argument, AfterValidator(values.absolute)]
EnvName = Annotated[str, AfterValidator(values.env_name)]
EnvValue = Annotated[
    Text,
    BeforeValidator(values.env_value),
    WithJsonSchema({"type": ["string", "number"]}),
]
Members = tuple[Annotated[str, AfterValidator(values.member)], ...]
Count = Annotated[int, Strict(), Field(ge=1)]
Bound = Annotated[
    int | None, Strict(), Field(ge=1), WithJsonSchema({"type": "integer", "minimum": 1})
]
Seconds = Annotated[
    float,
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [_NUMBER, _SPAN]}),
]
Size = Annotated[
    int,
    BeforeValidator(partial(values.size_from, 4096)),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": _AMOUNT}),
]


class _Part(BaseModel):
    """A mapping of a profile: frozen, and no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        """Refuse a key with nothing behind it: dropping it and emptying it could differ."""
        if value is None:
            raise WrongError("has no value", "give it one, or drop the key to have the default")
        return value


class Restart(_Part):
    """What happens after a kernel's end that nobody asked for."""

    policy: Annotated[
        Literal["no", "on-failure", "always"],
        _false_is("no"),
        WithJsonSchema({"enum": ["no", "on-failure", "always", False]}),
    ] = Field("on-failure", description="After which ends the kernel is started again.")
    max_failures: Count = Field(5, description="Failures in a row before it is given up.")
    backoff: Annotated[Seconds, _from(0.01, 86_400)] = Field(
        0.5, description="The wait before the first restart; it doubles with each failure."
    )
    backoff_max: Annotated[Seconds, _from(0.01, 86_400)] = Field(
        60.0, description="The longest wait before a restart."
    )
    stable_after: Annotated[Seconds, _from(0)] = Field(
        60.0, description="A run of this length makes earlier failures forgotten."
    )


class Heartbeat(_Part):
    """How a kernel is asked whether it lives, and what silence leads to."""

    interval: Annotated[Seconds, _from(0.1)] = Field(
        10.0, description="The time between two questions; infinity asks never."
    )
    misses: Count = Field(3, description="Unanswered questions until it counts as unresponsive.")
    action: Literal["report", "restart"] = Field(
        "report", description="Whether an unresponsive kernel is told of, or ended and restarted."
    )


class Idle(_Part):
    """What happens to a kernel that nobody uses."""

    stop_after: Annotated[
        Seconds,
        BeforeValidator(partial(values.duration_or_off, 1.0)),
        WithJsonSchema({"anyOf": [_NUMBER, _SPAN, {"enum": ["off", False]}]}),
    ] = Field(math.inf, description="Stop after so long idle and without clients; off: never.")


class Log(_Part):
    """How much of a kernel's output is kept."""

    max_size: Size = Field(10 << 20, description="The size at which a new log file is begun.")
    keep: Annotated[int, Strict()] = Field(3, ge=0, le=100, description="Full log files kept.")


class Access(_Part):
    """Who besides the owner may do what: login names, and groups as @NAME."""

    see: Members = Field((), description="May list the kernel and see its state.")
    connect: Members = Field((), description="May run code in it, which is acting as its owner.")
    manage: Members = Field((), description="May start, stop and restart it too.")


class Limits(_Part):
    """What a kernel may use of the machine; without a key there is no limit."""

    memory: Annotated[Size | None, WithJsonSchema({"anyOf": _AMOUNT})] = Field(
        None, description="Memory, after which the kernel is ended."
    )
    cpu: Annotated[
        float | None,
        BeforeValidator(values.cpus),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 0},
                    {"type": "string", "pattern": r"^[0-9.]+%?$"},
                ]
            }
        ),
    ] = Field(None, description="Processors' worth of time: 1.5, or 150%.")
    tasks: Bound = Field(None, description="Processes and threads.")
    open_files: Bound = Field(None, description="Open files of each process.")


class Profile(_Part):
    """One kernel, as it should be run."""

    name: Annotated[str, AfterValidator(values.kernel_name)] = Field(
        description="The kernel's name; by default the file's name without .yaml.",
        json_schema_extra={"pattern": f"^{PATTERN}$"},
    )
    kernel: Annotated[str, AfterValidator(values.spec_name)] = Field(
        "", description="The installed kernel spec to run, as 'jupyter kernelspec list' names it."
    )
    python: FilePath = Field("", description="The Python interpreter to run ipykernel with.")
    argv: Annotated[tuple[Argument, ...], AfterValidator(values.command)] = Field(
        (), description="The command to run, with {connection_file} in it."
    )
    env: Mapping[EnvName, EnvValue] = Field(
        default_factory=dict, description="Environment variables; {instance} is filled in."
    )
    env_file: FilePath = Field("", description="A file with lines NAME=VALUE for the environment.")
    cwd: Annotated[Text, AfterValidator(values.absolute), AfterValidator(values.template)] = Field(
        "~", description="The folder to run in; {instance} is filled in."
    )
    shell: Literal["none", "login"] = Field(
        "none", description="Whether a login shell runs first, as it would for the user."
    )
    setup: Annotated[
        tuple[Text, ...],
        BeforeValidator(values.as_lines),
        AfterValidator(values.flat_lines),
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
    ip: Annotated[str, AfterValidator(values.ip_literal)] = Field(
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
    log: Log = Field(Log(), description="How much of its output is kept.")
    launcher: Literal["auto", "local", "systemd", "fork"] = Field(
        "auto", description="What the kernel is started with."
    )
    user: Annotated[str, AfterValidator(values.user_name)] = Field(
        "", description="Who it runs as; only in profiles of the whole machine."
    )
    access: Access = Field(Access(), description="Who besides the owner may do what.")
    limits: Limits = Field(Limits(), description="What it may use of the machine.")
    preload: tuple[Annotated[str, AfterValidator(values.module_name)], ...] = Field(
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check the keys against each other (`RULES`)."""
        broken = tuple(rule for rule in RULES if rule.broken(self))
        if broken:
            raise ContradictionError(broken)
        return self


def parse_profile(
    given: Mapping[str, object], *, name: str
) -> tuple[Profile | None, tuple[Problem, ...]]:
    """Read a profile from plain values.

    Parameters
    ----------
    given : mapping
        What stands in the file, keys as text.
    name : str
        The name, where the mapping has none.

    Returns
    -------
    tuple
        The profile and no problems, or None and all of its problems.
    """
    data = {"name": name, **given}
    profile, errors = _validate(data)
    if profile:
        return profile, ()
    if broken := _contradictions(errors):
        return None, tuple(map(_contradiction, broken))
    problems = tuple(_problem(error) for error in errors)
    unsure = {_key(problem.path) for problem in problems} | _meant(problems)
    # The sound keys are checked against each other too, so that one run tells everything.
    _, rest = _validate(_without(data, unsure))
    sure = [rule for rule in _contradictions(rest) if unsure.isdisjoint(_with_parents(rule.keys))]
    return None, (*problems, *map(_contradiction, sure))


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


def profile_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of a profile file, so that editors complete it."""
    profile = Profile.model_json_schema()
    parts = profile.pop("$defs")
    profile["required"] = []
    profile["oneOf"] = [{"required": [key]} for key in ("kernel", "python", "argv")]
    many = {
        "type": "object",
        "description": "Several kernels in one file, by name.",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{PATTERN}$"},
        "additionalProperties": {"$ref": "#/$defs/Profile"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A file of kconnd profiles",
        "anyOf": [
            {"$ref": "#/$defs/Profile"},
            {
                "type": "object",
                "properties": {"kernels": many},
                "required": ["kernels"],
                "additionalProperties": False,
            },
        ],
        "$defs": {**parts, "Profile": profile},
    }


def _validate(data: Mapping[str, object]) -> tuple[Profile | None, list[Any]]:
    try:
        return Profile.model_validate(data), []
    except ValidationError as err:
        return None, list(err.errors(include_url=False))


def _contradictions(errors: list[Any]) -> tuple[Rule, ...]:
    """Find the rules broken, which the model tells as one error."""
    for error in errors:
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, ContradictionError):
            return cause.rules
    return ()


def _contradiction(rule: Rule) -> Problem:
    path = tuple(rule.keys[0].split(".")) if rule.keys[0] else ()
    return Problem(path, rule.message, rule.hint, on_key=True)


def _problem(error: Mapping[str, Any]) -> Problem:
    path: Path = error["loc"]
    inside = path[:-1] if error["type"] == "extra_forbidden" else path
    return explain(error, path, allowed_keys(inside))


def allowed_keys(path: Path) -> tuple[str, ...]:
    """List the keys known at a place of a profile: ``()`` is its top, ``("restart",)`` a part."""
    fields = Profile.model_fields
    if not path:
        return (*fields, "kernels")
    kind = fields[str(path[0])].annotation if path[0] in fields else None
    return tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, _Part) else ()


def _key(path: Path) -> str:
    """Name the key that holds a fault: of a part the key within it, else the one at the top."""
    return dotted(path[: 2 if allowed_keys(path[:1]) else 1]) if path else ""


def _with_parents(keys: tuple[str, ...]) -> set[str]:
    return {*keys, *(key.partition(".")[0] for key in keys)}


def _meant(problems: tuple[Problem, ...]) -> set[str]:
    """Collect the keys that misspelt ones were probably meant to be."""
    unknown = (problem.path for problem in problems if problem.message == UNKNOWN_KEY)
    return {_key((*path[:-1], nearest(str(path[-1]), allowed_keys(path[:-1])))) for path in unknown}


def _without(data: Mapping[str, object], unsure: set[str]) -> dict[str, object]:
    """Leave out the keys with faults; a profile without a sound name gets one for the moment."""
    sound: dict[str, object] = {"name": "unnamed"}
    for key, value in data.items():
        if key in unsure:
            continue
        if isinstance(value, Mapping) and allowed_keys((key,)):
            sound[key] = {k: v for k, v in value.items() if f"{key}.{k}" not in unsure}
        else:
            sound[key] = value
    return sound
