"""kconnd-ctl run: code on a real kernel, as if it were a program."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.python_script import script_preparation
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, SMALL_KERNEL, Daemon, begin, client, run, run_on
from tests.end_to_end.test_ctl import CTL, IPYKERNEL, ctl, talk


@pytest.fixture
def lab(daemon: Daemon) -> Daemon:
    daemon.profile("lab", IPYKERNEL)
    return daemon.start()


def test_output_goes_where_it_belongs(lab: Daemon) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); 6 * 7"
    done = ctl(lab, "run", "lab", "-c", code)
    assert (done.code, done.out, done.err) == (0, "out\n42\n", "err\n")
    assert lab.state_of("lab") == "running"


def test_a_run_goes_on_with_the_next_daemon(lab: Daemon, folder: Path) -> None:
    gate = folder / "gate"
    code = (
        "import pathlib, time; print('before', flush=True)\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n"
        "print('after')"
    )
    command = [*CTL, "--socket", str(lab.socket), "run", "lab", "-c", code]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "before\n"
        lab.end()
        with socket.socket(socket.AF_UNIX) as listener:  # shows that the daemon is missed
            listener.bind(str(lab.socket))
            listener.listen()
            listener.settimeout(30)
            listener.accept()[0].close()
        lab.socket.unlink()
        lab.start()
        gate.touch()
        assert process.communicate(timeout=30) == ("after\n", "")
    assert process.returncode == 0


def test_files_run_in_order_on_one_memory(lab: Daemon, folder: Path) -> None:
    (folder / "a.py").write_text("x = 1\n", encoding="utf-8")
    (folder / "b.py").write_text("print(x + 1)\n", encoding="utf-8")
    assert ctl(lab, "run", "lab", f"{folder}/a.py").code == 0
    assert ctl(lab, "run", "lab", "-c", "x += 1", f"{folder}/b.py").out == "3\n"
    assert ctl(lab, "run", "lab", "-", input="print(x)").out == "2\n"
    assert ctl(lab, "run", "lab", f"{folder}/none.py").code == 2
    assert ctl(lab, "run", "lab").code == 2


def test_an_error_is_a_traceback_and_exit_code_1(lab: Daemon) -> None:
    done = ctl(lab, "run", "lab", "-c", "print('before'); 1 / 0", "-c", "print('never')")
    assert (done.code, done.out) == (1, "before\n")
    assert "ZeroDivisionError: division by zero" in done.err
    assert "\033[" not in done.err


def test_a_file_runs_as_a_program(lab: Daemon, folder: Path) -> None:
    script = folder / "script.py"
    for end, code, error in (
        ("(0)", 0, ""),
        ("(3)", 3, ""),
        ("(False)", 0, ""),
        ("('full')", 1, "full\n"),
        ("()", 0, ""),
    ):
        script.write_text(f"import sys\nprint(1)\nsys.exit{end}\nprint(2)", encoding="utf-8")
        done = ctl(lab, "run", "lab", str(script))
        assert (done.code, done.out, done.err) == (code, "1\n", error)
    script.write_text("6 * 7", encoding="utf-8")
    assert ctl(lab, "run", "lab", str(script)).out == ""


SHOW = "import sys\nprint(sys.argv, open(__file__).readline(), __name__)\n"


def test_a_script_has_its_arguments_and_a_cell_has_not(lab: Daemon, folder: Path) -> None:
    (folder / "script.py").write_text(SHOW, encoding="utf-8")
    cells = "import sys; print('-f' in sys.argv, '__file__' in globals())"
    with contextlib.chdir(folder):
        done = ctl(lab, "run", "lab", "script.py", "a", "--json", "--", "-b")
        assert done.out == "['script.py', 'a', '--json', '--', '-b'] import sys\n __main__\n"
        assert ctl(lab, "run", "lab", "-c", cells, "script.py").out == (
            "True False\n['script.py'] import sys\n __main__\n"
        )
        (folder / "script.py").write_text(f"{SHOW}__file__ = 1\n1 / 0", encoding="utf-8")
        assert ctl(lab, "run", "lab", "script.py", "x").code == 1
    assert ctl(lab, "run", "lab", "-c", cells).out == "True False\n"
    show = "import sys; print(sys.argv, __file__)"
    assert ctl(lab, "run", "lab", "-", "a", input=show).out == "['-', 'a'] -\n"


def test_one_script_that_runs_twice_at_once_has_its_own_arguments(lab: Daemon) -> None:
    file = lab.post("lab", "start")["connection_file"]
    script = "import sys; print(sys.argv)"
    with client(file) as first, client(file) as second:
        sessions = {"first": first, "second": second}
        for name, attached in sessions.items():
            code = script_preparation(attached.session.session, "/s.py", [name])
            attached.execute_interactive(code, silent=True, timeout=30)
        requests = {attached.execute(script): name for name, attached in sessions.items()}
        for _ in requests:
            while (message := first.get_iopub_msg(timeout=30))["msg_type"] != "stream":
                pass
            name = requests[message["parent_header"]["msg_id"]]
            assert message["content"]["text"] == f"['{name}']\n"
        assert "-f" in run_on(first, script), "the arguments of the kernel are back"


def test_a_script_of_another_language_takes_no_arguments(lab: Daemon, folder: Path) -> None:
    lab.profile("small", SMALL)
    ctl(lab, "reload")
    (folder / "script").write_text("ok", encoding="utf-8")
    done = ctl(lab, "run", "small", str(folder / "script"), "--timeout", "3s")
    assert done.code == 2
    assert f"'--timeout' is an argument of {folder}/script" in done.err
    assert "a kernel of small" in done.err
    assert ctl(lab, "run", "small", str(folder / "script")).code == 0


def test_stdin_answers_input(lab: Daemon) -> None:
    code = "a = input('name? '); print('hello', a)\ntry: input()\nexcept EOFError: print('end')"
    done = ctl(lab, "run", "lab", "-c", code, input="you\n")
    assert (done.code, done.out) == (0, "hello you\nend\n")
    assert done.err == "name? "


def test_messages_as_json(lab: Daemon) -> None:
    done = ctl(lab, "run", "lab", "--json", "-c", "print(1)")
    messages = [json.loads(line) for line in done.out.splitlines()]
    kinds = [message["msg_type"] for message in messages]
    assert kinds[0] == "status"
    assert "stream" in kinds
    assert kinds[-1] == "execute_reply"
    assert len({message["parent_header"]["msg_id"] for message in messages}) == 1


SLOW = f"argv: [/bin/sh, -c, 'sleep 4; exec \"$@\"', sh, {sys.executable}, {SMALL_KERNEL}"
SLOW += ", '{connection_file}']\ntransport: ipc\n"


def test_a_run_whose_kernel_is_not_ready_in_time_never_runs(lab: Daemon) -> None:
    lab.profile("slow", SLOW)
    ctl(lab, "reload")
    done = ctl(lab, "run", "slow", "--timeout", "1s", "-c", "queue")
    assert done.code == 1
    assert "the kernel was not ready within 1s" in done.err
    assert "nothing was sent, so the code will not run" in done.err
    log = Path(lab.wait_state("slow", "running")["log_file"])
    assert ctl(lab, "run", "slow", "-c", "ok").code == 0  # it would have come after that
    assert "queued" not in log.read_text(encoding="utf-8")


def test_ctrl_c_while_the_kernel_starts_says_what_becomes_of_both(lab: Daemon) -> None:
    lab.profile("lab", SLOW)
    ctl(lab, "reload")
    process = start_run(lab, "-c", "queue")
    wait_for(lambda: lab.state_of("lab") == "starting", "the start")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the code will not run; lab continues to start" in error


def test_too_long_is_interrupted_and_told(lab: Daemon) -> None:
    ctl(lab, "start", "lab")
    done = ctl(lab, "run", "lab", "--timeout", "1s", "-c", "import time; time.sleep(1000)")
    assert done.code == 1
    assert "not done within 1s" in done.err
    wait_for(lambda: lab.info("lab")["execution_state"] == "idle", "the interrupt")


def test_ctrl_c_interrupts_the_kernel(lab: Daemon) -> None:
    ctl(lab, "start", "lab")
    process = subprocess.Popen(
        [*CTL, "run", "lab", "-c", "import time; print('go'); time.sleep(1000)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KCONND_SOCKET": str(lab.socket)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupting" in error
    assert "KeyboardInterrupt" in error


def test_a_kernel_that_dies_is_told_and_not_waited_for(lab: Daemon) -> None:
    lab.profile("frail", IPYKERNEL + "restart: {policy: no}\n")
    ctl(lab, "reload")
    done = ctl(lab, "run", "frail", "-c", "import os; os._exit(7)")
    assert done.code == 3
    assert "the kernel exited with code 7" in done.err


def test_output_of_others_is_not_ours(lab: Daemon) -> None:
    info = lab.post("lab", "start")
    with client(info["connection_file"]) as other:
        other.execute("import time; time.sleep(1); print('theirs')")
        assert ctl(lab, "run", "lab", "-c", "print('ours')").out == "ours\n"
    assert run(info["connection_file"], "print(1)") == "1\n"


def start_run(lab: Daemon, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CTL, "run", "lab", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KCONND_SOCKET": str(lab.socket)},
    )


@contextlib.contextmanager
def others_cell(lab: Daemon, gate: Path) -> Iterator[str]:
    """Have another client's cell run until the gate opens; give the connection file."""
    file = lab.post("lab", "start")["connection_file"]
    with client(file) as other:
        begin(
            other,
            f"import os, time; print('begun')\nwhile not os.path.exists({str(gate)!r}): "
            "time.sleep(0.01)",
        )
        yield file
        gate.touch()
        assert other.get_shell_msg(timeout=30)["content"]["status"] == "ok", "it was interrupted"


