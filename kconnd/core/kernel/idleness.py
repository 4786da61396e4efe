"""Decides by processor time whether a silent kernel is really idle.

A computing thread or child process publishes nothing on iopub. So a kernel is stopped as idle
only if its whole process tree used less than `MAX_IDLE_CORE_SHARE` of a core over the last
`SPAN_S`, our own heartbeats and questions included. An idle ipykernel uses about 2 ms a minute.

Rule: doubt keeps a kernel alive. If a process started or exited during `SPAN_S`, the kernel may
have worked, since the processor time of an exited process is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SPAN_S = 60.0
MAX_IDLE_CORE_SHARE = 0.01  # of a core
ALLOWED_USE_S = 0.02  # for a short span, since Linux counts in steps of 10 ms


@dataclass(frozen=True)
class Sample:
    """The processor time that a kernel's processes had used at one moment.

    Parameters
    ----------
    at : float
        Monotonic seconds.
    used : mapping
        Seconds of processor time of each process, by pid and start time.
    """

    at: float
    used: Mapping[tuple[int, int], float]


def measured_span_s(stop_after: float) -> float:
    """Return the seconds to measure over, for a kernel that is stopped after ``stop_after``."""
    return min(SPAN_S, stop_after)


def trim_samples(samples: Sequence[Sample], span: float) -> Sequence[Sample]:
    """Drop the oldest samples that a measurement over a span does not need."""
    newest = samples[-1].at if samples else 0.0
    enough = [index for index, sample in enumerate(samples) if newest - sample.at >= span]
    return samples[enough[-1] if enough else 0 :]


def describe_use(samples: Sequence[Sample], span: float) -> str | None:
    """Describe the signs that a kernel works; ``""`` if there are none.

    Parameters
    ----------
    samples : sequence of Sample
        In the order of their times.
    span : float
        Seconds to measure over.

    Returns
    -------
    str or None
        None if the samples do not cover the span yet.
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
