"""Kernels forked from a parent that has ipykernel imported: ready in the blink of an eye.

The parent, `kconnd.zygote`, is a process of the profile's own interpreter. It forks a shim,
which does for its kernel what any shim does; so all but the launch goes as with
`LocalLauncher`. What cannot be forked is launched cold, and the handle says why.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kconnd import zygote
from kconnd.core.forking import Parent, choose_parent
from kconnd.core.kernelspec import python_module
from kconnd.core.plan import LaunchPlan
from kconnd.errors import LockedError
from kconnd.launchers.base import Handle, Launcher
from kconnd.launchers.local import MOMENT, LocalLauncher, begun, plan_records, still_there
from kconnd.system.files import take_lock

FORK = "fork"
IMPORTING = 60.0  # seconds that a parent may take to import what it was told
MOST = 8  # parents of one daemon; the one that was used longest ago makes room for the next

Confine = Callable[[LaunchPlan, int], None]


class UnforkableError(Exception):
    """Why a kernel is launched cold instead."""


class ForkLauncher(LocalLauncher):
    """Launches kernels by fork, where that gives the same as a start.

    Parameters
    ----------
    folder : Path
        Private; the compiled shim is kept there.
    cold : Launcher
        Launches what cannot be forked.
    confine : callable, optional
        Puts a shim, given by its pid, where the plan's limits hold for it and its kernel.
    """

    def __init__(self, folder: Path, cold: Launcher, confine: Confine | None = None) -> None:
        super().__init__(folder)
        self._cold, self._confine = cold, confine
        self._parents: dict[Parent, Zygote] = {}
        self._choosing = threading.Lock()

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Fork a shim with this plan; see `Launcher`."""
        try:
            facts, trouble = await asyncio.to_thread(self._fork, plan)
        except UnforkableError as error:
            handle = await self._cold.launch(plan)
            return replace(handle, note=f"not forked: {error}")
        return await begun({"launcher": FORK, **facts}, plan, trouble)

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Read what the shim recorded; see `Launcher`."""
        found = await super().find(facts, exit_file, lock)
        return found and replace(found, launcher=FORK)

    async def prepare(self, plan: LaunchPlan) -> None:
        """Have the parent of such a kernel ready before somebody waits for one."""
        with contextlib.suppress(UnforkableError):  # the launch will say so
            await asyncio.to_thread(lambda: self._parent(plan).wait_until_ready())

    def close(self) -> None:
        """Let all parents end; no kernel is touched."""
        for parent in self._parents.values():
            parent.close()
        self._parents.clear()

    def _fork(self, plan: LaunchPlan) -> tuple[dict[str, Any], str]:
        try:
            lock = take_lock(Path(plan.lock), f"a shim of kernel {plan.name}")
        except LockedError as error:
            raise still_there(plan, error.message) from error
        try:
            Path(plan.exit).unlink(missing_ok=True)
            return self._exchange(plan, lock)
        finally:
            os.close(lock)

    def _exchange(self, plan: LaunchPlan, lock: int) -> tuple[dict[str, Any], str]:
        """Have a shim forked, and speak with it as with one that was spawned."""
        plan_read, plan_write = os.pipe()
        answer_read, answer_write = os.pipe()
        with os.fdopen(plan_write, "wb") as sending, os.fdopen(answer_read, "rb") as hearing:
            try:
                shim = self._fork_from_fresh(plan, (plan_read, answer_write, lock))
            finally:
                os.close(plan_read)
                os.close(answer_write)
            if self._confine is not None:
                self._confine(plan, shim)  # it waits for its plan, and has no child yet
            with contextlib.suppress(BrokenPipeError):  # it died: what it said is all there is
                sending.write(b"".join(_records(plan, confined=self._confine is not None)))
                sending.close()
            line, _, trouble = hearing.read().decode(errors="replace").partition("\n")
        if not line:
            raise UnforkableError("the forked shim ended without a word")
        return json.loads(line), trouble

    def _fork_from_fresh(self, plan: LaunchPlan, descriptors: tuple[int, int, int]) -> int:
        """Fork from a parent, or from a new one where a file that it imported has changed."""
        for _ in range(2):
            parent = self._parent(plan)
            shim = parent.fork(descriptors)
            if shim is not None:
                return shim
            self._dismiss(parent)
        raise UnforkableError("what its parent imports changes all the time")

    def _parent(self, plan: LaunchPlan) -> "Zygote":
        wanted = choose_parent(plan.argv, plan.env, plan.preload)
        if isinstance(wanted, str):
            raise UnforkableError(wanted)
        with self._choosing:
            found = self._parents.pop(wanted, None)
            if found is None or not found.alive:
                found = Zygote(wanted)
            self._parents[wanted] = found  # the last one is the one used last
            while len(self._parents) > MOST:
                self._parents.pop(next(iter(self._parents))).close()
        return found

    def _dismiss(self, parent: "Zygote") -> None:
        with self._choosing:
            if self._parents.get(parent.what) is parent:
                del self._parents[parent.what]
        parent.close()


class Zygote:
    """A parent process, seen from here.

    Parameters
    ----------
    what : Parent
        What it is to be.

    Raises
    ------
    UnforkableError
        If it cannot be started.
    """

    def __init__(self, what: Parent) -> None:
        self.what = what
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._speaking = threading.Lock()
        self._ready = False
        self._refusal = ""
        number = theirs.fileno()
        try:
            self._process = subprocess.Popen(
                [*what.command, zygote.__file__, str(number), *what.preload, " " * zygote.PADDING],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[number],
                cwd="/",
                env=dict(what.env),
                start_new_session=True,
            )
        except OSError as error:
            self._link.close()
            raise UnforkableError(f"running {what.command[0]}: {error.strerror}") from error
        finally:
            theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it has not ended; one that refuses for a lasting reason counts as alive."""
        return bool(self._refusal) or self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until it has imported everything.

        Raises
        ------
        UnforkableError
            If it cannot be forked.
        """
        with self._speaking:
            self._hear_of_readiness()

    def fork(self, descriptors: tuple[int, int, int]) -> int | None:
        """Have a shim forked; None where the parent is not what a start would be any more.

        Returns
        -------
        int, optional
            The shim's pid; it waits for its plan.
        """
        with self._speaking:
            self._hear_of_readiness()
            self._link.settimeout(MOMENT)
            try:
                socket.send_fds(self._link, [b"{}"], descriptors)
                told = self._hear()
            except OSError:
                return None  # it has died meanwhile
        return told.get("shim")

    def close(self) -> None:
        """Let it end; what it has forked is not touched."""
        self._link.close()
        threading.Thread(target=self._process.wait, daemon=True).start()

    def _hear_of_readiness(self) -> None:
        if not (self._ready or self._refusal):
            self._link.settimeout(IMPORTING)
            try:
                told = self._hear()
            except TimeoutError:
                self._process.kill()
                told = {"refused": f"its parent did not get ready within {IMPORTING:g} s"}
            except OSError as error:
                told = {"refused": f"speaking with its parent: {error}"}
            self._ready = "ready" in told
            if not self._ready:
                code = self._process.wait()
                ended = f"its parent ended with code {code} while importing"
                self._refusal = str(told.get("refused", ended))
        if self._refusal:
            raise UnforkableError(self._refusal)

    def _hear(self) -> dict[str, Any]:
        text = self._link.recv(zygote.MESSAGE)
        found: dict[str, Any] = json.loads(text) if text else {}
        return found


def _records(plan: LaunchPlan, *, confined: bool) -> Iterator[bytes]:
    """Give the plan with what the zygote needs to know besides."""
    found = python_module(plan.argv)
    assert found is not None  # noqa: S101  # else there was no parent
    more = [("module_at", str(len(plan.argv) - len(found.args) - 1))]
    if confined:
        more.append(("cgroup", "1"))
    if "open_files" in plan.limits:
        more.append(("open_files", str(int(plan.limits["open_files"]))))
    return plan_records(plan, *more)
