"""A minimal kernel that starts fast: the Jupyter protocol on real sockets, and no interpreter.

``small_kernel.py CONNECTION_FILE``. It answers ``kernel_info_request`` and exits on
``shutdown_request``. The code of an ``execute_request`` is one of: ``exit N`` (answer, then exit),
``abort`` (die by SIGABRT, without an answer), ``spawn`` (start a process in a session of its own,
which outlives the kernel unless it is killed), ``queue`` (log the request without an answer, like a
busy kernel), ``work`` (be busy for ever: answer nothing on the shell from then on), and ``skip``
(answer "aborted", like ipykernel after a failed cell). The environment variable
``SMALL_KERNEL_BANNER`` names a file with a number N: each reply has N more bytes, or, if N is
negative, -N more empty frames. ``SMALL_KERNEL_WIRE`` says what it does instead of binding Unix
sockets: ``exit`` (with code 1), ``ports`` (bind random ports), ``colon`` (bind other paths),
``silent`` (bind nothing) or ``deaf`` (bind them and answer nothing). If ``SMALL_KERNEL_GATE`` names
a file, it does so only once the file exists. With ``SMALL_KERNEL_STAYS`` it answers a
``shutdown_request`` and stays.
"""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import zmq

KINDS = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.PUB}
INFO = {"status": "ok", "protocol_version": "5.3", "language_info": {"name": "small"}}
STAYS = bool(os.environ.get("SMALL_KERNEL_STAYS"))
WIRE = os.environ.get("SMALL_KERNEL_WIRE", "")
GATE = os.environ.get("SMALL_KERNEL_GATE", "")
BANNER = os.environ.get("SMALL_KERNEL_BANNER", "")  # a file with its length


def main() -> None:
    """Serve until a request ends it."""
    wire = json.loads(Path(sys.argv[1]).read_bytes())
    context = zmq.Context()
    sockets = {name: context.socket(kind) for name, kind in {**KINDS, "hb": zmq.ROUTER}.items()}
    bind(sockets, wire, WIRE if wire["transport"] == "ipc" else "")
    poller = zmq.Poller()
    for name in ("shell", "control", "hb"):
        poller.register(sockets[name], zmq.POLLIN)
    works = False
    while True:
        for socket, _ in poller.poll():
            frames = socket.recv_multipart()
            if socket is sockets["hb"]:
                socket.send_multipart(frames)
                continue
            word = code_of(frames).partition(" ")[0]
            works = works or word == "work"
            if socket is sockets["control"] or not works or word == "work":
                answer(socket, sockets["iopub"], frames, wire["key"].encode())


def bind(sockets: dict[str, Any], wire: dict[str, Any], way: str) -> None:
    """Bind the sockets, or do what `WIRE` says instead."""
    while way and GATE and not Path(GATE).exists():
        time.sleep(0.01)
    if way == "exit":
        raise SystemExit(1)
    for name, socket in sockets.items() if way != "silent" else ():
        separator = "-" if wire["transport"] == "ipc" and way != "colon" else ":"
        url = f"{wire['transport']}://{wire['ip']}{separator}{wire[f'{name}_port']}"
        socket.bind("tcp://127.0.0.1:*" if way == "ports" else url)
    if way == "deaf":
        signal.pause()


def signed(key: bytes, *contents: Any) -> list[bytes]:
    """Return the signature and the parts of a message."""
    parts = [json.dumps(part).encode() for part in contents]
    return [hmac.new(key, b"".join(parts), hashlib.sha256).hexdigest().encode(), *parts]


def publish(iopub: Any, state: str, request: dict[str, Any], key: bytes) -> None:
    """Publish the status busy or idle for a request."""
    header = {**request, "msg_id": f"{request['msg_id']}{state}", "msg_type": "status"}
    message = signed(key, header, request, {}, {"execution_state": state})
    iopub.send_multipart([b"status", b"<IDS|MSG>", *message])


def code_of(frames: list[bytes]) -> str:
    """Return the code in a request."""
    return str(json.loads(frames[frames.index(b"<IDS|MSG>") + 5]).get("code", ""))


def answer(socket: Any, iopub: Any, frames: list[bytes], key: bytes) -> None:
    """Run the code of a request and answer it."""
    cut = frames.index(b"<IDS|MSG>")
    header = json.loads(frames[cut + 2])
    kind = header["msg_type"]
    word, _, number = code_of(frames).partition(" ")
    if word == "queue":
        sys.stdout.write("queued\n")
        sys.stdout.flush()
        return
    publish(iopub, "busy", header, key)
    if word == "work":
        return
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
    if kind == "shutdown_request" and not STAYS:
        raise SystemExit(0)
    if word == "exit":
        raise SystemExit(int(number))


if __name__ == "__main__":
    main()
