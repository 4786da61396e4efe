"""Gives kernels a control group for their limits, and reads back which limits are in force.

A shim that waits for its plan is moved into a new scope before it gets the plan. The kernel, which
the shim forks afterwards, is then in the scope before it runs any code. `UserScopes` requests
scopes from the user's own systemd. On a server, `SystemdLauncher` requests them from the front
door.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from kconnd.core.launch.plan import LaunchPlan, User
from kconnd.core.limits import (
    CONTROLLERS,
    SCOPE_OOM_VERSION,
    cgroup_properties,
    compare,
    foresee,
    needs_cgroup,
)
from kconnd.core.unit_names import unit_name
from kconnd.errors import KconndError
from kconnd.launchers.base import Handle
from kconnd.system.process.process_limits import read_limits
from kconnd.system.user_scope import find_user_manager, read_manager_version, start_scope

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class Confinement:
    """The result of an attempt to move a shim into a scope of its own.

    Parameters
    ----------
    limits : mapping
        The limits of the kernel, which can be stricter than those of its plan.
    is_confined : bool
        Whether the shim is in a scope of its own.
    reasons : mapping
        The known reasons why limits are not enforced.
    """

    limits: Mapping[str, float]
    is_confined: bool = True
    reasons: Mapping[str, str] = field(default_factory=dict)


class Scopes(Protocol):
    """Creates scopes for shims."""

    def needs_scope(self, plan: LaunchPlan) -> bool:
        """Return whether to try to give a kernel a scope of its own."""
        ...

    def confine(self, plan: LaunchPlan, shim: int) -> Confinement:
        """Move a shim, which waits for its plan, into a new scope; see `Confinement`.

        Raises
        ------
        StartFailedError
            If the kernel must not run without a scope.
        """
        ...


class UserScopes:
    """Creates scopes of the user's own systemd for kernels with limits.

    Parameters
    ----------
    user : User
        The user of this process.
    """

    def __init__(self, user: User) -> None:
        self._user = user

    def needs_scope(self, plan: LaunchPlan) -> bool:
        """Return whether a limit of the plan needs a control group."""
        return needs_cgroup(plan.limits)

    def confine(self, plan: LaunchPlan, shim: int) -> Confinement:
        """Move a shim into a new scope if possible; see `Confinement`.

        A kernel starts without a scope if there can be none. The user is told that its limits are
        not enforced.
        """
        manager = find_user_manager(self._user)
        reasons = foresee(plan.limits, manager)
        if manager.obstacle:
            return Confinement(plan.limits, is_confined=False, reasons=reasons)
        uid = self._user.uid
        try:
            properties: dict[str, tuple[str, int | str]] = {
                "Description": ("s", f"Jupyter kernel {plan.name}"),
                "CollectMode": ("s", "inactive-or-failed"),
                **cgroup_properties(plan.limits),
            }
            if read_manager_version(uid) >= SCOPE_OOM_VERSION:
                # If the OOM killer kills the kernel, the shim must survive to record this.
                properties["OOMPolicy"] = ("s", "continue")
            unit = unit_name(uid, plan.name, plan.generation, "scope")
            start_scope(uid, unit, shim, properties)
        except KconndError as error:
            log.warning("%s: creating a scope for its limits: %s", plan.name, error.message)
            reasons = dict.fromkeys(CONTROLLERS, error.message)
            return Confinement(plan.limits, is_confined=False, reasons=reasons)
        return Confinement(plan.limits, reasons=reasons)


def with_limits(handle: Handle, plan: LaunchPlan, reasons: Mapping[str, str]) -> Handle:
    """Return a handle with the limits that are in force, read from the operating system.

    Parameters
    ----------
    reasons : mapping
        The known reasons why limits are not enforced; see `Confinement`.
    """
    if not plan.limits:
        return handle
    in_force = read_limits(handle.shim.pid, handle.kernel.pid)
    enforced, unenforced = compare(plan.limits, in_force, reasons)
    return replace(handle, limits=enforced, unenforced=unenforced)
