"""Kernels forked from a parent that has ipykernel imported: ready in the blink of an eye.

The parent, `kconnd.programs.zygote`, is a process of the profile's own interpreter. It forks a
shim, which does for its kernel what any shim does; so all but the launch goes as with
`LocalLauncher`. What cannot be forked is launched cold, and the handle says why.
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kconnd.core.launch.forking import (
    Parent,
    choose_open_files,
    choose_parent,
    pause_after,
    wants_more_files,
)
from kconnd.core.launch.kernelspec_file import python_module
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import LockedError
from kconnd.launchers.base import Handle, Launcher
from kconnd.launchers.local import MOMENT, LocalLauncher, begun
from kconnd.launchers.shim_plan import (
    INITIAL_FILE_LIMITS,
    set_file_limits,
    plan_records,
    still_there,
)
from kconnd.programs.zygote import main as zygote
from kconnd.programs.zygote import staleness
from kconnd.system.files.private import take_lock
from kconnd.system.process.cgroups import kernels_own

FORK = "fork"
LATELY = 0.1  # seconds after a fork in which the next is one of many
MOST = 8  # parents of one daemon; the one that was used longest ago makes room for the next

log = logging.getLogger("kconnd")

Confine = Callable[[LaunchPlan, int], Mapping[str, float]]


class UnforkableError(Exception):
    """Why a kernel is launched cold instead."""


class StaleError(Exception):
    """Why it takes another parent."""


@dataclass(frozen=True)
class Refusal:
    """Why nothing can be forked from a parent, for now.

    Parameters
    ----------
    why : str
        The reason.
    until : float
        When it is to be tried again in any case.
    seen : mapping
        The state of files that it depends on.
    """

    why: str
    until: float
    seen: Mapping[str, list[int] | None] = field(default_factory=dict)

    def holds(self, now: float) -> bool:
        """Tell whether to try again would be in vain."""
        return now < self.until and all(
            staleness.signature(place) == before for place, before in self.seen.items()
        )


@dataclass(frozen=True)
class Patience:
    """How many seconds a parent gets.

    Parameters
    ----------
    importing : float
        To import what it was told.
    answering : float
        To fork, once it is ready.
    clock : callable
        Tells the time.
    """

    importing: float = 60.0
    answering: float = MOMENT
    clock: Callable[[], float] = time.monotonic


class ForkLauncher(LocalLauncher):
    """Launches kernels by fork, where that gives the same as a start.

    Parameters
    ----------
    folder : Path
        Private; the compiled shim is kept there.
    cold : Launcher
        Launches what cannot be forked.
    confine : callable, optional
        Puts a shim, given by its pid, where the plan's limits hold for it and its kernel, and
        gives those that do.
    patience : Patience
        With parents.
    """

    def __init__(
        self,
        folder: Path,
        cold: Launcher,
        confine: Confine | None = None,
        patience: Patience = Patience(),
    ) -> None:
        super().__init__(folder)
        self._cold, self._confine, self._patience = cold, confine, patience
        self._parents: dict[Parent, Zygote] = {}
        self._choosing = threading.Lock()

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Fork a shim with this plan; see `Launcher`."""
        try:
            facts, trouble = await asyncio.to_thread(self._fork, plan)
        except UnforkableError as error:
            handle = await self._cold.launch(plan)
            return replace(handle, note=f"not forked: {error}")
        handle = await begun({"launcher": FORK, **facts}, plan, trouble)
        own = self._confine is not None
        return replace(handle, cgroup=kernels_own(handle.shim.pid)) if own else handle

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Read what the shim recorded; see `Launcher`."""
        found = await super().find(facts, exit_file, lock)
        return found and replace(found, launcher=FORK)

    async def prepare(self, plan: LaunchPlan) -> None:
        """Have the parent of such a kernel ready before somebody waits for one."""
        with contextlib.suppress(UnforkableError, StaleError):  # the launch will say so
            await asyncio.to_thread(lambda: self._parent(plan).wait_until_ready())

    def expect(self, asked: int) -> None:
        """Have the parent that was used last see meanwhile whether it is as on disk still."""
        for parent in list(self._parents.values())[-1:]:
            parent.expect(asked)

    def close(self) -> None:
        """Let all parents end; no kernel is touched."""
        for parent in self._parents.values():
            parent.close()
        self._parents.clear()

    def _fork(self, plan: LaunchPlan) -> tuple[dict[str, Any], str]:
        if wants_more_files(plan.limits, INITIAL_FILE_LIMITS):
            raise UnforkableError(
                f"open_files: its parent may have {INITIAL_FILE_LIMITS[1]} at most"
            )
        try:
            lock = take_lock(Path(plan.files.lock), f"a shim of kernel {plan.name}")
        except LockedError as error:
            raise still_there(plan, error.message) from error
        try:
            Path(plan.files.exit).unlink(missing_ok=True)
            return self._fork_from_fresh(plan, lock)
        finally:
            os.close(lock)

    def _fork_from_fresh(self, plan: LaunchPlan, lock: int) -> tuple[dict[str, Any], str]:
        """Fork from a parent, or from a new one where the first is of no use any more."""
        for _ in range(2):
            parent = self._parent(plan)
            try:
                return self._exchange(parent, plan, lock)
            except StaleError as error:
                self._dismiss(parent)
                why = str(error)
                log.info("%s: forking it from a new parent: %s", plan.name, why)
        raise UnforkableError(f"{why}; and so it was with the parent before")

    def _exchange(
        self, parent: "Zygote", plan: LaunchPlan, lock: int
    ) -> tuple[dict[str, Any], str]:
        """Have a shim forked, and speak with it as with one that was spawned.

        The pipes are for this one alone: what an earlier parent forks late gets no plan.
        """
        plan_read, plan_write = os.pipe()
        answer_read, answer_write = os.pipe()
        asked = plan.asked or time.monotonic_ns()
        with os.fdopen(plan_write, "wb") as sending, os.fdopen(answer_read, "rb") as hearing:
            try:
                confines = self._confine is not None
                shim = parent.fork(asked, (plan_read, answer_write, lock), confines=confines)
            finally:
                os.close(plan_read)
                os.close(answer_write)
            # It waits for its plan; a child that it has already gets what it has by then.
            limits = plan.limits if self._confine is None else self._confine(plan, shim)
            set_file_limits(shim, choose_open_files(limits, INITIAL_FILE_LIMITS))
            with contextlib.suppress(BrokenPipeError):  # it died: what it said is all there is
                sending.write(b"".join(_records(plan, confined=self._confine is not None)))
                sending.close()
            line, _, trouble = hearing.read().decode(errors="replace").partition("\n")
        if not line:
            raise UnforkableError("the forked shim ended without a word")
        return json.loads(line), trouble

    def _parent(self, plan: LaunchPlan) -> "Zygote":
        wanted = choose_parent(plan.argv, plan.env, plan.cwd, plan.preload)
        if isinstance(wanted, str):
            raise UnforkableError(wanted)
        with self._choosing:
            found = self._parents.pop(wanted, None)
            if found is not None and not found.is_of_use():
                found.close()
                found = None
            if found is None:
                found = Zygote(wanted, self._patience)
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
    patience : Patience
        With it.

    Raises
    ------
    UnforkableError
        If it cannot be started.
    """

    def __init__(self, what: Parent, patience: Patience) -> None:
        self.what, self._patience = what, patience
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._speaking = threading.Lock()
        self._ready = self._closed = False
        self._refusal: Refusal | None = None
        self._begun = patience.clock()
        self._asked = -math.inf  # when it was to fork
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

    def is_of_use(self) -> bool:
        """Tell whether to ask it makes sense: it is ready, or will say, or refuses still."""
        if self._refusal is not None:
            return self._refusal.holds(self._patience.clock())
        return not self._ready or self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until it has imported everything.

        Raises
        ------
        UnforkableError
            If it cannot be forked.
        StaleError
            If it was closed meanwhile.
        """
        with self._speaking:
            self._hear_of_readiness()

    def expect(self, asked: int) -> None:
        """Have it look at the disk now, unless it has other things to do; see `fork`.

        Where it has forked a moment ago, it looks when it is asked: many are started at once.
        """
        lately = self._patience.clock() - self._asked < LATELY
        if lately or not self._speaking.acquire(blocking=False):
            return
        try:
            if self._ready:
                self._link.settimeout(0)
                self._link.send(json.dumps({"ahead": True, "asked": asked}).encode())
        except OSError:
            pass  # it has died, which the fork will tell
        finally:
            self._speaking.release()

    def fork(self, asked: int, descriptors: tuple[int, int, int], *, confines: bool) -> int:
        """Have a shim forked.

        Parameters
        ----------
        asked : int
            When the kernel was asked for, in nanoseconds of the monotonic clock: it is forked
            from what was on disk then, or later.
        descriptors : tuple of int
            Those that the shim gets; see `kconnd.programs.zygote.main`.
        confines : bool
            Whether the shim is put into a control group of its own before it gets its plan.

        Returns
        -------
        int
            The shim's pid; it waits for its plan.

        Raises
        ------
        UnforkableError
            If it cannot be forked.
        StaleError
            If the parent is not what a start would be any more, or has died.
        """
        with self._speaking:
            self._hear_of_readiness()
            self._asked = self._patience.clock()
            try:
                self._link.settimeout(self._patience.answering)
                message = json.dumps({"asked": asked, "confines": confines}).encode()
                socket.send_fds(self._link, [message], descriptors)
                told = self._hear()
            except TimeoutError:
                within = f"within {self._patience.answering:g} s"
                raise StaleError(f"its parent did not fork {within}") from None
            except OSError:
                told = {}
        if "failed" in told:
            raise UnforkableError(f"forking: {told['failed']}")
        if "shim" not in told:
            changed = "stale" in told
            raise StaleError(f"{told['stale']} has changed" if changed else "its parent has died")
        return int(told["shim"])

    def close(self) -> None:
        """End it, whatever it does; what it has forked is not touched."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)  # wakes the one that listens
        self._process.kill()
        threading.Thread(target=self._see_it_end, daemon=True).start()

    def _see_it_end(self) -> None:
        with self._speaking:  # nobody is to read from what gets this number next
            self._link.close()
        self._process.wait()

    def _hear_of_readiness(self) -> None:
        if not (self._ready or self._refusal):
            told = self._first_word()
            self._ready = "ready" in told
            if not self._ready:
                now = self._patience.clock()
                until = now + pause_after(now - self._begun)
                self._refusal = Refusal(str(told["refused"]), until, told.get("seen", {}))
                self.close()
        if self._refusal:
            raise UnforkableError(self._refusal.why)

    def _first_word(self) -> dict[str, Any]:
        """Wait for what it says when it has imported everything."""
        try:
            self._link.settimeout(self._patience.importing)
            told = self._hear()
        except TimeoutError:
            within = f"within {self._patience.importing:g} s"
            return {"refused": f"its parent did not get ready {within}"}
        except OSError:
            told = {}
        if self._closed:
            raise StaleError("its parent was dismissed")
        if told:
            return told
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(self._patience.answering)
            return {"refused": f"its parent ended with code {code} while importing"}
        return {"refused": "its parent hung up while importing"}

    def _hear(self) -> dict[str, Any]:
        text = self._link.recv(zygote.MESSAGE)
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:  # it has died, or what it says is cut off
            return {}
        return found


def _records(plan: LaunchPlan, *, confined: bool) -> Iterator[bytes]:
    """Give the plan with what the zygote needs to know besides."""
    found = python_module(plan.argv)
    assert found is not None  # noqa: S101  # else there was no parent
    more = [("module_at", str(len(plan.argv) - len(found.args) - 1))]
    if confined:
        more.append(("cgroup", "1"))
    return plan_records(plan, *more)