def test_a_run_that_waits_too_long_never_runs(lab: Daemon, folder: Path) -> None:
    marker, gate = folder / "ran", folder / "gate"
    with others_cell(lab, gate) as file:
        done = ctl(lab, "run", "lab", "--timeout", "1s", "-c", f"open({str(marker)!r}, 'w')")
    assert done.code == 1
    assert "the kernel was not idle within 1s" in done.err
    assert "nothing was sent, so the code will not run" in done.err
    assert run(file, "print('next')") == "next\n"  # what had been queued before would have run
    assert not marker.exists()


def test_ctrl_c_ends_a_run_that_waits_and_interrupts_nobody(lab: Daemon, folder: Path) -> None:
    marker, gate = folder / "ran", folder / "gate"
    with others_cell(lab, gate) as file:
        wait_for(lambda: lab.info("lab")["execution_state"] == "busy", "the other's cell")
        process = start_run(lab, "-c", f"open({str(marker)!r}, 'w')")
        wait_for(lambda: lab.info("lab")["clients"] > 1, "the run to attach")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nothing was sent, so the code will not run" in error
    assert run(file, "print('next')") == "next\n"
    assert not marker.exists()


def test_a_run_that_is_done_and_not_printed_interrupts_nobody(lab: Daemon, folder: Path) -> None:
    lab.post("lab", "start")
    done, gate, began = folder / "done", folder / "gate", time.monotonic()
    process = start_run(
        lab, "--timeout", "3s", "-c", f"print('x' * 300_000); open({str(done)!r}, 'w').close()"
    )
    wait_for(done.exists, "the code to be done")  # its output waits for us to read it
    with others_cell(lab, gate):
        wait_for(lambda: time.monotonic() > began + 3.5, "the time to be up")
        out, error = process.communicate(timeout=30)
    assert (process.returncode, len(out), error) == (0, 300_001, "")


