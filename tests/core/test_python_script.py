"""What prepares a script on a Python kernel, with the callbacks of IPython's shell played."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from kconnd.core.python_script import script_preparation

SESSION = "f00d"


class PlayedEvents:
    """The registry of callbacks of a shell."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callable[[Any], None]]] = {}

    def register(self, event: str, callback: Callable[[Any], None]) -> None:
        self.callbacks.setdefault(event, []).append(callback)

    def unregister(self, event: str, callback: Callable[[Any], None]) -> None:
        self.callbacks[event].remove(callback)

    def run(self, event: str) -> None:
        for callback in list(self.callbacks[event]):
            callback(None)


class PlayedShell:
    """A shell whose kernel executes a request."""

    def __init__(self) -> None:
        self.events, self.kernel = PlayedEvents(), self
        self.request: Any = None

    def get_parent(self) -> Any:
        return self.request


@pytest.mark.parametrize("path_before", [None, "/of/a/user.py"])
def test_only_the_scripts_own_cell_has_its_arguments_and_path(
    path_before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, before = PlayedShell(), ["ipykernel"]
    events = shell.events
    monkeypatch.setattr(sys, "argv", before)
    namespace: dict[str, Any] = {"get_ipython": lambda: shell}
    if path_before is not None:
        namespace["__file__"] = path_before
    argv = ["x.py", "a", "b'c"]
    exec(script_preparation(SESSION, "/x.py", argv), namespace)  # noqa: S102  # as a kernel does
    for request in (None, {}, {"header": {"session": "other"}}, {"header": {"session": SESSION}}):
        assert sys.argv is before
        shell.request = request
        events.run("pre_run_cell")
    assert sys.argv == ["x.py", "a", "b'c"]
    assert namespace["__file__"] == "/x.py"
    events.run("post_run_cell")
    assert sys.argv is before
    assert namespace.get("__file__") == path_before
    assert not any(events.callbacks.values())
