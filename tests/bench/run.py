"""Runs the parts of the bench, one after the other.

A part gives its figures one by one. One that fails takes nothing else with it: what it gave
until then stays, the parts after it are run, and which one failed is remembered with the reason.
"""

import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from tests.bench.results import Result


class Part(Protocol):
    """Measures something, in fewer rounds where it is to be quick."""

    def __call__(self, *, quick: bool) -> Iterator[Result]: ...


@dataclass(frozen=True)
class Run:
    """What came of the parts.

    Parameters
    ----------
    results : list of Result
        All figures, also those of a part that failed later.
    failed : dict of str to str
        Why a part failed, by its name.
    """

    results: list[Result] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def take(self, part: str, result: Result) -> None:
        """Add a figure; one by the name of another would hide it from who looks figures up."""
        if any(result.name == one.name for one in self.results):
            self.failed[part] = f"two figures are called {result.name!r}"
        else:
            self.results.append(result)


def run(parts: Mapping[str, Part], *, quick: bool) -> Run:
    """Run parts, whatever becomes of each."""
    found = Run()
    for name, part in parts.items():
        print(f"measuring: {name} ...", file=sys.stderr)
        try:
            for result in part(quick=quick):
                found.take(name, result)
        # whatever it is, the other figures are worth having; waiting in vain is no Exception
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001
            traceback.print_exception(error)
            found.failed[name] = f"{type(error).__name__}: {error}"
    return found