def test_a_run_waits_for_others_cells_and_then_runs(lab: Daemon, folder: Path) -> None:
    gate = folder / "gate"
    with others_cell(lab, gate):
        wait_for(lambda: lab.info("lab")["execution_state"] == "busy", "the other's cell")
        process = start_run(lab, "-c", "print(6 * 7)")
        wait_for(lambda: lab.info("lab")["clients"] > 1, "the run to attach")
        assert process.poll() is None
        gate.touch()
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (0, "42\n", "")


def test_a_waiting_run_asks_the_kernel_nothing(lab: Daemon, folder: Path) -> None:
    gate, count = folder / "gate", "from IPython import get_ipython\n"
    count += (
        "kernel = get_ipython().kernel; asked = []\n"
        "before = kernel.shell_handlers['kernel_info_request']\n"
        "async def counted(*args):\n    asked.append(1)\n    await before(*args)\n"
        "kernel.shell_handlers['kernel_info_request'] = counted"
    )
    file = lab.post("lab", "start")["connection_file"]
    run(file, count)
    with client(file) as watching:  # which asks, too, before the cell begins
        run_on(watching, "asked.clear()")
        begin(
            watching,
            f"import os, time; print('begun')\nwhile not os.path.exists({str(gate)!r}): "
            "time.sleep(0.01)",
        )
        wait_for(lambda: lab.info("lab")["execution_state"] == "busy", "the cell")
        process = start_run(lab, "--timeout", "20s", "-c", "print(len(asked))")
        wait_for(lambda: lab.info("lab")["clients"] > 1, "the run to attach")
        gate.touch()
        out, _ = process.communicate(timeout=30)
    assert int(out) <= 2  # its subscription is shown by one, or by a second where that was late


