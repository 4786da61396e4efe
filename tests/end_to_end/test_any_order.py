"""Anything in any order: a real daemon and real small kernels against a model of what must hold.

The model knows for each kernel whether it is up, its process and its launch. After each step
the daemon, where one runs, must show just that; where none runs, the processes must. A kernel
lives on through everything but an end that was asked for or that came from outside.
"""

import http.client
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from kconnd.core.launch.connection import CHANNELS
from kconnd.system.process.processes import ProcessId, is_alive, read_stat, send_signal
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon, DaemonError

# What happens to a kernel that ends by itself: the first stays down, the second comes back.
PROFILES = {
    "down": SMALL + "restart: {policy: no}\n",
    "back": SMALL.replace("ipc", "tcp") + "restart: {backoff: 10ms, max_failures: 1000}\n",
}
NAMES = st.sampled_from([*PROFILES, "down@other"])
EDITS = st.sampled_from(["edit", "mend", "break another"])
PICK = st.integers(0, 5)  # which of those that are running
ENDS = st.sampled_from([signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])


@dataclass
class Model:
    """What must be true of one kernel."""

    state: str = "stopped"
    generation: int = 0
    kernel: ProcessId | None = None
    shim: ProcessId | None = None
    key: str = ""
    ports: tuple[int, ...] = ()
    shim_lives: bool = True
    exits_by: int | None = None
    ending: bool = False  # asked to stop of a daemon that died at once


