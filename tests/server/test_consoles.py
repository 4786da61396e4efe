"""Clients of a kernel that another user shares: its connection is encrypted with CURVE.

With ``KCONND_PICTURES=DIR`` each client makes a picture there: the console, the window of the Qt
console, and JupyterLab.
"""

import base64
import json
import shlex
import socket
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from tests.conftest import wait_for
from tests.jupyter.test_lab import CHROMIUM, page, run_first_cell
from tests.pictures import draw_terminal, keep_picture
from tests.server.box import ROOT, Box
from tests.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
PROFILE = "/etc/kconnd/configs/pair.yaml"
PAIR = "kernel: python3\nuser: ada\naccess: {see: [eve], connect: [bob]}\n"
RESTARTED = "ada/pair was restarted (restart was requested): its variables are gone"
DRIVER = ROOT / "tests/end_to_end/offscreen_window.py"
QT_PATH = "/opt/kconnd/lib/python3*/site-packages"


@pytest.fixture
def pair(box: Box) -> Iterator[str]:
    """Give the name of a kernel of ada's to which bob may connect, and which eve may see."""
    box.write(PROFILE, PAIR)
    box.run("systemctl reload kconnd.service")
    for user in ("ada", "bob", "eve"):
        box.try_("kconnd-ctl reload", user)
    yield "ada/pair"
    box.run("kconnd-ctl stop pair --yes", "ada")
    box.run(f"rm {PROFILE}; systemctl reload kconnd.service")


@pytest.fixture
def console(box: Box, pair: str) -> Iterator[Terminal]:
    """Give bob's console on the kernel, which it starts."""
    terminal = box.terminal(f"kconnd-ctl console {pair} -- --simple-prompt", "bob")
    try:
        assert terminal.shows("In ["), terminal.shown
        assert terminal.answers("first")
        yield terminal
    finally:
        terminal.close()
        end_programs_of_bob(box, "console_app")


@pytest.fixture
def qt(box: Box) -> Iterator[str]:
    """Give the installed kconnd the Qt of the tests' environment; yield its variables."""
    box.run(f"echo {sysconfig.get_path('purelib')} > $(echo {QT_PATH})/qt.pth")
    yield "QT_QPA_PLATFORM=offscreen QT_API=pyside6"
    box.run(f"rm {QT_PATH}/qt.pth")


def end_programs_of_bob(box: Box, pattern: str) -> None:
    """End what a closed terminal left behind: it would go on asking the front door."""
    box.try_(f"pkill -KILL -u bob -f {pattern}")
    wait_for(lambda: box.try_(f"pgrep -u bob -f {pattern}").code == 1, f"no {pattern} of bob's")


def restrict(box: Box, access: str) -> None:
    """Replace the rights in the profile, and start the kernel again with another key."""
    box.write(PROFILE, PAIR.replace("{see: [eve], connect: [bob]}", access))
    box.run("kconnd-ctl reload; kconnd-ctl restart pair --new-key", "ada")


def test_a_console_of_who_may_connect_goes_on_over_a_restart(
    box: Box, pair: str, console: Terminal
) -> None:
    assert box.run(f"stat -c %U /proc/{box.pid('pair', 'ada')}").out == "ada\n"
    assert box.ctl(f"info {pair}", "bob")["connection"]["encrypted"]
    box.run("kconnd-ctl restart pair", "ada")
    assert console.shows(RESTARTED)
    assert console.answers("second")
    draw_terminal("shared-console", console.shown)

    console.type("print('be' + 'gun'); [__import__('time').sleep(0.1) for _ in range(6000)]")
    assert console.shows("begun")
    box.run("pkill -INT -u bob -f console_app")  # as Ctrl-C, for which he needs no further right
    assert console.shows("KeyboardInterrupt")
    assert console.answers("third")

    box.run("kconnd-ctl restart pair --new-key", "ada")
    assert console.shows("has a new process with another key (restart was requested): close this")
    console.type("exit")
    assert console.process.wait(10) == 0
    assert box.ctl("info pair", "ada")["state"] == "running"


def test_a_console_of_who_may_not_connect_is_refused(box: Box, pair: str) -> None:
    refused = box.try_(f"kconnd-ctl console {pair} -- --simple-prompt", "eve")
    assert (refused.code, refused.out) == (5, "")
    assert "may not connect pair of ada\n  the daemon of ada says: ask ada" in refused.err


@pytest.mark.parametrize(
    ("access", "line"),
    [
        ("{see: [bob]}", "may not connect pair of ada: close this console"),
        ("{see: [eve]}", "ada/pair is not followed any more: the daemon of ada says: uid"),
    ],
)
def test_a_console_says_that_its_user_may_no_longer_connect(
    box: Box, console: Terminal, access: str, line: str
) -> None:
    restrict(box, access)
    assert console.shows(line), console.shown
    console.type("1")  # it cannot run, and the console does not wait for it
    console.type("exit")
    assert console.process.wait(10) == 0


