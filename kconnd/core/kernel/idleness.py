"""Whether a kernel that says nothing is really idle: by the processor time of its processes.

A thread that computes, or a child process, says nothing on iopub. So a kernel is stopped as idle
only if its whole process tree used less than `MAX_IDLE_CORE_SHARE` of a core over the last
`SPAN_S`, our own heartbeats and questions included. An idle ipykernel uses about 2 ms a minute.

Rule: doubt keeps a kernel alive. A process that came or went in that time may have worked, since
what one used that has gone is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SPAN_S = 60.0
MAX_IDLE_CORE_SHARE = 0.01  # of a core
ALLOWED_USE_S = 0.02  # that is allowed in a short span, since Linux counts in steps of 10 ms


@dataclass(frozen=True)
class Sample:
    """What the processes of a kernel had used at one time.

    Parameters
    ----------
    at : float
        Monotonic seconds.
    used : mapping
        Seconds of processor time of each process, by what names it for good.
    """

    at: float
    used: Mapping[tuple[int, int], float]


def measured_span_s(stop_after: float) -> float:
    """Give the seconds over which use is measured, where an idle kernel is stopped after some."""
    return min(SPAN_S, stop_after)


def trim_samples(samples: Sequence[Sample], span: float) -> Sequence[Sample]:
    """Drop the samples, oldest first, that are not needed to measure over a span."""
    newest = samples[-1].at if samples else 0.0
    enough = [number for number, one in enumerate(samples) if newest - one.at >= span]
    return samples[enough[-1] if enough else 0 :]


def describe_use(samples: Sequence[Sample], span: float) -> str | None:
    """Say what shows that a kernel works; ``""`` where nothing does.

    Parameters
    ----------
    samples : sequence of Sample
        In the order of their times.
    span : float
        Seconds over which use is measured.

    Returns
    -------
    str or None
        None where the samples do not cover the span yet.
    """
    if not samples or samples[-1].at - samples[0].at < span:
        return None
    first, last = trim_samples(samples, span)[0], samples[-1]
    if not last.used:
        return "its processes cannot be read"
    if any(one.used.keys() != last.used.keys() for one in samples if one.at >= first.at):
        return f"processes of it began or ended in the last {last.at - first.at:.0f} s"
    used, passed = sum(last.used.values()) - sum(first.used.values()), last.at - first.at
    if used < max(passed * MAX_IDLE_CORE_SHARE, ALLOWED_USE_S):
        return ""
    return f"its processes used {used / passed:.1%} of a core over the last {passed:.0f} s"
