"""A kernel that starts in a blink: the protocol on real sockets, and next to nothing behind it.

``small_kernel.py CONNECTION_FILE``. It answers ``kernel_info_request`` and ends on
``shutdown_request``. An ``execute_request`` may say ``exit N``, ``abort`` or ``spawn`` (a
process in a session of its own, which outlives it unless somebody looks after that); it is
answered once it is carried out. ``queue`` is what a kernel does with a request that comes during
a cell: nothing is said about it, but in the log. ``skip`` is answered as ipykernel answers what
comes after a cell that failed. The file that ``SMALL_KERNEL_BANNER`` names holds how many bytes
each reply has besides; one that begins with ``-`` says how many frames of nothing.
"""

import hashlib
import hmac
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import zmq

KINDS = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.PUB}
INFO = {"status": "ok", "protocol_version": "5.3", "language_info": {"name": "small"}}
BANNER = os.environ.get("SMALL_KERNEL_BANNER", "")  # a file that says how many bytes it has


def main() -> None:
    """Serve until told to end."""
    wire = json.loads(Path(sys.argv[1]).read_bytes())
    context = zmq.Context()
    sockets = {name: context.socket(kind) for name, kind in {**KINDS, "hb": zmq.ROUTER}.items()}
    for name, socket in sockets.items():
        separator = "-" if wire["transport"] == "ipc" else ":"
        socket.bind(f"{wire['transport']}://{wire['ip']}{separator}{wire[f'{name}_port']}")
    poller = zmq.Poller()
    for name in ("shell", "control", "hb"):
        poller.register(sockets[name], zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            frames = socket.recv_multipart()
            if socket is sockets["hb"]:
                socket.send_multipart(frames)
            else:
                answer(socket, sockets["iopub"], frames, wire["key"].encode())


def signed(key: bytes, *contents: Any) -> list[bytes]:
    """Give the signature and the parts of a message."""
    parts = [json.dumps(part).encode() for part in contents]
    return [hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest().encode(), *parts]


def publish(iopub: Any, state: str, request: dict[str, Any], key: bytes) -> None:
    """Say busy or idle about a request."""
    header = {**request, "msg_id": f"{request['msg_id']}{state}", "msg_type": "status"}
    message = signed(key, header, request, {}, {"execution_state": state})
    iopub.send_multipart([b"status", b"<IDS|MSG>", *message])


def answer(socket: Any, iopub: Any, frames: list[bytes], key: bytes) -> None:
    """Answer one request, or do what it says."""
    cut = frames.index(b"<IDS|MSG>")
    header, content = json.loads(frames[cut + 2]), json.loads(frames[cut + 5])
    kind = header["msg_type"]
    word, _, number = str(content.get("code", "")).partition(" ")
    if word == "queue":
        sys.stdout.write("queued\n")
        sys.stdout.flush()
        return
    publish(iopub, "busy", header, key)
    if word == "spawn":
        subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    if word == "abort":
        os.abort()
    back = {**header, "msg_id": header["msg_id"] + "r"}
    back["msg_type"] = kind.replace("request", "reply")
    status = {"status": "aborted" if word == "skip" else "ok"}
    reply = INFO if kind == "kernel_info_request" else status
    size = int(Path(BANNER).read_text()) if BANNER else 0
    more, reply = [b""] * -size, {**reply, **({"banner": "x" * size} if size > 0 else {})}
    socket.send_multipart([*frames[: cut + 1], *signed(key, back, header, {}, reply), *more])
    publish(iopub, "idle", header, key)
    if kind == "shutdown_request":
        raise SystemExit(0)
    if word == "exit":
        raise SystemExit(int(number))


if __name__ == "__main__":
    main()
