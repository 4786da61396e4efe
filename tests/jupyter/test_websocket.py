"""`KconndWebsocketConnection` with a fake websocket: replies to cells that a restart cut off."""

import json
from dataclasses import replace
from typing import Any

import pytest
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection import base
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

from kconnd.jupyter import websocket
from kconnd.jupyter.restarter import Fate, KconndRestarter, ProcessStatus
from kconnd.jupyter.server import KconndMappingKernelManager
from kconnd.jupyter.websocket import PROTOCOL_V1, KconndWebsocketConnection

LATER = 1e12  # after each request of these tests
REPLACED = ProcessStatus(Fate.REPLACED, 2, requested=True, text="lab was restarted", ended_at=LATER)
PACK: Any = base.serialize_msg_to_ws_v1
UNPACK: Any = base.deserialize_msg_from_ws_v1


class Handler(KernelWebsocketHandler):
    """Keeps the messages that a front end would receive, as (channel, type, content, parent)."""

    def __init__(self, subprotocol: str | None) -> None:
        self.subprotocol = subprotocol
        self.received: list[tuple[str, str, Any, str]] = []

    @property
    def selected_subprotocol(self) -> str | None:
        return self.subprotocol

    def write_message(self, message: Any, binary: bool = False) -> Any:  # noqa: FBT001, FBT002  # the interface
        assert binary is (self.subprotocol is not None)
        if binary:
            channel, parts = UNPACK(message)
            header, parent, _, content = map(json.loads, parts[:4])
        else:
            fields = json.loads(message)
            channel, header, parent = fields["channel"], fields["header"], fields["parent_header"]
            content = fields["content"]
        self.received.append((channel, header["msg_type"], content, parent.get("msg_id", "")))


class Stream:
    """A socket to a kernel that keeps what is sent to it."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.sent: list[list[Any]] = []

    def closed(self) -> bool:
        return False

    def flush(self) -> None:
        pass

    def send_multipart(self, parts: list[Any], *_: Any, **__: Any) -> None:
        self.sent.append([bytes(part) for part in parts])


class Notebook:
    """A connection between a fake websocket and fake sockets."""

    def __init__(self, subprotocol: str | None = PROTOCOL_V1) -> None:
        self.handler = Handler(subprotocol)
        self.session = Session()
        manager: Any = AsyncIOLoopKernelManager(parent=KconndMappingKernelManager())
        connection: Any = KconndWebsocketConnection(parent=manager, websocket_handler=self.handler)
        connection.channels = {name: Stream(name) for name in ("shell", "iopub")}
        connection._watched = KconndRestarter(kernel_manager=manager)
        self.connection = connection

    def send(self, kind: str) -> str:
        """Send a message to the kernel; return its id."""
        message: Any = self.session.msg(kind, {"code": "execute_request"})
        if self.handler.subprotocol:
            text = PACK(message, "shell", self.session.pack)
        else:
            text = json.dumps({**message, "channel": "shell"}, default=str)
        self.connection.handle_incoming_message(text)
        return str(message["msg_id"])

    def states(self) -> list[str]:
        """Return the states that the front end has received."""
        contents = [content for _, _, content, _ in self.handler.received]
        return [content["execution_state"] for content in contents if "execution_state" in content]

    def answer(self, message_id: str) -> None:
        """Let the kernel reply to a message."""
        message: Any = self.session.msg("execute_reply", {"status": "ok"})
        message["parent_header"] = {"msg_id": message_id}
        parts = self.connection.session.serialize(message, ident=b"client")
        self.connection.handle_outgoing_message(self.connection.channels["shell"], parts)
        self.handler.received.clear()


IDLE = ["idle"]


def test_requests_to_a_kernel_that_never_replies_are_remembered_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "MAX_UNANSWERED", 3)
    notebook = Notebook()
    sent = [notebook.send("execute_request") for _ in range(5)]
    assert len(notebook.connection.channels["shell"].sent) == 5
    notebook.connection.on_process_change(REPLACED, is_new=True)
    replies = [message for message in notebook.handler.received if message[1] == "execute_reply"]
    assert [parent for *_, parent in replies] == sent[2:]


@pytest.mark.parametrize("subprotocol", [PROTOCOL_V1, None])
def test_unanswered_cells_are_aborted_once(subprotocol: str | None) -> None:
    notebook = Notebook(subprotocol)
    answered, *cut_off = [notebook.send("execute_request") for _ in range(3)]
    notebook.send("inspect_request")
    notebook.answer(answered)
    notebook.connection.on_process_change(REPLACED, is_new=True)
    aborted, idle = {"status": "aborted"}, {"execution_state": "idle"}
    text = {"name": "stderr", "text": "lab was restarted\n"}
    assert notebook.handler.received == [
        ("iopub", "stream", text, cut_off[0]),
        ("shell", "execute_reply", aborted, cut_off[0]),
        ("iopub", "status", idle, cut_off[0]),
        ("shell", "execute_reply", aborted, cut_off[1]),
        ("iopub", "status", idle, cut_off[1]),
        ("iopub", "status", {"execution_state": "starting"}, ""),
    ]
    notebook.handler.received.clear()
    notebook.connection.on_process_change(REPLACED, is_new=True)
    assert notebook.states() == ["starting"]


def test_a_front_end_is_sent_the_status_of_the_new_process() -> None:
    notebook = Notebook()
    manager = notebook.connection.kernel_manager
    manager.execution_state = "starting"  # which the restarter sets
    notebook.connection.on_process_change(REPLACED, is_new=True)
    ready = ProcessStatus(Fate.REPLACED, 2, is_ready=True)
    notebook.connection.on_process_change(ready, is_new=False)
    assert notebook.states() == ["starting"]
    for state, is_asked, shown in (("busy", False, []), ("idle", True, []), ("idle", False, IDLE)):
        manager.execution_state = state
        notebook.connection._unanswered = {"id": (0.0, {})} if is_asked else {}
        notebook.connection.on_process_change(ready, is_new=False)
        assert notebook.states()[1:] == shown


def test_a_cell_of_the_new_process_is_not_aborted() -> None:
    notebook = Notebook()
    notebook.send("execute_request")
    restarted_before = replace(REPLACED, ended_at=1.0)
    notebook.connection.on_process_change(restarted_before, is_new=True)
    assert notebook.states() == ["starting"]
    notebook.connection.on_process_change(ProcessStatus(Fate.ENDED, 2), is_new=True)
    assert notebook.states() == ["starting", "idle"], "no process can answer it any more"


def test_a_crash_and_an_end_are_left_to_the_server() -> None:
    notebook = Notebook()
    notebook.send("execute_request")
    crash = ProcessStatus(Fate.REPLACED, 2, ended_at=LATER)
    notebook.connection.on_process_change(crash, is_new=True)
    assert notebook.handler.received == []
    notebook.connection.on_process_change(ProcessStatus(Fate.ENDED, 2), is_new=True)
    assert notebook.handler.received == []


def test_a_kernel_of_jupyter_is_left_to_jupyter() -> None:
    notebook = Notebook()
    notebook.connection._watched = None
    notebook.send("execute_request")
    notebook.connection.on_process_change(REPLACED, is_new=True)
    assert notebook.states() == ["starting"], "the cell is not aborted"