def test_a_qt_console_goes_on_over_a_restart(box: Box, pair: str, qt: str) -> None:
    """The window is on Qt's offscreen platform, with the Qt of the tests' environment."""
    opened = box.ctl(f"qtconsole {pair}", "bob")["argv"]
    arguments = opened[opened.index("kconnd.jupyter.qtconsole_app") + 1 :]
    arguments.append("--JupyterWidget.confirm_restart=False")
    folder = box.run("mktemp -d", "bob").out.strip()
    box.run(f"touch {folder}/commands", "bob")
    program = [opened[0], "-P", str(DRIVER), f"{folder}/commands", f"{folder}/text"]
    window = box.terminal(f"env {qt} {shlex.join([*program, *arguments])}", "bob")
    try:
        read_and_restart(box, Path(folder))
        take_picture(box, Path(folder))
    finally:
        window.close()
        end_programs_of_bob(box, "offscreen_window")


def take_picture(box: Box, folder: Path) -> None:
    """Let bob's window save a picture of itself, and keep it."""
    box.run(f"echo '!picture' >> {folder}/commands", "bob")
    commands = f"$(wc -l < {folder}/commands)"
    done = f"test $(cat {folder}/text.done) = {commands}"
    wait_for(lambda: box.try_(done, "bob").code == 0, "the picture of the window", 30)
    content = box.run(f"base64 -w0 {folder}/text.png", "bob").out
    keep_picture("shared-qtconsole", base64.b64decode(content))


def test_a_qt_console_from_python_starts_the_kernel_and_attaches(
    box: Box, pair: str, qt: str
) -> None:
    code = f"from kconnd.connect import connect_qtconsole as c; c(connection_file='{pair}')"
    box.run(f"{qt} /opt/kconnd/bin/python -c {shlex.quote(code)}", "bob")
    try:
        wait_for(lambda: box.ctl("info pair", "ada")["clients"] == 1, "the console to attach", 60)
    finally:
        end_programs_of_bob(box, "qtconsole_app")


def read_and_restart(box: Box, folder: Path) -> None:
    """Run cells in bob's window before and after a restart by ada, and a restart by himself."""

    def wait_for_text(*texts: str) -> None:
        pattern = shlex.quote("(?s)" + ".*".join(texts))
        command = f"grep -qzP {pattern} {folder}/text"
        wait_for(lambda: box.try_(command, "bob").code == 0, f"{texts} in the window", 30)

    def execute(line: str) -> None:
        box.run(f"echo {shlex.quote(line)} >> {folder}/commands", "bob")

    wait_for_text(r"In \[1\]:")
    execute("x = 6 * 7; x")
    wait_for_text(r"Out\[1\]: 42", r"In \[2\]:")
    box.run("kconnd-ctl restart pair", "ada")
    wait_for_text(r"ada/pair was restarted \(restart was requested\)", r"In \[1\]:")
    execute("globals().get('x', 'fresh')")
    wait_for_text(r"Out\[1\]: 'fresh'", r"In \[2\]:")
    execute("!request_restart_kernel")
    wait_for_text("may not manage pair of ada")


TOKEN = "token-of-bob"
WHERE = "import getpass, os; print(getpass.getuser(), os.getpid())"


@contextmanager
def lab_of_bob(box: Box) -> Iterator[str]:
    """Run JupyterLab of the tests' environment as bob; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    share = Path(sys.prefix, "share/jupyter")
    env = f"env JUPYTER_TOKEN={TOKEN} JUPYTERLAB_DIR={share}/lab JUPYTER_PATH={share}"
    options = f"--no-browser --port={port} --ServerApp.port_retries=0 --ServerApp.root_dir=nb"
    command = f"{env} /opt/kconnd/bin/python -W ignore -m jupyterlab {options}"
    terminal = box.terminal(command, "bob")  # the box has the network of this machine
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=5) as reply:  # noqa: S310  # loopback
                return "version" in json.load(reply)
        except (urllib.error.URLError, TimeoutError):
            return False

    try:
        wait_for(answers, "the server", 60)
        yield address
    finally:
        terminal.close()
        end_programs_of_bob(box, "jupyterlab")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here")
# Playwright leaves closing its pipe to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("qt")
def test_jupyterlab_runs_a_cell_on_it(box: Box, pair: str) -> None:
    version = "import sys; print(sys.implementation.cache_tag)"
    theirs = box.run(f"/opt/kconnd/bin/python -c '{version}'").out.strip()
    if theirs != sys.implementation.cache_tag:
        pytest.skip(f"the JupyterLab of this Python's packages does not run in the box's, {theirs}")
    box.run(f"kconnd-ctl start {pair}; kconnd-ctl kernelspec install {pair} --user", "bob")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WHERE)])
    notebook.metadata["kernelspec"] = {"name": "kconnd-ada-pair", "display_name": "pair"}
    box.run("mkdir -p nb", "bob")
    box.run(f"echo {shlex.quote(nbformat.writes(notebook))} > nb/pair.ipynb", "bob")
    assert box.ctl(f"info {pair}", "bob")["connection"]["encrypted"]
    with lab_of_bob(box) as address, page() as found:
        found.goto(f"{address}/doc/tree/pair.ipynb?token={TOKEN}")
        printed = run_first_cell(found, "ada/pair").strip()
        assert printed == f"ada {box.pid('pair', 'ada')}"
        keep_picture("shared-lab", found.screenshot())
    box.run("rm -r nb; kconnd-ctl kernelspec remove ada/pair", "bob")
