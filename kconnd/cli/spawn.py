"""Start a daemon for a user who has none, so that it outlives the terminal and the login.

It gets a session of its own, the root folder as its own, and none of the caller's environment
but what says where things are: it must be the same daemon whoever starts it from wherever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from kconnd.client import Client, find_socket
from kconnd.core.places import state_dir
from kconnd.errors import UnreachableError
from kconnd.system.files import ensure_private_dir, read_tail
from kconnd.system.machine import kills_user_processes, lingers, machine_id, own_user

LIMIT = 15.0  # seconds until it answers
GLANCE = 0.02  # seconds between looks
KEPT = (
    *("HOME", "USER", "LOGNAME", "PATH", "LANG", "LANGUAGE", "TZ", "XDG_CONFIG_HOME"),
    *("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "JUPYTER_PATH", "JUPYTER_DATA_DIR"),
)
LOGOUT_WARNING = (
    "kconnd-ctl: at logout this machine ends all that you leave running, kernels too;\n"
    "  loginctl enable-linger  lets them live on"
)


def client_or_start(socket: str) -> Client:
    """Give a client for the user's daemon, started now if there is none.

    Parameters
    ----------
    socket : str
        The path that was named, or ``""``.

    Raises
    ------
    UnreachableError
        If it does not come up; its last words are in the error.
    """
    client = Client(find_socket(os.environ, socket))
    try:
        client.get("/v1/health")
    except UnreachableError:
        start_daemon(socket or os.environ.get("KCONND_SOCKET", ""))
        return Client(find_socket(os.environ, socket))
    return client


def start_daemon(socket: str) -> None:
    """Start a daemon and wait until it answers."""
    user = own_user()
    if kills_user_processes() and not lingers(user.name):
        print(LOGOUT_WARNING, file=sys.stderr)
    folder = Path(state_dir(os.environ, user.home, machine_id()))
    ensure_private_dir(folder)
    log = folder / "daemon.log"
    command = [sys.executable, "-m", "kconnd.daemon.main"]
    command += ["--socket", str(Path(socket).absolute())] if socket else []
    env = {key: os.environ[key] for key in os.environ if key in KEPT or key.startswith("LC_")}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    output = os.open(log, flags, 0o600)
    try:
        process = subprocess.Popen(  # our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=env,
            start_new_session=True,
        )
    finally:
        os.close(output)
    _wait_until_it_answers(process, socket, log)


def _wait_until_it_answers(process: subprocess.Popen[bytes], socket: str, log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            Client(find_socket(os.environ, socket)).get("/v1/health")
        except UnreachableError:
            time.sleep(GLANCE)  # nothing else tells that a socket has come to be
        else:
            process.returncode = 0  # it goes on without us; Popen is to let go of it
            return
    state = "it ended" if process.poll() is not None else f"no answer within {LIMIT:g} s"
    raise UnreachableError(
        f"starting a daemon: {state}",
        hint=f"kconnd in a terminal shows what it does; its log is {log}",
        output="\n".join(read_tail(log, 2000).splitlines()[-5:]),
    )
