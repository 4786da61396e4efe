"""A client of the daemon that answers from a dict and records every command."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook, Run
from kconnd.errors import KconndError, NoSuchKernelError
from kconnd.jupyter.async_client import AsyncClient

CONNECTION: dict[str, Any] = {
    "transport": "ipc",
    "ip": "/run/x/k",
    **{f"{socket}_port": 1 for socket in ("shell", "iopub", "stdin", "control", "hb")},
    "key": "a-key",
    "signature_scheme": "hmac-sha256",
    "kernel_name": "python3",
}


class FakeClient(AsyncClient):
    """Keeps kernels and profiles in dicts.

    ``error`` is raised by every request, as if no daemon answered.
    """

    def __init__(self) -> None:
        self.kernels: dict[str, dict[str, Any]] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.connections: dict[str, dict[str, Any]] = {}
        self.decisions: list[dict[str, Any]] = []
        self.commands: list[tuple[str, str]] = []
        self.notebooks: list[Notebook] = []  # of the starts
        self.error: KconndError | None = None

    def add(self, name: str, **fields: Any) -> dict[str, Any]:
        """Add a running kernel; fields replace those of a usual one."""
        usual = {"name": name, "state": "running", "generation": 1, "last_exit": None}
        usual["reason"] = "it answered"
        activity = {"execution_state": "idle", "clients": 2, "last_activity": None}
        self.kernels[name] = {**usual, **activity, **fields}
        self.connections.setdefault(name, dict(CONNECTION))
        return self.kernels[name]

    async def settings(self, profile: str) -> dict[str, Any]:
        self._fail()
        return self.profiles.get(profile, {})

    async def get(self, kernel: str, resource: str = "") -> dict[str, Any]:
        self._fail()
        if resource == "why":
            return {"decisions": self.decisions}
        if kernel not in self.kernels:
            raise NoSuchKernelError(f"there is no kernel {kernel}")
        return self.kernels[kernel]

    async def connection(self, kernel: str, state: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002  # the interface
        self._fail()
        return dict(self.connections[kernel])

    async def start(
        self, kernel: str, notebook: Notebook = NO_NOTEBOOK, *, is_run: bool = False
    ) -> dict[str, Any]:
        self.commands.append((kernel, "start"))
        self.notebooks.append(replace(notebook, run=Run() if is_run else None))
        return self.kernels.get(kernel) or self.add(kernel)

    async def post(
        self,
        kernel: str,
        verb: str,
        body: Mapping[str, object] | None = None,  # noqa: ARG002  # the interface
    ) -> dict[str, Any]:
        self._fail()
        self.commands.append((kernel, verb))
        if verb == "restart":
            self.kernels[kernel]["generation"] += 1
        return self.kernels[kernel]

    async def list(self, *, quick: bool = False) -> list[dict[str, Any]]:  # noqa: ARG002  # the interface
        self._fail()
        return [*self.kernels.values()]

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
