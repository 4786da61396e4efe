"""Settings for the whole machine, which an administrator writes to ``/etc/kconnd/kconnd.yaml``."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from kconnd.core.access import Peer
from kconnd.core.profile import values
from kconnd.core.profile.model import Members, OptionalLimit, Size
from kconnd.core.profile.problems import KeyPath, Problem, problem_of
from kconnd.errors import RefusedError


class Quotas(BaseModel):
    """The limits of each user; an absent key means no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernels: OptionalLimit = Field(None, description="Kernels at the same time.")
    memory: Annotated[Size | None, WithJsonSchema({"type": ["integer", "string"]})] = Field(
        None, description="Memory of all of a user's kernels together."
    )


class MachineSettings(BaseModel):
    """The settings of the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: Members = Field((), description="Users who may use the service; empty for everybody.")
    quotas: Quotas = Field(Quotas(), description="Limits of each user.")
    connections: Annotated[int, AfterValidator(values.check_positive)] = Field(
        128,
        description="Connections that a user may have open to the front door, and to a daemon.",
    )


def parse_settings(
    keys: Mapping[str, object],
) -> tuple[MachineSettings | None, tuple[Problem, ...]]:
    """Parse settings; return the settings and no problems, or None and all problems."""
    try:
        return MachineSettings.model_validate(keys), ()
    except ValidationError as error:
        errors = error.errors(include_url=False)
    return None, tuple(problem_of(fault, fault["loc"], _allowed_keys(fault)) for fault in errors)


def _allowed_keys(error: Mapping[str, Any]) -> tuple[str, ...]:
    path: KeyPath = error["loc"]
    section = path[:-1] if error["type"] == "extra_forbidden" else path
    return tuple(Quotas.model_fields if section == ("quotas",) else MachineSettings.model_fields)


def admits(settings: MachineSettings, peer: Peer) -> bool:
    """Return whether the settings allow a user to use the service."""
    if not settings.users or peer.uid == 0:
        return True
    return any(
        name[1:] in peer.groups if name.startswith("@") else name == peer.name
        for name in settings.users
    )


def check_admitted(settings: MachineSettings, peer: Peer) -> None:
    """Refuse a user who may not use the service.

    Raises
    ------
    RefusedError
        If the settings do not admit the user.
    """
    if not admits(settings, peer):
        raise RefusedError(
            f"uid {peer.uid} may not use kconnd on this machine",
            hint="ask an administrator to add you to 'users' in /etc/kconnd/kconnd.yaml",
        )
