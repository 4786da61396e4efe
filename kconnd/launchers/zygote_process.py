"""The daemon's side of one zygote: spawns it, waits until it is ready, and requests forks.

A `ZygoteProcess` uses the protocol that `kconnd.programs.zygote.main` documents, over a socket that
only one thread at a time uses. A zygote ends in one of three ways. If the zygote refuses to fork,
`UnforkableError` is raised, and the refusal is valid until a file changes or a time has passed. If
the zygote is stale or does not answer, `StaleError` is raised, and a new zygote replaces it.
Otherwise, `close` kills the zygote. In all three cases, the kernels of the zygote keep running.
"""

import contextlib
import json
import logging
import math
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kconnd.core.launch.forking import Parent, refusal_time_s
from kconnd.launchers.local import SHIM_START_LIMIT_S
from kconnd.programs.zygote import main as zygote_program
from kconnd.programs.zygote import staleness

BURST_INTERVAL_S = 0.1  # requests at shorter intervals count as concurrent starts

log = logging.getLogger("kconnd")


class UnforkableError(Exception):
    """The reason why a kernel is launched cold instead of forked."""


class StaleError(Exception):
    """The reason why a kernel needs another zygote."""


@dataclass(frozen=True)
class Refusal:
    """The reason why a zygote refuses to fork, and how long the refusal is valid.

    Parameters
    ----------
    reason : str
        The zygote's reason.
    retry_at : float
        The time at which the refusal expires in any case, in seconds of the clock of
        `ZygoteTimeouts`.
    signatures : mapping
        The signatures of the files that may have caused the refusal, by path. The refusal expires
        when a file has another signature.
    """

    reason: str
    retry_at: float
    signatures: Mapping[str, list[int] | None] = field(default_factory=dict)

    def holds(self, now: float) -> bool:
        """Return whether the refusal is still valid; if so, a new zygote would refuse as well."""
        return now < self.retry_at and all(
            staleness.signature(path) == before for path, before in self.signatures.items()
        )


@dataclass(frozen=True)
class ZygoteTimeouts:
    """The time limits of the daemon for a zygote.

    Parameters
    ----------
    import_s : float
        The limit for the import of the zygote's modules.
    reply_s : float
        The limit for the reply to a request, after the zygote is ready.
    clock : callable
        A function that returns the present time in seconds.
    """

    import_s: float = 60.0
    reply_s: float = SHIM_START_LIMIT_S
    clock: Callable[[], float] = time.monotonic


DEFAULT_TIMEOUTS = ZygoteTimeouts()


