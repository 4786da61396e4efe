"""Exercises every part of the Jupyter protocol on a kernel, to compare kernels by the results."""

import hashlib
import re
import textwrap
from collections.abc import Callable
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from tests.end_to_end.daemon import run_on

PID = re.compile(r"(?<=pid=)\d+|(?<=ipykernel_)\d+")
LIMIT = 30.0  # seconds for a message
CELL = "number = 20\nnumber += 1\nnumber *= 2\n"
STREAMS = """
    import random, numpy
    random.seed(7); numpy.random.seed(7)
    print(random.random(), random.getrandbits(70), numpy.random.random(3).tolist(),
          numpy.random.default_rng(7).random(3).tolist(), random.Random(7).random())
"""
PROCESSES = """
    import multiprocessing, os, subprocess, sys, threading
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(abs, [-1, -2, -3]), pool.apply(os.getenv, ["SECRET"]))
    print(multiprocessing.get_start_method(allow_none=True), multiprocessing.parent_process())
    say = "import os, sys; print(os.getcwd(), sorted(os.environ.items()), sys.path)"
    print(subprocess.run([sys.executable, "-c", say], capture_output=True, text=True))
    print(subprocess.run("ulimit -a; umask; trap", shell=True, capture_output=True, text=True))
    print(os.popen("echo $SECRET").read(), subprocess.call(["false"]))
    other = os.fork()
    if other == 0:
        os._exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
    done = threading.Thread(target=lambda: print("from a thread"))
    done.start(); done.join()
    !echo from a shell
"""
ECHO = """
    def echo(comm, opened):
        @comm.on_msg
        def _(message):
            comm.send({"heard": message["content"]["data"], "opened": opened["content"]["data"]})
    get_ipython().kernel.comm_manager.register_target("echo", echo)
"""


def have(attached: BlockingKernelClient) -> dict[str, Any]:
    """Exercise each part of the protocol; drop values that differ between any two kernels."""
    return {
        "headers": _headers(attached),
        "info": _info(attached),
        "connect_info": run_on(attached, "%connect_info"),
        "streams": run_on(attached, textwrap.dedent(STREAMS)),
        # From Python 3.12 on, a fork with threads warns and names the pid.
        "processes": PID.sub("PID", run_on(attached, textwrap.dedent(PROCESSES))),
        "plot": _plot(attached),
        "comm": _comm(attached),
        "subshell": _subshell(attached),
        "debugger": _debug(attached),
        "completion": _asked(attached, attached.complete("number.bit_"))["content"],
        "magics": run_on(attached, "%lsmagic"),
    }


def _asked(attached: BlockingKernelClient, message: str) -> dict[str, Any]:
    """Wait on the shell channel for the reply to the message with this id."""
    return _until(
        attached.get_shell_msg, lambda found: found["parent_header"].get("msg_id") == message
    )


