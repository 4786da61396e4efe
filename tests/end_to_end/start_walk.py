"""Follows one start through a real daemon: which rooms it enters, and what it costs.

As a program, ``start_walk.py REPORT ARGUMENTS...`` runs ``kconnd ARGUMENTS...`` with a profile
function (`sys.setprofile`) in all threads. It records from the head of the first request for
``.../start`` until its reply has been written, and then writes what it has recorded to REPORT.

A room is a folder of ``kconnd/``, such as ``daemon/kernel``. A room is entered when one of its
functions is called, or resumed, by another room or by the event loop. The daemon's rounds are not
recorded, since they are under way whether anything starts or not; nor is the polling for the
kernel's sockets, which takes as many turns as the kernel needs; nor is what threads do, which may
be work of the rounds.
"""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.end_to_end.daemon import Daemon

PACKAGE = str(Path(__file__).parents[2] / "kconnd") + "/"
LOOP = "event loop"
LOOP_RUNNER = ("daemon/main", "main")
# These only run what they are given; the last one is resumed at each poll of the kernel's sockets.
WRAPPERS = frozenset({"keep_going", "keep_warm", "_guard", "_first_answer"})
ROUNDS = frozenset({"daemon/tasks", "daemon/warm"})
SOCKETS = "system/channels"
THREADS = "system/hung_calls"  # of the rounds, too, from which they cannot be told
POLLING = frozenset(
    {"find_fault", "_explain_silence", "_first_beats", "ask_until_answered", "watch"}
)
COUNTED = {
    "Store.save": "records written",
    "installed_names": "scans of Jupyter's folders",
    "Catalog.find": "catalog questions",
}
VALIDATING = frozenset({"BaseModel.__init__", "BaseModel.model_validate"})
FLOORS = ("core", "system", "launchers", "daemon")  # from the lowest

Step = tuple[str, str, str]  # a module, the module that it calls, and the function


@dataclass(frozen=True)
class Walk:
    """What was recorded.

    Parameters
    ----------
    steps : list of Step
        Each entry into a room.
    counts : mapping
        How often something was done that costs time.
    """

    steps: list[Step]
    counts: dict[str, int]

    def figures(self) -> dict[str, int]:
        """Sum the walk up, to be compared with what is stored."""
        rooms = [room_of(callee) for _, callee, _ in self.steps]
        again = [step for step in self.steps if step[0] == LOOP or is_upward(step)]
        return {
            **self.counts,
            "rooms entered": len(set(rooms)),
            "rooms re-entered": len(again) - 1,
        }

    def __str__(self) -> str:
        lines = [f"{caller:32} → {callee:32} {name}" for caller, callee, name in self.steps]
        return "\n".join([*lines, json.dumps(self.figures(), indent=1)])


def room_of(module: str) -> str:
    """Name the folder of a module."""
    return module.rpartition("/")[0]


def is_upward(step: Step) -> bool:
    """Tell whether a module calls one of a higher floor."""
    caller, callee = (FLOORS.index(module.partition("/")[0]) for module in step[:2])
    return callee > caller


@cache
def module_of(file: str) -> str:
    """Name the module of a source file; ``""`` for what is none of the recorded floors."""
    module = file.removeprefix(PACKAGE).removesuffix(".py")
    return module if module.partition("/")[0] in FLOORS and module != file else ""


class Recorder:
    """Records the walk of one start; `profile` is for `sys.setprofile`.

    Parameters
    ----------
    report : Path
        Gets the walk.
    """

    def __init__(self, report: Path) -> None:
        self._report = report
        self._recording = self._done = False
        self._steps: list[Step] = []
        self._counts = dict.fromkeys((*COUNTED.values(), "profiles validated"), 0)

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        """Take an event of the interpreter."""
        name = frame.f_code.co_qualname
        if event == "call" and not self._done:
            if not self._recording:
                self._recording = name == "Exchange.headers_received" and _is_start(frame)
            if self._recording:
                self._record(frame, name)
        elif event == "return" and self._recording and name == "Exchange._finish":
            self._recording, self._done = False, True
            text = json.dumps([self._steps, self._counts])
            part = self._report.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.rename(self._report)

    def _record(self, frame: FrameType, name: str) -> None:
        if name in COUNTED:
            self._counts[COUNTED[name]] += 1
        if name in VALIDATING:
            self._counts["profiles validated"] += 1
        callee = module_of(frame.f_code.co_filename)
        if not callee or name == "<module>" or frame.f_code.co_name in WRAPPERS:
            return
        callers = list(_callers(frame))
        caller = callers[0][0] if callers else LOOP
        if caller != LOOP and room_of(caller) == room_of(callee):
            return
        chain = [(callee, frame.f_code.co_name), *callers]
        root = chain[-1][0]
        if (
            root == THREADS
            or room_of(root) in {*ROUNDS, SOCKETS}
            or any(code in POLLING for _, code in chain)
        ):
            return
        self._steps.append((caller, callee, name))


def _callers(frame: FrameType) -> Iterator[tuple[str, str]]:
    """List the modules and functions that called a frame, the nearest first."""
    above = frame.f_back
    while above is not None:
        module, name = module_of(above.f_code.co_filename), above.f_code.co_name
        if (module, name) == LOOP_RUNNER:
            return
        if module and name not in WRAPPERS:
            yield module, name
        above = above.f_back


def _is_start(frame: FrameType) -> bool:
    return str(frame.f_locals["start_line"].path).endswith("/start")


def recorded(daemon: "Daemon", report: Path) -> "Daemon":
    """Have a daemon record its first start, once it runs."""
    daemon.program = (sys.executable, "-W", "error", __file__, str(report))
    return daemon


def read_walk(report: Path) -> Walk:
    """Read what a daemon has recorded."""
    steps, counts = json.loads(report.read_bytes())
    return Walk([(caller, callee, name) for caller, callee, name in steps], counts)


def main() -> int:
    """Run the daemon, recorded."""
    report, *arguments = sys.argv[1:]
    from kconnd.daemon.main import main as kconnd  # noqa: PLC0415  # imports are no part of a walk

    recorder: Any = Recorder(Path(report))
    threading.setprofile(recorder.profile)
    sys.setprofile(recorder.profile)
    return kconnd(arguments)


if __name__ == "__main__":
    sys.exit(main())
