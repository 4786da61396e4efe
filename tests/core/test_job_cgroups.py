"""With which job, service or container a process ends, by its control group."""

import pytest

from kconnd.core.job_cgroups import (
    Enclosure,
    Kind,
    cure_for_enclosure,
    find_enclosure,
    find_job_variable,
)

APP = "/user.slice/user-1000.slice/user@1000.service/app.slice"
ID = "4f" * 32


@pytest.mark.parametrize(
    ("cgroup", "kind", "name"),
    [
        ("5:memory:/slurm/uid_1000/job_77/step_0/task_0", Kind.JOB, "the Slurm job 77"),
        ("0::/system.slice/slurmstepd.scope/job_8/step_batch/user", Kind.JOB, "the Slurm job 8"),
        ("0::/pbs_jobs.service/jobid/12.head", Kind.JOB, "the PBS job 12.head"),
        ("4:cpuset:/pbspro/12.head", Kind.JOB, "the PBS job 12.head"),
        ("0::/lsf/cluster1/job.9.123.456", Kind.JOB, "the LSF job 9.123.456"),
        ("3:freezer:/UGE/3001.1", Kind.JOB, "the Grid Engine job 3001.1"),
        (
            "0::/system.slice/htcondor/condor_var_slot1_1@node",
            Kind.JOB,
            "the HTCondor job condor_var_slot1_1@node",
        ),
        (f"0::/system.slice/docker-{ID}.scope", Kind.CONTAINER, f"the container {ID[:40]}"),
        (f"2:cpu:/docker/{ID}", Kind.CONTAINER, f"the container {ID[:40]}"),
        ("0::/kubepods.slice/kubepods-pod1.slice/x", Kind.CONTAINER, "its Kubernetes pod"),
        ("0::/system.slice/jupyterhub.service", Kind.UNIT, "the service jupyterhub.service"),
        ("0::/system.slice/system-lab.slice/lab@1.service", Kind.UNIT, "the service lab@1.service"),
        ("1:name=systemd:/system.slice/x.service/y\n0::/", Kind.UNIT, "the service x.service"),
        (f"0::{APP}/jupyter.service", Kind.USER_UNIT, "your service jupyter.service"),
        (f"0::{APP}/jupyter.service/sub", Kind.USER_UNIT, "your service jupyter.service"),
    ],
)
def test_what_ends_a_process_is_named(cgroup: str, kind: Kind, name: str) -> None:
    enclosure = find_enclosure(f"{cgroup}\n")
    assert enclosure is not None
    assert (enclosure.kind, enclosure.name) == (kind, name)
    assert bool(enclosure.unit) == (kind in {Kind.UNIT, Kind.USER_UNIT})
    assert cure_for_enclosure(enclosure)


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/",
        "",
        "0::/user.slice/user-1000.slice/session-3.scope",
        f"0::{APP}/vte-spawn-1.scope",
        f"0::{APP}/run-u12.scope",
        "0::/user.slice/user-1000.slice/user@1000.service/init.scope",
        "0::/kconnd.slice/kconnd-1000.slice/kconnd@1000.service",
        "0::/system.slice/docker.service.d",
    ],
)
def test_a_login_and_the_systems_own_daemon_end_with_nothing(cgroup: str) -> None:
    assert find_enclosure(cgroup) is None


def test_a_cure_edits_the_unit_in_the_right_manager() -> None:
    own = cure_for_enclosure(Enclosure(Kind.USER_UNIT, "your service x.service", "x.service"))
    assert "systemctl --user edit x.service" in own
    assert "systemctl edit x.service" in cure_for_enclosure(Enclosure(Kind.UNIT, "x", "x.service"))


def test_variables_name_a_job() -> None:
    assert find_job_variable({"SLURM_JOB_ID": "7", "HOME": "/"}) == "the Slurm job 7"
    assert find_job_variable({"PBS_JOBID": "7.head"}) == "the PBS job 7.head"
    assert find_job_variable({"SLURM_JOB_ID": ""}) == ""