def _until(
    get: Callable[..., dict[str, Any]], is_it: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    while not is_it(found := get(timeout=LIMIT)):
        pass
    return found


def _headers(attached: BlockingKernelClient) -> list[object]:
    message = attached.execute("1")
    reply = _asked(attached, message)
    status = _until(attached.get_iopub_msg, lambda found: found["msg_type"] == "execute_result")
    return [
        (sorted(found), found["username"], found["version"])
        for found in (reply["header"], status["header"])
    ]


def _info(attached: BlockingKernelClient) -> dict[str, Any]:
    content: dict[str, Any] = _asked(attached, attached.kernel_info())["content"]
    content["banner"] = content["banner"].partition("Tip:")[0]  # IPython chooses the tip at random
    return content


def _plot(attached: BlockingKernelClient) -> list[object]:
    shown: list[object] = []

    def collect(message: dict[str, Any]) -> None:
        if message["msg_type"] == "display_data":
            data = message["content"]["data"]
            picture = hashlib.sha256(data["image/png"].encode()).hexdigest()
            shown.append((sorted(data), data["text/plain"], picture))

    code = """
        %config InlineBackend.figure_format = 'png'
        import matplotlib.pyplot as plt
        plt.plot([1, 2])
        print(plt.get_backend())
        plt.show()
    """
    reply = attached.execute_interactive(textwrap.dedent(code), timeout=60, output_hook=collect)
    return [reply["content"]["status"], *shown]


def _comm(attached: BlockingKernelClient) -> list[object]:
    """Open a comm from the client, send data, and receive the answer."""
    run_on(attached, textwrap.dedent(ECHO))
    opening = {"comm_id": "c1", "target_name": "echo", "data": {"at": "opening"}}
    for kind, content in (
        ("comm_open", opening),
        ("comm_msg", {"comm_id": "c1", "data": [1, 2]}),
    ):
        attached.shell_channel.send(attached.session.msg(kind, content))
    heard = _until(attached.get_iopub_msg, lambda found: found["msg_type"] == "comm_msg")
    own = "import comm; own = comm.create_comm(target_name='t'); print(own.comm_id != '')"
    printed = run_on(attached, own)
    known = _asked(attached, attached.comm_info())["content"]["comms"]
    names = sorted(found["target_name"] for found in known.values())
    return [heard["content"], printed, names]


def _control(attached: BlockingKernelClient, kind: str, content: Any) -> dict[str, Any]:
    message = attached.session.msg(kind, content)
    attached.control_channel.send(message)
    identity = message["header"]["msg_id"]
    reply = _until(
        attached.get_control_msg, lambda found: found["parent_header"].get("msg_id") == identity
    )
    content_of: dict[str, Any] = reply["content"]
    return content_of


def _subshell(attached: BlockingKernelClient) -> list[object]:
    """Run code in a subshell while a cell in the main shell waits for its effect."""
    made = _control(attached, "create_subshell_request", {})
    if made["status"] != "ok":
        return [made["status"]]
    cell = attached.execute("import threading; met = threading.Event(); met.wait(20)")
    busy = "import threading\nwhile 'met' not in globals(): pass\nmet.set()"
    message = attached.session.msg("execute_request", {"code": busy, "silent": False})
    message["header"]["subshell_id"] = made["subshell_id"]
    attached.shell_channel.send(message)
    replies = {}
    for _ in range(2):
        found = attached.get_shell_msg(timeout=LIMIT)
        replies[found["parent_header"]["msg_id"]] = found["content"]["status"]
    listed = _control(attached, "list_subshell_request", {})
    ended = _control(attached, "delete_subshell_request", {"subshell_id": made["subshell_id"]})
    main, other = replies[cell], replies[message["header"]["msg_id"]]
    return [main, other, len(listed["subshell_id"]), ended["status"]]


class _Debugger:
    """Speaks the debug adapter protocol with a kernel's debugger."""

    def __init__(self, attached: BlockingKernelClient) -> None:
        self._attached, self._number = attached, 0

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        request = {"type": "request", "seq": self._number, "command": command}
        found = _control(self._attached, "debug_request", {**request, "arguments": arguments})
        assert found["success"], found
        body: dict[str, Any] = found.get("body", {})
        return body


def _debug(attached: BlockingKernelClient) -> list[object]:
    """Stop a cell at a breakpoint, read a variable, and continue the cell."""
    debugger = _Debugger(attached)
    able = debugger.ask(
        "initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True
    )
    debugger.ask("attach")
    source = debugger.ask("dumpCell", code=CELL)["sourcePath"]
    set_ = debugger.ask(
        "setBreakpoints", breakpoints=[{"line": 2}], source={"path": source}, sourceModified=False
    )
    debugger.ask("configurationDone")
    info = debugger.ask("debugInfo")
    cell = attached.execute(CELL)
    stopped = _until(
        attached.get_iopub_msg,
        lambda found: found["msg_type"] == "debug_event" and found["content"]["event"] == "stopped",
    )["content"]["body"]
    frames = debugger.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"]
    at = {"frameId": frames[0]["id"]}
    value = debugger.ask("evaluate", expression="number", context="watch", **at)["result"]
    debugger.ask("continue", threadId=stopped["threadId"])
    status = _asked(attached, cell)["content"]["status"]
    after = run_on(attached, "print(number)")
    debugger.ask("disconnect", restart=False, terminateDebuggee=False)
    breakpoints = [(found["verified"], found["line"]) for found in set_["breakpoints"]]
    where = [(frames[0]["line"], re.sub(r"\d{3,}", "N", frames[0]["source"]["path"]))]
    told = {key: info[key] for key in ("isStarted", "richRendering", "exceptionPaths")}
    return [able, breakpoints, told, stopped["reason"], where, value, status, after]
