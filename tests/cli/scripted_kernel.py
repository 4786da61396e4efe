"""A kernel that follows a script: real sockets and signed messages, and no interpreter.

The script is a function that is called for each ``execute_request``. It publishes messages, replies
or not, in any order, as kernels do that do not follow the protocol's usual order. Requests for
``kernel_info`` are answered as every kernel answers them.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import zmq
from jupyter_client.session import Session

KINDS = {"shell": zmq.ROUTER, "iopub": zmq.PUB, "stdin": zmq.ROUTER}
POLL_MS = 20  # between two looks whether the test is over
LIMIT_MS = 20_000


class ScriptedKernel:
    """Serves in a thread until it is left."""

    def __init__(self, folder: Path, script: Callable[["ScriptedKernel"], None]) -> None:
        self.file = folder / "kernel-a.json"
        self._script = script
        self._session = Session(key=b"k")
        self._over = threading.Event()
        self.interrupted = threading.Event()  # the fake daemon sets it
        self.codes: list[str] = []

    def __enter__(self) -> Self:
        self._context = zmq.Context()
        self._sockets = {name: self._context.socket(kind) for name, kind in KINDS.items()}
        ports = dict.fromkeys(("control_port", "hb_port"), 1)  # nobody connects
        for name, socket in self._sockets.items():
            ports[f"{name}_port"] = socket.bind_to_random_port("tcp://127.0.0.1")
        wire = {"transport": "tcp", "ip": "127.0.0.1", "key": "k", **ports}
        wire["signature_scheme"] = "hmac-sha256"
        self.file.write_text(json.dumps(wire), encoding="utf-8")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def publish(self, kind: str, *, parent: Any = "request", **content: Any) -> None:
        """Publish a message on iopub, as an answer to the request unless told otherwise."""
        header = self._request if parent == "request" else {}
        message = self._session.msg(kind, content, parent=header)
        if parent is None:
            message["parent_header"] = None
        self._send("iopub", message, [kind.encode()])

    def status(self, state: str) -> None:
        self.publish("status", execution_state=state)

    def reply(self, **content: Any) -> None:
        """Send the reply to the request."""
        kind = self._request["msg_type"].replace("request", "reply")
        message = self._session.msg(kind, content, parent=self._request)
        self._send("shell", message, self._identities)

    def ask(self, prompt: str) -> dict[str, Any]:
        """Send an ``input_request``, and return the whole answer."""
        request = self._session.msg("input_request", {"prompt": prompt}, parent=self._request)
        self._send("stdin", request, self._identities)
        assert self._sockets["stdin"].poll(LIMIT_MS), "no answer to input()"
        answer = self._receive("stdin")
        return {**answer, "asked": request["header"]["msg_id"]}

    def _serve(self) -> None:
        shell = self._sockets["shell"]
        while not self._over.is_set():
            if shell.poll(POLL_MS):
                self._request = self._receive("shell")
                self.status("busy")
                if self._request["msg_type"] == "execute_request":
                    self.codes.append(self._request["content"]["code"])
                    self._script(self)
                else:
                    self.reply(status="ok")
                    self.status("idle")

    def _receive(self, name: str) -> dict[str, Any]:
        frames = self._sockets[name].recv_multipart()
        self._identities, rest = self._session.feed_identities(frames)
        return self._session.deserialize(rest)

    def _send(self, name: str, message: Any, identities: Any) -> None:
        frames = self._session.serialize(message, ident=identities)
        self._sockets[name].send_multipart(frames)


def finish(kernel: ScriptedKernel, status: str = "ok", **content: Any) -> None:
    """Reply and report the end, in the usual order."""
    kernel.reply(status=status, **content)
    kernel.status("idle")
