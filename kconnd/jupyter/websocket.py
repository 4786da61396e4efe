"""The websocket between a notebook and a Jupyter server, for kernels of kconnd.

A notebook waits for a reply to each cell. When a kernel's process ends, no reply to a running or
queued cell arrives. After a crash, the server sends the status ``restarting``; front ends then give
up all cells and open a dialog. A restart or stop that somebody requested is no crash and opens no
dialog, so the cells would wait for ever. `KconndWebsocketConnection` therefore replies to these
cells itself, with the status ``aborted`` of the Jupyter protocol, and writes into the output of the
first of them what has happened to the kernel.

The status ``starting`` of a new process is often lost, because the server's sockets reconnect up to
100 ms after the process has bound its own, and no kernel publishes that it is ready. Front ends
would go on showing the status of the old process. The connection therefore sends front ends the
status of the new process, as soon as the daemon reports it.
"""

import json
import math
import time
from typing import Any

from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from kconnd.jupyter.restarter import Fate, KconndRestarter, ProcessStatus

PROTOCOL_V1 = "v1.kernel.websocket.jupyter.org"
EXECUTE_REQUEST = "execute_request"
MAX_UNANSWERED = 4096  # remembered requests of one websocket; a notebook has fewer cells
PARENT_PART = 2  # of a message without its identities: signature, header, parent header

_Stock: Any = ZMQChannelsWebsocketConnection  # its type annotations do not match its callers
_unpack: Any = deserialize_msg_from_ws_v1  # it has no type annotations
_pack: Any = serialize_msg_to_ws_v1  # it has no type annotations


class KconndWebsocketConnection(_Stock):  # type: ignore[misc]  # see above
    """The connection of one websocket to a kernel's sockets."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The headers of requests by message id, each with the time of its arrival here.
        self._unanswered: dict[str, tuple[float, dict[str, Any]]] = {}
        self._watched: KconndRestarter | None = None

    def connect(self) -> Any:
        """Connect to the kernel's sockets, and begin to watch the kernel's process."""
        connected = super().connect()
        restarter = getattr(self.kernel_manager, "_restarter", None)
        if isinstance(restarter, KconndRestarter):
            restarter.listeners.append(self.on_process_change)
            self._watched = restarter
            if connected is not None:
                connected.add_done_callback(lambda _: self._show_idle())
        return connected

    def disconnect(self) -> None:
        """Close the connection."""
        if self._watched is not None:
            self._watched.listeners.remove(self.on_process_change)
            self._watched = None
        super().disconnect()

    # --- messages

    def handle_incoming_message(self, incoming_msg: str | bytes) -> None:
        """Forward a message of the front end; remember a request to run a cell."""
        if self._watched is not None and (header := self._execute_header(incoming_msg)):
            self._remember(header)
        super().handle_incoming_message(incoming_msg)

    def _remember(self, header: dict[str, Any]) -> None:
        """Remember a request; forget the oldest one if there are too many.

        Some kernels never reply, and a kernel handles requests in order, so the oldest request is
        the one that is most likely over.
        """
        self._unanswered[header["msg_id"]] = (time.time(), header)
        if len(self._unanswered) > MAX_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Forward a message of the kernel; forget the request that it answers."""
        if self._unanswered and getattr(stream, "channel", stream) == "shell":
            _, parts = self.session.feed_identities(outgoing_msg)
            parent = self.session.unpack(parts[PARENT_PART])
            self._unanswered.pop(parent.get("msg_id", ""), None)
        super().handle_outgoing_message(stream, outgoing_msg)

    def _execute_header(self, message: str | bytes) -> dict[str, Any]:
        """Return the header of an ``execute_request``; ``{}`` for any other message."""
        # Most messages are not requests to run a cell, and are not parsed.
        if isinstance(message, str):
            is_candidate = EXECUTE_REQUEST in message
        else:
            is_candidate = EXECUTE_REQUEST.encode() in message
        if not is_candidate:
            return {}
        if self.subprotocol == PROTOCOL_V1:
            header = self.session.unpack(_unpack(message)[1][0])
        else:
            header = json.loads(message)["header"] if isinstance(message, str) else {}
        return header if header.get("msg_type") == EXECUTE_REQUEST else {}

    # --- the kernel's process

    def on_process_change(self, status: ProcessStatus, *, is_new: bool) -> None:
        """React to a change of the kernel's process.

        Parameters
        ----------
        status : ProcessStatus
            The status that the daemon reports.
        is_new : bool
            Whether the process that the front end knew has ended since the last call.
        """
        has_crashed = status.fate is Fate.REPLACED and not status.requested
        # Later requests go to the new process, of which this connection may learn later than users.
        limit = math.inf if status.fate is Fate.ENDED else status.ended_at
        if is_new and has_crashed:  # the server has sent ``restarting``
            self._forget_cells(limit)
        elif is_new:
            self._abort_cells(status.text, limit)
        if status.fate is Fate.ENDED:
            return  # the server sends ``dead``
        if status.is_ready:
            self._show_idle()
        elif not has_crashed:
            self._send("iopub", "status", {"execution_state": "starting"}, {})

    def _show_idle(self) -> None:
        """Send the front end the status ``idle``, unless the kernel runs or has to run a cell."""
        self._handle_arrived_messages()  # one may be the status ``starting``
        state = getattr(self.kernel_manager, "execution_state", None)
        if state == "idle" and self._watched is not None and not self._unanswered:
            self._send("iopub", "status", {"execution_state": "idle"}, {})

    def _forget_cells(self, limit: float) -> list[dict[str, Any]]:
        """Forget the requests that arrived before a time; return their headers."""
        cut_off = {key: item for key, item in self._unanswered.items() if item[0] < limit}
        for key in cut_off:
            del self._unanswered[key]
        return [header for _, header in cut_off.values()]

    def _abort_cells(self, text: str, limit: float) -> None:
        """Reply to the cells that no process will answer; write the text into the first one."""
        self._handle_arrived_messages()
        for number, header in enumerate(self._forget_cells(limit)):
            if number == 0:
                output = {"name": "stderr", "text": f"{text}\n"}
                self._send("iopub", "stream", output, header)
            self._send("shell", "execute_reply", {"status": "aborted"}, header)
            self._send("iopub", "status", {"execution_state": "idle"}, header)

    def _handle_arrived_messages(self) -> None:
        for stream in self.channels.values():
            if not stream.closed():
                stream.flush()

    def _send(
        self, channel: str, kind: str, content: dict[str, Any], parent: dict[str, Any]
    ) -> None:
        """Send the front end a message as if it came from the kernel."""
        message = self.session.msg(kind, content, parent=parent)
        if self.subprotocol == PROTOCOL_V1:
            packed = _pack(message, channel, self.session.pack)
            self.write_message(packed, binary=True)
        else:
            message["channel"] = channel
            self.write_message(json.dumps(message, default=str))
