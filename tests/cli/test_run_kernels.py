"""``kconnd-ctl run`` on kernels that do not answer as ipykernel does, each played by a script."""

import base64
import contextlib
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli import kernel_session
from tests.cli.conftest import Ctl, Outcome, ctl_process
from tests.cli.fake_daemon import FakeDaemon, Request
from tests.cli.scripted_kernel import ScriptedKernel, finish
from tests.conftest import wait_for

Script = Callable[[ScriptedKernel], None]
Play = Callable[..., contextlib.AbstractContextManager[ScriptedKernel]]
PNG = base64.b64encode(bytes(1500)).decode()


@pytest.fixture
def play(daemon: FakeDaemon, folder: Path) -> Play:
    """Give a way to have a kernel ``a`` that follows a script."""

    @contextlib.contextmanager
    def playing(script: Script, **fields: Any) -> Iterator[ScriptedKernel]:
        with ScriptedKernel(folder, script) as kernel:
            shown = daemon.add("a", connection_file=str(kernel.file), **fields)

            def interrupt(_: Request) -> Any:
                kernel.interrupted.set()
                return shown

            daemon.replies["POST", "/v1/kernels/a/interrupt"] = interrupt
            yield kernel

    return playing


def interrupt_run(*words: str) -> Outcome:
    """Run code, send Ctrl-C when it prints, and wait for the end."""
    with ctl_process("run", "a", *words, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    return Outcome(process.returncode, out.decode(), error.decode())


@pytest.fixture
def _socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KCONND_SOCKET", str(folder / "s"))


def test_a_message_without_a_parent_is_nobodys(ctl: Ctl, play: Play) -> None:
    def xeus(kernel: ScriptedKernel) -> None:
        kernel.publish("iopub_welcome", parent=None, subscription="")
        kernel.publish("stream", parent=None, name="stdout", text="nobody's\n")
        kernel.publish("stream", name="stdout", text="ours\n")
        finish(kernel)

    with play(xeus):
        assert ctl("run", "a", "-c", "1") == Outcome(0, "ours\n", "")


def test_output_that_comes_after_the_idle_is_shown(
    ctl: Ctl, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_session, "LATE_OUTPUT_S", 1.0)  # a loaded machine takes longer

    def deno(kernel: ScriptedKernel) -> None:
        finish(kernel)
        kernel.publish("stream", name="stdout", text="late\n")

    with play(deno):
        assert ctl("run", "a", "-c", "1").out == "late\n"


INTERRUPTED_REPLIES: dict[str, dict[str, Any]] = {
    "ipykernel": {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []},
    "async-kernel": {"status": "error", "ename": "KernelInterrupt", "evalue": "", "traceback": []},
    "IRkernel": {"status": "abort"},
    "octave": {"status": "ok"},
    "jupyter-c-kernel": {},  # it sends none
}


@pytest.mark.usefixtures("_socket")
@pytest.mark.parametrize("name", INTERRUPTED_REPLIES)
def test_an_interrupted_cell_gives_130_whatever_is_replied(play: Play, name: str) -> None:
    reply = INTERRUPTED_REPLIES[name]
    ended = [0.0]

    def cell(kernel: ScriptedKernel) -> None:
        kernel.publish("stream", name="stdout", text="begun\n")
        assert kernel.interrupted.wait(20)
        if reply:
            kernel.reply(**reply)
        ended[0] = time.monotonic()
        kernel.status("idle")

    with play(cell) as kernel:
        done = interrupt_run("-c", "1", "-c", "never sent")
        assert time.monotonic() - ended[0] < 3  # it waits for no reply that does not come
        assert (done.code, done.err) == (130, "interrupting …\n")
        assert kernel.codes == ["1"]


@pytest.mark.usefixtures("_socket")
@pytest.mark.parametrize(
    ("reply", "words", "status"),
    [
        ({"status": "ok"}, ("-c", "1"), 0),
        ({"status": "error", "ename": "ValueError", "evalue": "", "traceback": []}, ("-c", "1"), 1),
        ({"status": "ok"}, ("-c", "1", "-c", "never sent"), 130),
    ],
)
def test_a_cell_that_ends_before_the_interrupt_was_not_interrupted(
    play: Play, daemon: FakeDaemon, reply: dict[str, Any], words: tuple[str, ...], status: int
) -> None:
    def cell(kernel: ScriptedKernel) -> None:
        kernel.publish("stream", name="stdout", text="begun\n")
        assert kernel.interrupted.wait(20)
        kernel.reply(**reply)
        kernel.status("idle")

    with play(cell) as kernel:

        def find_idle(_: Request) -> Any:
            kernel.interrupted.set()
            return {**daemon.kernels["a"], "interrupt": "idle"}

        daemon.replies["POST", "/v1/kernels/a/interrupt"] = find_idle
        done = interrupt_run(*words)
        lines = done.err.splitlines()
        assert lines[1].endswith("the code had already finished; nothing was interrupted")
        assert lines[2:] == ["kconnd-ctl: the rest of the code was not sent"] * (status == 130)
        assert done.code == status
        assert kernel.codes == ["1"]


@pytest.mark.parametrize("name", ["ipykernel", "async-kernel", "IRkernel"])
def test_a_cell_that_others_interrupt_gives_130(ctl: Ctl, play: Play, name: str) -> None:
    def cell(kernel: ScriptedKernel) -> None:
        kernel.publish("execute_input", code="1", execution_count=1)
        finish(kernel, **INTERRUPTED_REPLIES[name])

    with play(cell):
        assert ctl("run", "a", "-c", "1").code == 130


def test_a_cell_that_tslab_skips_was_not_interrupted(ctl: Ctl, play: Play) -> None:
    """tslab 1.0.22 replies ``abort`` to cells that wait when another fails."""
    with play(lambda kernel: finish(kernel, status="abort")):
        done = ctl("run", "a", "-c", "1", "-c", "2")
        assert (done.code, done.out) == (1, "")
        assert "the kernel skipped the code, since a request before it failed" in done.err


def test_a_reply_that_is_missing_is_told_at_once(ctl: Ctl, play: Play) -> None:
    """A wrapper kernel replies nothing when another client interrupts the cell."""
    with play(lambda kernel: kernel.status("idle")):
        began = time.monotonic()
        done = ctl("run", "a", "-c", "1")
        assert time.monotonic() - began < 10
    assert done.code == 1
    assert "the kernel finished it without a reply" in done.err
    assert "another client interrupted it, or the kernel failed" in done.err


def test_a_reply_that_comes_after_the_idle_counts(ctl: Ctl, play: Play) -> None:
    def late(kernel: ScriptedKernel) -> None:
        kernel.status("idle")
        threading.Event().wait(0.3)  # longer than the reply is waited for
        kernel.reply(status="error", ename="E", evalue="", traceback=[])

    with play(late):
        assert ctl("run", "a", "-c", "1") == Outcome(1, "", "")


@pytest.mark.usefixtures("_socket")
def test_an_interrupt_that_ends_the_kernel_gives_130(play: Play, daemon: FakeDaemon) -> None:
    end = {
        "code": 0,
        "signal": None,
        "reason": "ended by the interrupt",
        "at": "",
        "output_tail": "",
    }

    def cell(kernel: ScriptedKernel) -> None:
        kernel.publish("stream", name="stdout", text="begun\n")
        assert kernel.interrupted.wait(20)
        daemon.kernels["a"] |= {"state": "stopped", "last_exit": end}

    with play(cell):
        done = interrupt_run("-c", "1")
    assert done.code == 130
    assert "running code on a: the kernel ended by the interrupt" in done.err


SOON = """\
import sys
from kconnd.cli import kernel_session, main
kernel_session.INTERRUPT_WATCH_S = 0.1
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("_socket")
def test_a_cell_that_goes_on_after_ctrl_c_is_reported(play: Play, folder: Path) -> None:
    is_over, errors = threading.Event(), folder / "errors"

    def cell(kernel: ScriptedKernel) -> None:
        kernel.publish("stream", name="stdout", text="begun\n")
        assert is_over.wait(40)

    command = [sys.executable, "-W", "error", "-c", SOON, "run", "a", "-c", "1"]
    with (
        play(cell),
        errors.open("wb") as stderr,
        subprocess.Popen(command, stdout=-1, stderr=stderr) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGINT)
            note = "the interrupt was sent, but the code still runs after"
            wait_for(lambda: note in errors.read_text(), "the note")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
            is_over.set()
    first, *_, last = errors.read_text().splitlines()
    assert first == "interrupting …"
    assert "the code still runs; if it goes on, kconnd-ctl restart a ends it" in last


EXITS = {"": 0, "None": 0, "0": 0, "3": 3, "-1": 255, "256": 0, "full": 1, "(1, 2)": 1}
EXITS |= {"False": 0, "True": 1}


@pytest.mark.parametrize("value", EXITS)
def test_sys_exit_gives_the_exit_status(ctl: Ctl, play: Play, value: str) -> None:
    error = {"ename": "SystemExit", "evalue": value}
    advice = "x.py:3831: UserWarning: To exit: use 'exit', 'quit', or Ctrl-D.\n  warn(…)\n"

    def leave(kernel: ScriptedKernel) -> None:
        kernel.publish("error", traceback=["use %tb"], **error)
        kernel.publish("stream", name="stderr", text=f"before\n{advice}")
        finish(kernel, "error", traceback=["use %tb"], **error)

    text = f"{value}\n" if value in {"full", "(1, 2)"} else ""
    with play(leave):
        assert ctl("run", "a", "-c", "1") == Outcome(EXITS[value], "", f"before\n{text}")


def test_input_is_answered_in_the_way_that_every_kernel_understands(
    ctl: Ctl, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[dict[str, Any]] = []

    def ask(kernel: ScriptedKernel) -> None:
        answers.append(kernel.ask("who? "))
        finish(kernel)

    monkeypatch.setattr("sys.stdin", io.StringIO("you\n"))
    with play(ask):
        assert ctl("run", "a", "-c", "1") == Outcome(0, "", "who? ")
    [answer] = answers
    assert answer["content"] == {"status": "ok", "value": "you"}
    assert answer["parent_header"]["msg_id"] == answer["asked"]


BUNDLES = {
    "plain": ({"text/plain": "6", "text/html": "<b>7</b>"}, "6"),
    "markdown": ({"text/markdown": "# hi", "text/html": "<h1>hi</h1>"}, "# hi"),
    "latex": ({"text/latex": "$x$"}, "$x$"),
    "html": ({"text/html": "<p>a <b>b</b></p><p>c</p>"}, "a b\nc"),
    "image": ({"image/png": PNG}, "<image/png, 2 kB>"),
    "json": ({"application/json": {"a": 1}}, "<application/json, 1 kB>"),
}


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("kind", ["display_data", "execute_result"])
def test_a_result_is_shown_as_text(ctl: Ctl, play: Play, name: str, kind: str) -> None:
    data, text = BUNDLES[name]

    def display(kernel: ScriptedKernel) -> None:
        kernel.publish(kind, data=data, metadata={})
        finish(kernel)

    with play(display):
        assert ctl("run", "a", "-c", "1").out == f"{text}\n"


def test_what_is_saved_is_shown_as_its_path(ctl: Ctl, play: Play, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"

    def display(kernel: ScriptedKernel) -> None:
        kernel.publish("display_data", data={"image/png": PNG}, metadata={})
        kernel.publish("display_data", data={"image/svg+xml": "<svg/>"}, metadata={})
        figure = {"text/plain": "<Figure>", "image/png": PNG}
        kernel.publish("display_data", data=figure, metadata={})
        kernel.publish("display_data", data={"text/plain": "6"}, metadata={})
        finish(kernel)

    with play(display):
        done = ctl("run", "a", "--save", str(target), "-c", "1")
        paths = [target / f"output-{name}" for name in ("1.png", "2.svg", "3.png")]
        assert done.out.splitlines() == [*map(str, paths[:2]), "<Figure>", str(paths[2]), "6"]
        assert paths[0].read_bytes() == bytes(1500)
        assert paths[1].read_text(encoding="utf-8") == "<svg/>"
        again = ctl("run", "a", "--save", str(target), "-c", "1").out.splitlines()
        assert again[0] == f"{target}/output-2.png"  # no file is overwritten
    assert ctl("run", "a", "--save", str(paths[0]), "-c", "1").code == 2
    assert ctl("run", "a", "--save", str(target), "--json", "-c", "1").code == 2


def test_a_file_prints_no_value_of_its_last_expression(
    ctl: Ctl, play: Play, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text("6 * 7", encoding="utf-8")

    def value(kernel: ScriptedKernel) -> None:
        kernel.publish("execute_result", data={"text/plain": "42"}, metadata={})
        finish(kernel)

    with play(value):
        assert ctl("run", "a", str(script)).out == ""
        assert ctl("run", "a", "-c", "6 * 7").out == "42\n"
        messages = ctl("run", "a", "--json", str(script)).out.splitlines()
    kinds = [json.loads(line)["msg_type"] for line in messages]
    assert kinds == ["status", "execute_result", "status", "execute_reply"]


@pytest.mark.parametrize("arguments", [(), ("x",)])
def test_arguments_that_the_kernel_cannot_take_are_refused(
    ctl: Ctl, play: Play, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    script = tmp_path / "script.py"
    script.write_text("1", encoding="utf-8")

    def raw(kernel: ScriptedKernel) -> None:
        error = {"ename": "NameError", "evalue": "get_ipython", "traceback": []}
        is_script = kernel.codes[-1] == "1"
        finish(kernel, **({"status": "ok"} if is_script else {"status": "error", **error}))

    with play(raw) as kernel:
        done = ctl("run", "a", str(script), *arguments)
        assert ("1" in kernel.codes) is not bool(arguments)
    if arguments:
        assert done.code == 1
        assert "cannot pass arguments to a script: NameError: get_ipython" in done.err
    else:
        assert done == Outcome(0, "", "")


def test_a_kernel_of_an_unknown_language_takes_no_arguments(
    ctl: Ctl, play: Play, tmp_path: Path
) -> None:
    (tmp_path / "script").touch()
    with play(finish, language=None) as kernel:
        done = ctl("run", "a", str(tmp_path / "script"), "x")
        assert done.code == 2
        assert "this is a kernel of an unknown language" in done.err
        assert kernel.codes == []


def test_output_that_looks_like_ipythons_advice_is_shown(ctl: Ctl, play: Play) -> None:
    text = "a\nTo exit: use 'exit', 'quit', or Ctrl-D.\nb\n"

    def printing(kernel: ScriptedKernel) -> None:
        kernel.publish("stream", name="stdout", text=text)
        finish(kernel)

    with play(printing):
        assert ctl("run", "a", "-c", "1") == Outcome(0, text, "")


def test_an_error_without_a_name_is_its_value_alone(ctl: Ctl, play: Play) -> None:
    error = {"ename": "", "evalue": "127", "traceback": []}

    def bash(kernel: ScriptedKernel) -> None:
        kernel.publish("error", **error)
        finish(kernel, "error", **error)

    with play(bash):
        assert ctl("run", "a", "-c", "1") == Outcome(1, "", "127\n")
