"""Figures, their targets, and how they are shown: a table, JSON, a picture."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Result:
    """One figure.

    Parameters
    ----------
    name : str
        What it is of.
    value : float
        The median where it was taken several times.
    unit : str
        ``s``, ``ms``, ``MB``, ``1/s``, ``%``, or ``x`` for a ratio.
    target : str
        ``<= 2.5`` or ``>= 2``; ``""`` where there is none.
    spread : tuple of float, optional
        The least and the greatest.
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
        return self.value <= float(limit) if relation == "<=" else self.value >= float(limit)


def median(name: str, seconds: Sequence[float]) -> Result:
    """Give the median of times in milliseconds."""
    low, high = min(seconds) * 1000, max(seconds) * 1000
    return Result(name, statistics.median(seconds) * 1000, "ms", spread=(low, high))


def ratio(name: str, one: Sequence[float], other: Sequence[float], target: str) -> Result:
    """Give the ratio of the medians of two series that were taken in turns."""
    return Result(name, statistics.median(one) / statistics.median(other), "x", target)


def table(results: Sequence[Result]) -> str:
    """Lay the figures out for a terminal."""
    width = max(len(result.name) for result in results)
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


def as_json(results: Sequence[Result]) -> str:
    """Give the figures for programs."""
    rows = [{**asdict(one), "met": one.met} for one in results]
    return json.dumps({"results": rows, "machine": machine()}, indent=1)


def picture(results: Sequence[Result], path: Path) -> None:
    """Draw how long a kernel takes, by who starts it."""
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and for the picture alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # the same

    found = {one.name: one for one in results}
    rows = [found[name] for name in STARTS if name in found]
    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.45 * len(rows)))
    names = [one.name.removeprefix("start: ") for one in rows]
    ours = ["#2a6f97" if name.startswith("kconnd") else "#b8b8b8" for name in names]
    bars = axes.barh(names, [one.value for one in rows], color=ours)
    axes.bar_label(bars, [f" {one.value:.0f} ms" for one in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, max(one.value for one in rows) * 1.15)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("From the request to a kernel that answers", loc="left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


STARTS = (
    "start: kconnd, warm",
    "start: kconnd, fork",
    "start: kconnd, cold",
    "start: python -m ipykernel_launcher",
    "start: AsyncKernelManager",
    "start: Jupyter server, REST",
)