class ZygoteProcess:
    """A zygote process and the socket to it.

    Parameters
    ----------
    spec : Parent
        The interpreter, environment and modules of the zygote.
    timeouts : ZygoteTimeouts
        The time limits for the zygote.

    Raises
    ------
    UnforkableError
        If the interpreter cannot be run.
    """

    def __init__(self, spec: Parent, timeouts: ZygoteTimeouts) -> None:
        self.spec, self._timeouts = spec, timeouts
        self._socket, zygote_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._exchange_lock = threading.Lock()
        self._ready = self._closed = False
        self._refusal: Refusal | None = None
        self._spawned_at = timeouts.clock()
        self._last_fork_at = -math.inf
        descriptor = zygote_end.fileno()
        title_room = " " * zygote_program.TITLE_BYTES
        try:
            self._process = subprocess.Popen(
                [
                    *spec.command,
                    zygote_program.__file__,
                    str(descriptor),
                    *spec.preload,
                    title_room,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[descriptor],
                cwd="/",
                env=dict(spec.env),
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise UnforkableError(f"running {spec.command[0]}: {error.strerror}") from error
        finally:
            zygote_end.close()

    def is_usable(self) -> bool:
        """Return whether to use this zygote instead of a new zygote.

        A zygote is usable if it is importing or ready. A zygote that has refused to fork is usable
        while its refusal is valid, because a new zygote would refuse as well.
        """
        if self._refusal is not None:
            return self._refusal.holds(self._timeouts.clock())
        return not self._ready or self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until the zygote has imported its modules.

        Raises
        ------
        UnforkableError
            If the zygote refuses to fork.
        StaleError
            If the zygote was closed in the meantime.
        """
        with self._exchange_lock:
            self._receive_readiness()

    def announce(self, requested_at_ns: int) -> None:
        """Let the zygote check for changed files now, before the request for a fork arrives.

        The announcement is omitted if the zygote is busy or not ready. It is also omitted during a
        series of starts, because the request then follows soon.
        """
        in_burst = self._timeouts.clock() - self._last_fork_at < BURST_INTERVAL_S
        if in_burst or not self._exchange_lock.acquire(blocking=False):
            return
        try:
            if self._ready:
                self._socket.settimeout(0)
                self._socket.send(json.dumps({"ahead": True, "asked": requested_at_ns}).encode())
        except OSError:
            pass  # the zygote has died; `fork` reports this
        finally:
            self._exchange_lock.release()

    def fork(
        self, requested_at_ns: int, descriptors: tuple[int, int, int], *, confines: bool
    ) -> int:
        """Let the zygote fork a shim.

        Parameters
        ----------
        requested_at_ns : int
            The time of the request, in nanoseconds of the monotonic clock. The kernel's
            modules are those of the files on disk at this time, or later ones.
        descriptors : tuple of int
            The descriptors to send to the shim; see `kconnd.programs.zygote.main`.
        confines : bool
            Whether the shim is moved into its own control group before it gets its plan.

        Returns
        -------
        int
            The shim's pid; the shim waits for its plan.

        Raises
        ------
        UnforkableError
            If the zygote refuses to fork or cannot fork.
        StaleError
            If the zygote has died, or if a new process would import other modules than the zygote
            has imported.
        """
        with self._exchange_lock:
            self._receive_readiness()
            self._last_fork_at = self._timeouts.clock()
            try:
                self._socket.settimeout(self._timeouts.reply_s)
                message = json.dumps({"asked": requested_at_ns, "confines": confines}).encode()
                socket.send_fds(self._socket, [message], descriptors)
                reply = self._receive()
            except TimeoutError:
                limit = f"{self._timeouts.reply_s:g} s"
                raise StaleError(f"its zygote did not fork within {limit}") from None
            except OSError:
                reply = {}
        if "failed" in reply:
            raise UnforkableError(f"forking: {reply['failed']}")
        if "stale" in reply:
            raise StaleError(f"{reply['stale']} has changed")
        if "shim" not in reply:
            raise StaleError("its zygote has died")
        return int(reply["shim"])

    def close(self) -> None:
        """Kill the zygote, even during imports and forks; its kernels keep running."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            # This call wakes the thread that waits for a message.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._process.kill()
        threading.Thread(target=self._reap, daemon=True).start()

    def _reap(self) -> None:
        # The socket is closed after other threads have stopped reading. If it were closed earlier,
        # other code could reuse the number of its descriptor.
        with self._exchange_lock:
            self._socket.close()
        self._process.wait()

    def _receive_readiness(self) -> None:
        if not (self._ready or self._refusal):
            message = self._first_message()
            self._ready = "ready" in message
            if self._ready:
                self._log_skipped(message.get("skipped", []))
            else:
                self._refuse(message)
        if self._refusal:
            raise UnforkableError(self._refusal.reason)

    def _log_skipped(self, optimizations: list[str]) -> None:
        python = self.spec.command[0]
        for optimization in optimizations:
            log.warning(
                "zygote of %s: skipped %s; its kernels work, but start slower or take more memory",
                *(python, optimization),
            )

    def _refuse(self, message: Mapping[str, Any]) -> None:
        now = self._timeouts.clock()
        retry_at = now + refusal_time_s(now - self._spawned_at)
        self._refusal = Refusal(str(message["refused"]), retry_at, message.get("seen", {}))
        self.close()

    def _first_message(self) -> dict[str, Any]:
        """Wait for the zygote's first message, which it sends after it has imported its modules."""
        try:
            self._socket.settimeout(self._timeouts.import_s)
            message = self._receive()
        except TimeoutError:
            limit = f"{self._timeouts.import_s:g} s"
            return {"refused": f"its zygote was not ready within {limit}"}
        except OSError:
            message = {}
        if self._closed:
            raise StaleError("its zygote was closed")
        return message or {"refused": self._why_silent()}

    def _why_silent(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(self._timeouts.reply_s)
            return f"its zygote exited with status {status} while importing"
        return "its zygote closed its socket while importing"

    def _receive(self) -> dict[str, Any]:
        text = self._socket.recv(zygote_program.MAX_MESSAGE_BYTES)
        try:
            message: dict[str, Any] = json.loads(text)
        except ValueError:  # the zygote has died, or the message is truncated
            return {}
        return message
