"""A fake machine with a hostile owner, in one folder: every socket that a client could reach.

It has a front door, the caller's own daemon, the daemon of the hostile owner ``EVE``, and the
daemon of a bystander, ``ADA``. All are fakes on real Unix sockets that record each byte they
receive. Inside `Machine.watched`, an audit hook (sys.addaudithook) records each path that this
process opens and each socket that it connects to, so that a test can prove that nothing else
happened.
"""

import contextlib
import os
import pwd
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from kconnd.client import Client, find_socket
from kconnd.core import paths
from tests.cli.fake_daemon import FakeDaemon, Request

TIMES = 20 if os.environ.get("KCONND_NIGHTLY") else 1  # how many more examples Hypothesis tries
EVE, ADA = "nobody", "daemon"  # users that exist on every machine
ME = os.geteuid()
NAME = "lab"
_watching: list["Seen"] = []


@dataclass
class Seen:
    """Paths that this process opened and sockets that it connected to."""

    opened: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    # Threads of earlier tests, such as one that writes a state file to disk a second later.
    strangers: frozenset[threading.Thread] = frozenset()


def _audit(event: str, details: tuple[Any, ...]) -> None:
    if not _watching or threading.current_thread() in _watching[-1].strangers:
        return
    if event == "socket.connect":
        _watching[-1].connected.append(os.fsdecode(details[1]))
    elif event.partition(".")[0] in {"open", "os", "shutil"}:
        names = details[:1] if event == "open" else details
        paths = [one for one in names if isinstance(one, str | bytes | os.PathLike)]
        _watching[-1].opened.extend(os.fsdecode(one) for one in paths)


sys.addaudithook(_audit)


@dataclass
class Recorder(FakeDaemon):
    """A fake daemon that also records bytes that follow the first request on a connection."""

    buffering: int = 0

    def _answer(self, connection: socket.socket) -> None:
        copy = connection.dup()
        super()._answer(connection)  # which closes its own
        with copy, contextlib.suppress(OSError):
            copy.shutdown(socket.SHUT_WR)
            copy.settimeout(5.0)
            if more := copy.recv(65536):
                self.requests.append(Request("MORE", ascii(more), "", None))


@dataclass
class Machine:
    """The fake front door and daemons, with the requests that each has received."""

    folder: Path
    front: Recorder = field(init=False)
    own: Recorder = field(init=False)
    eve: Recorder = field(init=False)
    ada: Recorder = field(init=False)

    def __enter__(self) -> Self:
        (self.folder / "s").mkdir()
        (self.folder / "u" / str(ME)).mkdir(mode=0o700, parents=True)
        self._stack = contextlib.ExitStack()
        self.front = self._stack.enter_context(Recorder(self.folder / "front"))
        self.own = self._daemon(ME)
        self.eve = self._daemon(uid_of(EVE))
        self.ada = self._daemon(uid_of(ADA))
        for uid in (*map(uid_of, (EVE, ADA)), "self"):
            self.front.replies["POST", f"/v1/owners/{uid}/open"] = {"uid": 0, "socket": "/canary"}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _daemon(self, uid: int) -> Recorder:
        return self._stack.enter_context(Recorder(self.folder / "s" / str(uid)))

    @property
    def client(self) -> Client:
        """A client with the default options."""
        return Client(find_socket({}))

    def clear(self) -> None:
        """Clear recorded requests, and the replies of the daemons."""
        for one in (self.front, self.own, self.eve, self.ada):
            one.requests.clear()
        for one in (self.own, self.eve, self.ada):
            one.replies.clear()

    @contextlib.contextmanager
    def watched(self) -> Iterator[Seen]:
        """Record the paths that this process opens and the sockets that it connects to."""
        others = {*threading.enumerate()} - {threading.current_thread()}
        seen = Seen(strangers=frozenset(others))
        _watching.append(seen)
        try:
            yield seen
        finally:
            _watching.remove(seen)

    def bystanders_saw_nothing(self) -> None:
        """Assert that the bystander's daemon received no request."""
        assert self.ada.requests == []

    def asked_for_eve(self, times: int = 1) -> None:
        """Assert that the front door received only requests to open the hostile owner's socket."""
        assert self.front.asked() == [("POST", f"/v1/owners/{uid_of(EVE)}/open")] * times


def uid_of(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def place_at(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Redirect kconnd's machine-wide paths to a folder, in this process."""
    patch.setattr(paths, "FRONT_SOCKET", str(folder / "front"))
    patch.setattr(paths, "OWNER_SOCKETS_DIR", str(folder / "s"))
    patch.setattr(paths, "OWNER_RUNTIME_DIR", str(folder / "u"))
    patch.delenv("KCONND_SOCKET", raising=False)
