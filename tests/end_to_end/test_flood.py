"""Kernels that publish as fast as they can, beside look-ups: over tcp, CURVE and Unix sockets."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, SMALL, Daemon
from tests.end_to_end.slow_turns import (
    Lookups,
    assert_no_slow_turn,
    measured,
)

WIRES = {
    "ipc": "transport: ipc\n",
    "tcp": "transport: tcp\n",
    "curve": "transport: tcp\nencryption: curve\n",
}
# ipykernel publishes in a thread of its own, whose work this takes over for most of the time.
FLOOD = """
import threading, time, zmq
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
message = app.kernel.session.msg("stream", {"name": "stdout", "text": "x"})
frames = [b"stream.stdout", *app.kernel.session.serialize(message)]
nobody = zmq.Context.instance().socket(zmq.PUB)
nobody.bind_to_random_port("tcp://127.0.0.1")
sent = 0
begun = flooding = None
def publish(socket, rest):
    global sent
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        for _ in range(100):
            socket.send_multipart(frames)
        sent += 100
    if begun and sent > {many}:
        open(begun, "w").close()
    rest.set()
def flood(socket, mine):
    time.sleep(0.5)  # so that the end of the cell that begins it is heard
    while flooding is mine:
        rest = threading.Event()
        app.iopub_thread.schedule(lambda: publish(socket, rest))
        rest.wait(5)
def begin(socket):
    global flooding
    flooding = object()
    threading.Thread(target=flood, args=(socket, flooding), daemon=True).start()
def end():
    global flooding
    flooding = None
"""
RIGHT_WITHIN_S = 5.0
PHASE_S = 8.0
MANY = 20_000  # messages, more than is buffered on the way
LONGEST_LOOKUP_S = 0.1
DAEMONS_SHARE = 0.35  # of a core
STOP_WITHIN_S = 3.0


@contextmanager
def flooders(daemon: Daemon, *wires: str) -> Iterator[dict[str, BlockingKernelClient]]:
    """Start kernels that can publish without pause, and attach to their shells alone."""
    daemon.profile("calm", SMALL)
    for wire in wires:
        daemon.profile(wire, IPYKERNEL + WIRES[wire])
    measured(daemon).start()
    daemon.post("calm", "start")
    with ExitStack() as stack:
        attached = {}
        for wire in wires:
            found = BlockingKernelClient(
                connection_file=daemon.post(wire, "start")["connection_file"]
            )
            found.load_connection_file()
            found.start_channels(iopub=False, stdin=False, hb=False)
            stack.callback(found.stop_channels)
            attached[wire] = found
            run(found, FLOOD.replace("{many}", str(MANY)))
        yield attached


def run(attached: BlockingKernelClient, code: str, value: str = "None") -> str:
    """Run code without listening, which would be flooded, and give the text of a value."""
    request = attached.execute(code, user_expressions={"value": value})
    while True:
        reply = attached.get_shell_msg(timeout=30)
        if reply["parent_header"]["msg_id"] == request:
            assert reply["content"]["status"] == "ok", reply["content"]
            return str(reply["content"]["user_expressions"]["value"]["data"]["text/plain"])


def sent(attached: BlockingKernelClient) -> int:
    return int(run(attached, "", "sent"))


def used(daemon: Daemon) -> float:
    """Read the seconds of processor time that the daemon has used, in all its threads."""
    assert daemon.process is not None
    times = psutil.Process(daemon.process.pid).cpu_times()
    return float(times.user + times.system)


def say(figure: str) -> None:
    """Print a figure, for those who run this with ``pytest -s``."""
    sys.stdout.write(f"{figure}\n")


def is_in(daemon: Daemon, name: str, state: str) -> bool:
    return bool(daemon.info(name)["execution_state"] == state)


@pytest.mark.parametrize(
    "wire", [pytest.param(one, marks=[pytest.mark.nightly][one == "curve" :]) for one in WIRES]
)
def test_busy_or_idle_is_right_after_a_burst(daemon: Daemon, wire: str) -> None:
    """What the kernel says of a cell that begins or ends in a burst is lost."""
    with flooders(daemon, wire) as attached:
        began, kernel = time.monotonic(), attached[wire]
        run(kernel, "begin(app.iopub_socket.io_thread.socket)")
        run(kernel, "time.sleep(1)")
        run(kernel, "end()")
        over = time.monotonic()
        wait_for(lambda: is_in(daemon, wire, "idle"), "it to be idle", limit=RIGHT_WITHIN_S)
        gate = daemon.folder / "gate"
        begun = daemon.folder / "begun"
        run(kernel, f"sent = 0; begun = {str(begun)!r}")
        run(kernel, "begin(app.iopub_socket.io_thread.socket)")
        wait_for(lambda: is_in(daemon, wire, "idle"), "the end of that cell to be heard")
        wait_for(begun.exists, "the burst to begin")
        kernel.execute(
            "import pathlib; time.sleep(1); end()\n"
            f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)"
        )
        over = time.monotonic() + 1
        wait_for(lambda: time.monotonic() > over + RIGHT_WITHIN_S, "the time that it may take")
        for _ in range(20):
            assert is_in(daemon, wire, "busy")
        gate.touch()
        wait_for(lambda: is_in(daemon, wire, "idle"), "it to be idle", limit=RIGHT_WITHIN_S)
        assert_no_slow_turn(daemon, since=began)  # the first start of a daemon imports libzmq


@pytest.mark.nightly
def test_a_daemon_beside_kernels_that_publish_without_pause(daemon: Daemon) -> None:
    with flooders(daemon, "tcp", "curve") as attached:
        for kernel in attached.values():
            run(kernel, "begin(nobody)")
        with Lookups(daemon, "calm") as beside:
            wait_for(lambda: time.monotonic() > beside.began + PHASE_S, "some look-ups")
        for kernel in attached.values():
            run(kernel, "begin(app.iopub_socket.io_thread.socket)")
        before, began = used(daemon), time.monotonic()
        counts = {wire: sent(kernel) for wire, kernel in attached.items()}
        with Lookups(daemon, "calm") as during:
            wait_for(lambda: time.monotonic() > during.began + PHASE_S, "some look-ups")
        passed = time.monotonic() - began
        share = (used(daemon) - before) / passed
        rates = {
            wire: round((sent(kernel) - counts[wire]) / passed) for wire, kernel in attached.items()
        }
        say(f"beside two that publish to nobody: {beside}")
        say(f"with both listened to: {during}; {share:.2f} of a core; messages/s: {rates}")
        for wire in attached:
            began = time.monotonic()
            daemon.post(wire, "stop")
            stopped = time.monotonic() - began
            say(f"stop of {wire}: {stopped:.2f} s")
            assert stopped < STOP_WITHIN_S
        assert during.p99_s < LONGEST_LOOKUP_S
        assert during.p99_s <= 2 * beside.p99_s
        assert share <= DAEMONS_SHARE
        assert_no_slow_turn(daemon)
