"""Decides from processor time whether a kernel without open requests is idle.

A background thread or a child process can compute without publishing anything on iopub. A kernel is
therefore stopped as idle only if its process tree used less than `MAX_IDLE_CORE_SHARE` of a core
over the last `SPAN_S` seconds. The processor time includes the answers to the daemon's heartbeats
and probes, for which an idle ipykernel uses about 2 ms a minute.

Rule: in doubt, the kernel counts as working. A kernel also counts as working if one of its
processes started or exited in the last `SPAN_S` seconds: a started process is a sign of work, and
the processor time of an exited process is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SPAN_S = 60.0
MAX_IDLE_CORE_SHARE = 0.01  # of a core
ALLOWED_USE_S = 0.02  # always allowed, because Linux counts processor time in steps of 10 ms


@dataclass(frozen=True)
class Sample:
    """The total processor time of each process of a kernel, at one moment.

    Parameters
    ----------
    at : float
        The moment in monotonic seconds.
    used : mapping
        The processor time of each process in seconds, by pid and start time.
    """

    at: float
    used: Mapping[tuple[int, int], float]


def measured_span_s(stop_after: float) -> float:
    """Return how many seconds a measurement covers, for a value of ``idle.stop_after``."""
    return min(SPAN_S, stop_after)


def trim_samples(samples: Sequence[Sample], span: float) -> Sequence[Sample]:
    """Return the samples without the old ones that a measurement over ``span`` does not need."""
    newest = samples[-1].at if samples else 0.0
    enough = [index for index, sample in enumerate(samples) if newest - sample.at >= span]
    return samples[enough[-1] if enough else 0 :]


def describe_use(samples: Sequence[Sample], span: float) -> str | None:
    """Describe a sign that the kernel is working; ``""`` if there is no such sign.

    Parameters
    ----------
    samples : sequence of Sample
        The samples, the oldest first.
    span : float
        The length of the measurement, in seconds.

    Returns
    -------
    str or None
        The description or ``""``; None if the samples do not cover the span yet.
    """
    if not samples or samples[-1].at - samples[0].at < span:
        return None
    first, last = trim_samples(samples, span)[0], samples[-1]
    if not last.used:
        return "its processes cannot be read"
    recent = (sample for sample in samples if sample.at >= first.at)
    if any(sample.used.keys() != last.used.keys() for sample in recent):
        return f"some of its processes started or exited in the last {last.at - first.at:.0f} s"
    used, passed = sum(last.used.values()) - sum(first.used.values()), last.at - first.at
    if used < max(passed * MAX_IDLE_CORE_SHARE, ALLOWED_USE_S):
        return ""
    return f"its processes used {used / passed:.1%} of a core over the last {passed:.0f} s"
