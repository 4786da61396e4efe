"""Decides from the control group of a process with which job, unit or container the process ends.

All functions are pure. A batch system ends all processes in the control group of a job when the job
ends, and systemd ends those of a service's control group when the service stops. A daemon that is
started there ends as well, and so do its kernels. Environment variables are weaker evidence: a
terminal multiplexer outlives the job whose variables it has.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

JOB_VARIABLES = {
    "SLURM_JOB_ID": "Slurm",
    "PBS_JOBID": "PBS",
    "LSB_JOBID": "LSF",
    "CONDOR_JOB_AD": "HTCondor",
    "_CONDOR_SLOT": "HTCondor",
    "OAR_JOB_ID": "OAR",
}


class Kind(Enum):
    """What ends a process."""

    JOB = "job"
    CONTAINER = "container"
    UNIT = "unit"  # a service of the system
    USER_UNIT = "user unit"  # a service of a user's own systemd


@dataclass(frozen=True)
class Enclosure:
    """A job, container or service that a process runs in, and ends with."""

    kind: Kind
    name: str
    unit: str = ""  # the name of a service


_PATTERNS = (
    (Kind.JOB, r"slurm.*/job_(\d+)", "the Slurm job {}"),
    (Kind.JOB, r"/(?:pbs_jobs|pbspro)(?:\.service|\.slice)?/(?:jobid/)?([^/]+)", "the PBS job {}"),
    (Kind.JOB, r"/lsf/[^/]+/job\.([^/]+)", "the LSF job {}"),
    (Kind.JOB, r"/(?:UGE|SGE|AGE|OCS)/([^/]+)", "the Grid Engine job {}"),
    (Kind.JOB, r"/htcondor/([^/]+)|/condor_([^/]*slot[^/]*)", "the HTCondor job {}"),
    (Kind.JOB, r"/oar/([^/]+)", "the OAR job {}"),
    (Kind.CONTAINER, r"/kubepods(?:[./-]|$)()", "its Kubernetes pod"),
    (
        Kind.CONTAINER,
        r"/(?:docker[/-]|libpod-|crio-|cri-containerd-|lxc/|lxc\.payload\.|machine-)([^/]+)",
        "the container {}",
    ),
)
_USER_UNIT = re.compile(r"/user@\d+\.service/(?:.*/)?([^/]+\.service)(?:/|$)")
_UNIT = re.compile(
    r"/(?:system|[^/]*)\.slice/(?:[^/]+\.slice/)*([^/@]+(?:@[^/]*)?\.service)(?:/|$)"
)
MAX_NAME_CHARS = 40


def find_enclosure(cgroup: str) -> Enclosure | None:
    """Return with what a process ends; None if no job, container or service is known.

    Parameters
    ----------
    cgroup : str
        The content of the ``/proc/PID/cgroup`` of the process (cgroups(7)).
    """
    paths = [line.split(":", 2)[2] for line in cgroup.splitlines() if line.count(":") > 1]
    for kind, pattern, name in _PATTERNS:
        for path in paths:
            if match := re.search(pattern, path):
                number = next((text for text in match.groups() if text), "")[:MAX_NAME_CHARS]
                return Enclosure(kind, name.format(number))
    for path in paths:
        if match := _USER_UNIT.search(path):
            return Enclosure(Kind.USER_UNIT, f"your service {match[1]}", match[1])
        match = _UNIT.search(path)
        if match and "/user@" not in path and not match[1].startswith(("kconnd@", "user@")):
            return Enclosure(Kind.UNIT, f"the service {match[1]}", match[1])
    return None


def find_job_variable(env: Mapping[str, str]) -> str:
    """Return the batch job that environment variables name: ``the Slurm job 7``; else ``""``."""
    name = next((name for name in JOB_VARIABLES if env.get(name)), "")
    return f"the {JOB_VARIABLES[name]} job {env[name][:MAX_NAME_CHARS]}" if name else ""


def cure_for_enclosure(enclosure: Enclosure) -> str:
    """Return how a user can start a daemon that outlives a job, a container or a service."""
    if enclosure.kind is Kind.CONTAINER:
        return "to keep kernels for longer, keep the container running"
    if enclosure.kind is Kind.JOB:
        return (
            "to keep kernels for longer, ask for a longer job, or run kconnd-ctl start NAME in a "
            "login outside of jobs"
        )
    user = "--user " if enclosure.kind is Kind.USER_UNIT else ""
    return (
        f"set KillMode=process in the unit (systemctl {user}edit {enclosure.unit}), or start the "
        "daemon in a login: kconnd-ctl start NAME"
    )
