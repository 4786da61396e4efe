"""What prepares a script on a Python kernel, with the callbacks of IPython's shell played."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kconnd.core.python_script import script_preparation

CODE = "print(__file__)"


class PlayedEvents:
    """The registry of callbacks of a shell."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callable[[Any], None]]] = {}

    def register(self, event: str, callback: Callable[[Any], None]) -> None:
        self.callbacks.setdefault(event, []).append(callback)

    def unregister(self, event: str, callback: Callable[[Any], None]) -> None:
        self.callbacks[event].remove(callback)

    def run(self, event: str, cell: str = "") -> None:
        for callback in list(self.callbacks[event]):
            callback(SimpleNamespace(raw_cell=cell))


@pytest.mark.parametrize("path_before", [None, "/of/a/user.py"])
def test_only_the_scripts_own_cell_has_its_arguments_and_path(
    path_before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, before = PlayedEvents(), ["ipykernel"]
    monkeypatch.setattr(sys, "argv", before)
    namespace: dict[str, Any] = {"get_ipython": lambda: SimpleNamespace(events=events)}
    if path_before is not None:
        namespace["__file__"] = path_before
    exec(script_preparation(CODE, "x.py", ["a", "b'c"]), namespace)  # noqa: S102  # as a kernel does
    for cell in ("another", CODE):
        assert sys.argv is before
        events.run("pre_run_cell", cell)
    assert sys.argv == ["x.py", "a", "b'c"]
    assert namespace["__file__"] == "x.py"
    events.run("post_run_cell")
    assert sys.argv is before
    assert namespace.get("__file__") == path_before
    assert not any(events.callbacks.values())
