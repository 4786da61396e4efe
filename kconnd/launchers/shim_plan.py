"""Encodes the plan in the format that a shim reads, and sets the file limits of a process."""

import contextlib
import resource
from collections.abc import Iterator

from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import StillRunningError

CGROUP_RECORD = b"cgroup=1\0"  # the record for a kernel with its own cgroup
# The soft and hard limit on open files at the start of this process. The daemon raises its own
# limit later; kernels get these initial limits.
INITIAL_FILE_LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)


def set_file_limits(pid: int, limits: tuple[int, int]) -> None:
    """Set the soft and hard limit on open files for a process and its future children."""
    # This error means that the shim has died; its answer, if any, contains the reason.
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def plan_records(plan: LaunchPlan, *more: tuple[str, str]) -> Iterator[bytes]:
    """Encode the plan in the format that `kconnd.programs.shim` documents.

    Parameters
    ----------
    plan : LaunchPlan
        The launch plan.
    *more : tuple of str
        Key and value of additional records, such as the records for the lock.
    """
    values = [("name", plan.name), *(("arg", arg) for arg in plan.argv)]
    values += [("env", f"{key}={value}") for key, value in plan.env.items()]
    values += [
        ("cwd", plan.cwd),
        ("umask", f"{plan.umask:o}"),
        ("generation", str(plan.generation)),
        ("log", plan.files.log),
        ("log_max", str(plan.log_max)),
        ("log_keep", str(plan.log_keep)),
        ("facts", plan.files.facts),
        ("exit", plan.files.exit),
        *more,
        ("end", ""),
    ]
    return (f"{key}={value}\0".encode("utf-8", "surrogateescape") for key, value in values)


def still_there(plan: LaunchPlan, reason: str) -> StillRunningError:
    """Create the error for a kernel whose earlier process still holds the lock."""
    return StillRunningError(
        f"an earlier process of {plan.name} still runs ({reason})",
        hint=f"run kconnd-ctl stop {plan.name} to end it",
    )