class AnyOrder(RuleBasedStateMachine):
    """A daemon, three kernels, and whatever may happen to them."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kc-", dir="/tmp"))
        self.daemon = Daemon(self.folder)
        self.models = {name: Model() for name in [*PROFILES, "down@other"]}
        self.up = False
        for name, text in PROFILES.items():
            self.daemon.profile(name, text)
        self.start_daemon()

    def teardown(self) -> None:
        for model in self.models.values():
            if model.kernel is not None:
                send_signal(model.kernel, signal.SIGKILL)
        self.daemon.__exit__(None, None, None)
        wait_for(lambda: self.leftovers() == [], "the end of processes that nobody knows of")
        shims = [model.shim for model in self.models.values() if model.shim is not None]
        wait_for(lambda: not any(map(is_alive, shims)), "shims to write how their kernels ended")
        shutil.rmtree(self.folder)

    # --- the daemon

    @precondition(lambda self: not self.up)
    @rule()
    def start_daemon(self) -> None:
        self.daemon.start()
        self.up = True
        for name in self.models:
            self.settle(name)

    @precondition(lambda self: self.up)
    @rule(number=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def end_daemon(self, number: int) -> None:
        self.daemon.end(number)
        self.up = False

    @rule(
        name=st.sampled_from(list(PROFILES)),
        what=st.sampled_from(["edit", "mend", "break another"]),
    )
    def change_profiles(self, name: str, what: str) -> None:
        """A live kernel follows the profile it was launched from, until it is restarted."""
        if what == "break another":
            self.daemon.profile("broken", "kernel: [\n")
        else:
            more = f"env: {{X: '{len(name)}'}}\n" if what == "edit" else ""
            self.daemon.profile(name, PROFILES[name] + more)
        if self.up:
            self.daemon.ask("POST", "/v1/reload")

    @precondition(lambda self: not self.up)
    @rule()
    def tidy_runtime_folder(self) -> None:
        """Somebody's clean-up takes all files, locks among them; not sockets."""
        for path in self.daemon.runtime.rglob("*"):
            if path.is_file():
                path.unlink()

    # --- kernels

    @precondition(lambda self: self.up)
    @rule(name=NAMES)
    def start(self, name: str) -> None:
        model = self.models[name]
        info = self.daemon.post(name, "start")
        if model.state != "running":
            self.launched(name, info, fresh=True)

    @precondition(lambda self: self.up)
    @rule(name=NAMES, new_key=st.booleans())
    def restart(self, name: str, new_key: bool) -> None:  # noqa: FBT001  # Hypothesis names it
        if name == "down@other" and self.models[name].generation == 0:
            return  # an instance is made by a start
        fresh = self.models[name].state != "running"
        info = self.daemon.post(name, "restart", new_key=new_key)
        self.launched(name, info, fresh=fresh or new_key, kept=not fresh)

    @precondition(lambda self: self.up)
    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        model = self.models[name]
        if model.generation == 0 and name == "down@other":
            return
        assert self.daemon.post(name, "stop")["state"] == "stopped"
        model.state, model.kernel, model.shim_lives = "stopped", None, True

    @precondition(lambda self: self.up and self.running())
    @rule(pick=PICK)
    def stop_and_kill_the_daemon(self, pick: int) -> None:
        """What was asked for is on record, so the next daemon carries it out."""
        name = self.one(pick)
        model = self.models[name]
        self.daemon.post(name, "stop", wait=False)
        self.daemon.kill()
        self.up, model.ending = False, True

    @precondition(lambda self: self.running())
    @rule(pick=PICK, number=ENDS)
    def kill_kernel(self, pick: int, number: int) -> None:
        name = self.one(pick)
        model = self.models[name]
        assert model.kernel is not None
        os.kill(model.kernel.pid, number)
        model.exits_by = number
        wait_for(lambda: model.kernel is None or not is_alive(model.kernel), "its end")
        if self.up:
            self.settle(name)

    @precondition(lambda self: self.running(shim=True))
    @rule(pick=PICK)
    def kill_shim(self, pick: int) -> None:
        model = self.models[self.one(pick, shim=True)]
        assert model.shim is not None
        os.kill(model.shim.pid, signal.SIGKILL)
        wait_for(lambda: model.shim is None or not is_alive(model.shim), "the shim's end")
        model.shim_lives = False

    # --- what must hold

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        for name, model in getattr(self, "models", {}).items():
            if model.kernel is not None and model.exits_by is None and not model.ending:
                assert is_alive(model.kernel), f"{name} was ended by nobody"
            known = model.generation or name in PROFILES
            if self.up and known:
                self.compare(name, model)
        if hasattr(self, "models"):
            models = [model for model in self.models.values() if model.kernel is not None]
            wanted = {m.kernel.pid for m in models if m.kernel and not (m.exits_by or m.ending)}
            ending = {m.kernel.pid for m in models if m.kernel and m.ending}
            assert set(self.leftovers()) - ending == wanted, "one process for each kernel"
            ports = [port for model in self.models.values() if model.kernel for port in model.ports]
            assert len(ports) == len(set(ports))

    def compare(self, name: str, model: Model) -> None:
        info = self.daemon.info(name)
        pid = model.kernel.pid if model.kernel else None
        assert (info["state"], info["pid"]) == (model.state, pid), self.daemon.said()[-3000:]
        assert info["generation"] == model.generation
        if model.state == "running":
            wire = self.daemon.get(f"/v1/kernels/{name}/connection")
            assert wire["key"] == model.key
            assert Path(info["connection_file"]).exists()

    # --- the model's moves

    def launched(self, name: str, info: dict[str, Any], *, fresh: bool, kept: bool = False) -> None:
        model = self.models[name]
        assert info["state"] == "running"
        assert info["generation"] == model.generation + 1
        wire = self.daemon.get(f"/v1/kernels/{name}/connection")
        assert (wire["key"] != model.key) == fresh
        ports: tuple[int, ...] = ()
        if wire["transport"] == "tcp":
            ports = tuple(wire[f"{one}_port"] for one in CHANNELS)
        if kept:
            assert ports == model.ports
        pid = info["pid"]
        self.models[name] = Model(
            "running",
            info["generation"],
            ProcessId(pid, read_stat(pid)[2]),
            self.daemon.shim_of(name),
            wire["key"],
            ports,
        )

    def settle(self, name: str) -> None:
        """Follow what the daemon does about an end that nobody asked for."""
        model = self.models[name]
        if model.ending:
            wait_for(lambda: self.state(name) in {"stopped", "forgotten"}, "what was asked for")
            model.state, model.kernel, model.shim_lives = "stopped", None, True
            model.ending, model.exits_by = False, None
        if self.state(name) == "forgotten":
            assert model.state == "stopped"
            self.models[name] = Model()
        if model.exits_by is None:
            return
        if name == "back":
            wanted = model.generation + 1
            wait_for(
                lambda: (
                    self.daemon.info(name)["generation"] == wanted
                    and self.daemon.state_of(name) == "running"
                ),
                f"{name} to be back",
            )
            self.check_exit(name, model)
            model.exits_by = None
            self.launched(name, self.daemon.info(name), fresh=False, kept=True)
            return
        end = "failed" if model.shim_lives else "lost"
        self.daemon.wait_state(name, end)
        self.check_exit(name, model)
        model.state, model.kernel, model.exits_by, model.shim_lives = end, None, None, True

    def state(self, name: str) -> str:
        """Tell what the daemon says; it forgets instances that were stopped before it began."""
        try:
            return self.daemon.state_of(name)
        except DaemonError as error:
            if error.status != http.client.NOT_FOUND or "@" not in name:
                raise
            return "forgotten"

    def running(self, *, shim: bool = False) -> list[str]:
        """List the kernels that nobody has ended or asked to end; or those with a shim."""
        return [
            name
            for name, model in self.models.items()
            if model.kernel and not model.exits_by and not model.ending
            if model.shim_lives or not shim
        ]

    def one(self, pick: int, *, shim: bool = False) -> str:
        """Choose one of them by a number, so that what Hypothesis draws depends on nothing."""
        running = self.running(shim=shim)
        return running[pick % len(running)]

    def check_exit(self, name: str, model: Model) -> None:
        last = self.daemon.info(name)["last_exit"]
        assert last["signal"] == (model.exits_by if model.shim_lives else None)

    def leftovers(self) -> list[int]:
        """List the kernel processes that live, by their connection file."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "status"]):
            line = process.info["cmdline"] or []
            ours = any(part.startswith(f"{self.daemon.runtime}/kernel-") for part in line)
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.info["pid"])
        return found


SEQUENCES = int(os.environ.get("KCONND_SEQUENCES", "30"))
AnyOrder.TestCase.settings = settings(
    max_examples=SEQUENCES,
    stateful_step_count=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # to shrink takes longer than to read what it did
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
TestAnyOrder = pytest.mark.timeout(20 * SEQUENCES)(AnyOrder.TestCase)
