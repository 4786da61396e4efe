"""Figures, their targets, and how they are shown: a table, JSON, a picture."""

import json
import operator
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

START = "start: "  # how the names of the figures begin that the picture shows

Rounds = Sequence[Mapping[str, float]]
"""Values by name, taken in turns: each round has one of each name, or none where it failed."""


@dataclass(frozen=True)
class Result:
    """One figure.

    Parameters
    ----------
    name : str
        What it is of; no other figure of a run has the same.
    value : float
        The median where it was taken several times.
    unit : str
        ``s``, ``ms``, ``MB``, ``1/s``, ``%``, or ``x`` for a ratio.
    target : str
        ``<= 2.5``, ``< 10`` or ``>= 2``; ``""`` where there is none.
    spread : tuple of float, optional
        The least and the greatest, where it was taken several times.
    """

    name: str
    value: float
    unit: str
    target: str = ""
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is what it should be; None where there is no target."""
        if not self.target:
            return None
        relation, limit = self.target.split()
        return RELATIONS[relation](self.value, float(limit))


RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">=": operator.ge,
}


def median(name: str, values: Sequence[float], unit: str, target: str = "") -> Result:
    """Give the median, and how far the values lie apart."""
    return Result(name, statistics.median(values), unit, target, spread_of(values))


def in_ms(name: str, seconds: Sequence[float], target: str = "") -> Result:
    """Give the median of times in milliseconds."""
    return median(name, [one * 1000 for one in seconds], "ms", target)


def ratio(name: str, rounds: Rounds, one: str, other: str, target: str = "") -> Result:
    """Give the ratio of two medians, and how far the ratios within the rounds lie apart."""
    value = _middle(rounds, one) / _middle(rounds, other)
    each = [taken[one] / taken[other] for taken in rounds if one in taken and other in taken]
    return Result(name, value, "x", target, spread_of(each))


def difference_in_ms(name: str, rounds: Rounds, one: str, other: str, target: str = "") -> Result:
    """Do the same for what one takes longer than the other."""
    value = _middle(rounds, one) - _middle(rounds, other)
    each = [taken[one] - taken[other] for taken in rounds if one in taken and other in taken]
    spread = spread_of([one * 1000 for one in each])
    return Result(name, value * 1000, "ms", target, spread)


def _middle(rounds: Rounds, name: str) -> float:
    if not (values := values_of(rounds, name)):
        raise LookupError(f"there is no figure of {name}")
    return statistics.median(values)


def values_of(rounds: Rounds, name: str) -> list[float]:
    """List what a name had in the rounds that have it."""
    return [taken[name] for taken in rounds if name in taken]


def spread_of(values: Sequence[float]) -> tuple[float, float] | None:
    """Give the least and the greatest; None where there are not several."""
    return (min(values), max(values)) if len(values) > 1 else None


def table(results: Sequence[Result]) -> str:
    """Lay the figures out for a terminal."""
    width = max((len(result.name) for result in results), default=0)
    lines = []
    for one in results:
        spread = f"{one.spread[0]:.4g} to {one.spread[1]:.4g}" if one.spread else ""
        verdict = {True: "met", False: "SHORT OF ITS TARGET", None: ""}[one.met]
        lines.append(
            f"{one.name:{width}}  {one.value:9.4g} {one.unit:3}  {spread:18}  "
            f"{one.target:9}  {verdict}".rstrip()
        )
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """Say what the figures were taken on."""
    packages = ("ipykernel", "jupyter_client", "jupyter_server", "pyzmq", "tornado")
    return {
        "processors": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def as_json(results: Sequence[Result], seconds: float, failed: Mapping[str, str]) -> str:
    """Give the figures for programs, with how long they took and which parts failed, why."""
    rows = [{**asdict(one), "met": one.met} for one in results]
    found = {"results": rows, "machine": machine(), "seconds": round(seconds, 1)}
    return json.dumps({**found, "failed": dict(failed)}, indent=1)


def bars(results: Sequence[Result]) -> list[tuple[str, float]]:
    """Choose what the picture shows: how long each way to start a kernel takes."""
    return [
        (one.name.removeprefix(START), one.value) for one in results if one.name.startswith(START)
    ]


def picture(results: Sequence[Result], path: Path) -> None:
    """Draw how long a kernel takes, by who starts it."""
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and for the picture alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # the same

    names, values = zip(*bars(results), strict=True)
    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.45 * len(names)))
    ours = ["#2a6f97" if name.startswith("kconnd") else "#b8b8b8" for name in names]
    drawn = axes.barh(names, values, color=ours)
    axes.bar_label(drawn, [f" {value:.0f} ms" for value in values])
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.15)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("From the request to a kernel that answers", loc="left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
