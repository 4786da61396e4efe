"""Sends requests from Jupyter's event loop to the daemon."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from kconnd.attach import validated_connection
from kconnd.client import Client, find_socket, kernel_path
from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook
from kconnd.core.names import kernel_name
from kconnd.errors import KconndError, UsageError
from kconnd.jupyter.kernel_follower import reason_of_end
from kconnd.spawn import client_or_start

TIMEOUTS_S = {"interrupt": 60.0, "signal": 60.0}  # other verbs have no timeout


def split_owner(profile: str) -> tuple[str, str]:
    """Split ``OWNER/NAME`` into owner and kernel name; for ``NAME`` alone, the owner is ``""``.

    NAME can also be Jupyter's name of a kernel spec; the result then has the derived name.

    Raises
    ------
    UsageError
        If the owner is empty or the name is invalid.
    """
    owner, slash, name = profile.rpartition("/")
    if slash and not owner:
        raise UsageError(f"{profile!r}: the owner is missing")
    return owner, kernel_name(name)


class AsyncClient:
    """Sends requests to the daemon, each in a thread, so that the event loop is not blocked.

    If no daemon is running, the methods `settings` and `start` spawn a daemon. The other methods
    raise an error.
    """

    async def settings(self, profile: str) -> dict[str, Any]:
        """Return a profile's settings for front ends; ``{}`` if the profile does not exist."""
        reply = await asyncio.to_thread(lambda: client_or_start("").get("/v1/profiles"))
        rows: list[dict[str, Any]] = reply["profiles"]
        return next((row for row in rows if row["name"] == profile), {})

    async def get(self, kernel: str, resource: str = "") -> dict[str, Any]:
        """Send a GET request for a kernel or for a resource of the kernel."""
        return await asyncio.to_thread(lambda: _client().get(kernel_path(kernel, resource)))

    async def connection(self, kernel: str, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a kernel's connection file, after a check of the sockets.

        The sockets must belong to the kernel's owner.

        Parameters
        ----------
        kernel : str
            The kernel's name.
        state : mapping
            The daemon's description of the kernel.

        Raises
        ------
        KconndError
            See `kconnd.attach.validated_connection`.
        """
        content = await self.get(kernel, "connection")
        uid, owner = state.get("uid", os.geteuid()), state["owner"]
        connection = await asyncio.to_thread(validated_connection, content, kernel, uid, owner)
        return connection.to_file()

    async def reason_of_end(self, kernel: str) -> str:
        """Return why a kernel's last process ended; ``""`` if this is unknown."""
        try:
            reply = await self.get(kernel, "why")
        except KconndError:
            return ""
        return reason_of_end(reply["decisions"])

    async def start(
        self, kernel: str, notebook: Notebook = NO_NOTEBOOK, *, is_run: bool = False
    ) -> dict[str, Any]:
        """Start a kernel for a notebook or run, unless it is up; return the kernel's state.

        If the kernel is not up and its profile says ``start: manual``, the daemon refuses the
        start, and this method raises the daemon's error.
        """
        body = {"on_demand": True, "notebook": notebook.to_json(), "is_run": is_run}
        state: dict[str, Any] = await asyncio.to_thread(
            lambda: client_or_start("").launch(kernel, body=body)
        )
        return state

    async def post(
        self, kernel: str, verb: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Send a command to a kernel; return the kernel's state."""
        if verb == "restart":
            restarted: dict[str, Any] = await asyncio.to_thread(
                lambda: _client().launch(kernel, verb, body)
            )
            return restarted
        state: dict[str, Any] = await asyncio.to_thread(
            lambda: _client().request(
                "POST", kernel_path(kernel, verb), dict(body or {}), limit=TIMEOUTS_S.get(verb)
            )
        )
        return state

    async def list(self, *, quick: bool = False) -> list[dict[str, Any]]:
        """List all kernels; ``quick`` omits memory and clients."""
        path = "/v1/kernels?quick=1" if quick else "/v1/kernels"
        reply = await asyncio.to_thread(lambda: _client().get(path))
        kernels: list[dict[str, Any]] = reply["kernels"]
        return kernels


def _client() -> Client:
    return Client(find_socket(os.environ))
