"""Checks whether a kernel that reports idle still answers requests on its shells.

The status of a kernel that hangs stays ``idle``, and other threads of the kernel still answer
heartbeats and control requests. ipykernel does so if a callback of its event loop never returns, or
if a cell holds the GIL from its first instant. Only a request on the shell channel shows that no
cell runs any more. A check therefore sends a ``kernel_info_request`` to each shell. It is sent
rarely, because each request makes the kernel publish two status messages: after a client's requests
have ended, and when a user looks at the kernel. At most one check is pending, and it is repeated
ever more rarely, because requests accumulate in a kernel that hangs.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from kconnd.daemon.context import Channels
from kconnd.daemon.kernel.questions import ask_each_shell

CONTROL_AFTER_S = 1.0  # after this silence of a shell, the control channel is asked
RETRY_AFTER_S, MAX_RETRY_S = 60.0, 3600.0


class ShellCheck:
    """The checks of one process; one at a time.

    Parameters
    ----------
    channels : Channels
        The connection to the kernel.
    clock : callable
        A function that returns monotonic seconds.
    """

    def __init__(self, channels: Channels, clock: Callable[[], float]) -> None:
        self.sent_at: float | None = None  # of the pending check, in monotonic seconds
        self.control_answers = False  # whether the control channel has answered meanwhile
        self._channels, self._clock = channels, clock

    def begin(self) -> None:
        """Mark the check as pending; `run` follows."""
        self.sent_at, self.control_answers = self._clock(), False

    async def run(self) -> bool:
        """Send the request, and return whether all shells have answered; there is no time limit.

        The result is False if the kernel's list of subshells is invalid. A kernel may lose a
        request, so the request is repeated after pauses that double each time.
        """
        pause_s = RETRY_AFTER_S
        try:
            while True:
                asking = asyncio.ensure_future(ask_each_shell(self._channels))
                try:
                    await self._wait(asking, pause_s)
                    if asking.done():
                        return not isinstance(asking.exception(), ValueError)
                finally:
                    asking.cancel()
                pause_s = min(2 * pause_s, MAX_RETRY_S)
        finally:
            self.sent_at = None

    async def _wait(self, asking: asyncio.Future[Mapping[str, Any]], limit_s: float) -> None:
        """Wait for the answer of all shells; after some time, ask the control channel as well."""
        await asyncio.wait({asking}, timeout=CONTROL_AFTER_S)
        if asking.done():
            return
        control = asyncio.ensure_future(self._channels.kernel_info("control"))
        control.add_done_callback(self._note_control)
        try:
            await asyncio.wait({asking}, timeout=limit_s - CONTROL_AFTER_S)
        finally:
            control.cancel()

    def _note_control(self, control: asyncio.Future[Mapping[str, Any]]) -> None:
        self.control_answers = not control.cancelled() and control.exception() is None