@pytest.fixture
def small(lab: Daemon) -> Daemon:
    """Have a kernel that can be told to say nothing about a request."""
    lab.profile("lab", SMALL)
    lab.ask("POST", "/v1/reload")
    return lab


def test_a_run_that_was_sent_too_early_interrupts_nobody(small: Daemon) -> None:
    done = ctl(small, "run", "lab", "--timeout", "1s", "-c", "queue")
    assert done.code == 1
    assert "has not begun; it will still run" in done.err
    assert small.state_of("lab") == "running"  # an interrupt would have ended this kernel


def test_code_that_the_kernel_skipped_is_told(small: Daemon) -> None:
    done = ctl(small, "run", "lab", "-c", "skip", "-c", "never")
    assert done.code == 1
    assert done.err == "kconnd-ctl: the kernel skipped the code, since a request before it failed\n"


def test_ctrl_c_says_that_what_was_sent_will_still_run(small: Daemon) -> None:
    log = Path(small.post("lab", "start")["log_file"])
    process = start_run(small, "-c", "queue")
    wait_for(lambda: "queued" in log.read_text(encoding="utf-8"), "the code to be sent")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "has not begun; it will still run" in error
    assert small.state_of("lab") == "running"


def test_ctrl_c_a_second_time_leaves(lab: Daemon, folder: Path) -> None:
    ctl(lab, "start", "lab")
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('no', flush=True))\n"
        f"print('go', flush=True)\nwhile not os.path.exists({str(folder / 'gate')!r}): "
        "time.sleep(0.01)"
    )
    with start_run(lab, "-c", code) as process:
        assert process.stdout is not None
        for line in ("go\n", "no\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    (folder / "gate").touch()
    assert process.returncode == 130
    assert "the code still runs" in error


def test_a_kernel_of_ones_own_may_do_what_it_likes_to_the_terminal(lab: Daemon) -> None:
    assert ctl(lab, "run", "lab", "-c", r"print('\x1b]0;title\x07')").out == "\x1b]0;title\x07\n"


def test_a_followed_log_that_ctrl_c_ends_leaves_no_colour(lab: Daemon) -> None:
    log = Path(lab.post("lab", "start")["log_file"])
    with log.open("a", encoding="utf-8") as stream:
        stream.write("\x1b[31mred\n")
    env = {**os.environ, "KCONND_SOCKET": str(lab.socket)}
    command = [*CTL, "logs", "-f", "-n", "1", "lab"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\x1b[31mred\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "\x1b[0m"


def test_a_password_is_not_shown(lab: Daemon) -> None:
    code = "import getpass; print(len(getpass.getpass('secret: ')))"
    shown = talk(lab, ["run", "lab", "-c", code], "", until="secret", then="hidden\n")
    assert "6" in shown
    assert "hidden" not in shown
