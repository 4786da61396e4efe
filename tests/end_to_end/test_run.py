"""kconnd-ctl run: code on a real kernel, as if it were a program."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, client, run
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


def test_files_run_in_order_on_one_memory(lab: Daemon, folder: Path) -> None:
    (folder / "a.py").write_text("x = 1\n", encoding="utf-8")
    (folder / "b.py").write_text("print(x + 1)\n", encoding="utf-8")
    assert ctl(lab, "run", "lab", f"{folder}/a.py", f"{folder}/b.py").out == "2\n"
    assert ctl(lab, "run", "lab", "-", input="print(x)").out == "1\n"
    assert ctl(lab, "run", "lab", f"{folder}/none.py").code == 2
    assert ctl(lab, "run", "lab").code == 2


def test_an_error_is_a_traceback_and_exit_code_1(lab: Daemon) -> None:
    done = ctl(lab, "run", "lab", "-c", "print('before'); 1 / 0", "-c", "print('never')")
    assert (done.code, done.out) == (1, "before\n")
    assert "ZeroDivisionError: division by zero" in done.err
    assert "\033[" not in done.err


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
    assert process.returncode == 1
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


def test_a_password_is_not_shown(lab: Daemon) -> None:
    code = "import getpass; print(len(getpass.getpass('secret: ')))"
    shown = talk(lab, ["run", "lab", "-c", code], "", until="secret", then="hidden\n")
    assert "6" in shown
    assert "hidden" not in shown
