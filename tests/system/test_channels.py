"""What the daemon takes of what a kernel says, on real sockets."""

import asyncio
import json
from pathlib import Path

import zmq
import zmq.asyncio

from kconnd.core.connection import ConnectionInfo
from kconnd.core.wire import DELIMITER, Signer
from kconnd.system.channels import KernelChannels
from tests.conftest import wait_until


async def test_a_kernel_is_believed_busy_idle_or_starting_and_nothing_else(tmp_path: Path) -> None:
    """What it says goes into replies and decisions, and is the user's code's to choose."""
    connection = ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "secret")
    context, seen = zmq.asyncio.Context(), list[str]()
    iopub = context.socket(zmq.PUB)
    iopub.bind(connection.url("iopub"))
    channels = KernelChannels(context, connection)
    watching = asyncio.ensure_future(channels.watch_status(seen.append))

    def say(state: object) -> None:
        header, parent = {"msg_type": "status"}, {"msg_type": "execute_request"}
        parts = [json.dumps(one).encode() for one in (header, parent, {}, state)]
        iopub.send_multipart([DELIMITER, Signer("secret").sign(parts), *parts])

    def connected() -> bool:
        say({"execution_state": "starting"})
        return bool(seen)

    await wait_until(connected, "it to listen")
    for state in ("x" * 100_000, "\x1b[2J", "dead", "", None, 7, ["idle"], {"idle": 1}):
        say({"execution_state": state})
    say({})
    say({"execution_state": "busy"})
    say({"execution_state": "idle"})
    await wait_until(lambda: "idle" in seen, "all to be heard")
    assert set(seen) == {"starting", "busy", "idle"}
    watching.cancel()
    channels.close()
    iopub.close(linger=0)
    context.term()
