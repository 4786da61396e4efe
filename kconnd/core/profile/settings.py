"""What an administrator sets for the whole machine, in ``/etc/kconnd/kconnd.yaml``."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from kconnd.core.access import Peer
from kconnd.core.profile import values
from kconnd.core.profile.model import Members, OptionalLimit, Size
from kconnd.core.profile.problems import KeyPath, Problem, problem_of
from kconnd.errors import RefusedError


class Quotas(BaseModel):
    """What each user may use; without a key there is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernels: OptionalLimit = Field(None, description="Kernels at once.")
    memory: Annotated[Size | None, WithJsonSchema({"type": ["integer", "string"]})] = Field(
        None, description="Memory of all of a user's kernels together."
    )


class MachineSettings(BaseModel):
    """All that can be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: Members = Field((), description="Who may use the service; everybody where empty.")
    quotas: Quotas = Field(Quotas(), description="What each of them may use.")
    connections: Annotated[int, AfterValidator(values.check_positive)] = Field(
        128,
        description="Connections that a user may have at once: to the front door, and to a daemon.",
    )


def parse_settings(
    given: Mapping[str, object],
) -> tuple[MachineSettings | None, tuple[Problem, ...]]:
    """Read settings from plain values: them and no problems, or None and all problems."""
    try:
        return MachineSettings.model_validate(given), ()
    except ValidationError as error:
        found = error.errors(include_url=False)
    return None, tuple(
        problem_of(one, one["loc"], _known(one["type"], one["loc"])) for one in found
    )


def _known(kind: str, path: KeyPath) -> tuple[str, ...]:
    inside = path[:-1] if kind == "extra_forbidden" else path
    return tuple(Quotas.model_fields if inside == ("quotas",) else MachineSettings.model_fields)


def admits(settings: MachineSettings, peer: Peer) -> bool:
    """Tell whether a user may use the service."""
    if not settings.users or peer.uid == 0:
        return True
    return any(
        name[1:] in peer.groups if name.startswith("@") else name == peer.name
        for name in settings.users
    )


def check_admitted(settings: MachineSettings, peer: Peer) -> None:
    """Refuse who may not use the service.

    Raises
    ------
    RefusedError
        If so.
    """
    if not admits(settings, peer):
        raise RefusedError(
            f"uid {peer.uid} may not use kconnd on this machine",
            hint="an administrator says who may: 'users' in /etc/kconnd/kconnd.yaml",
        )
