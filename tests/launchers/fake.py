"""A launcher without processes, for tests of what uses one; it passes the contract suite."""

import asyncio
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

from kconnd.core.kernel.events import Step
from kconnd.core.launch.kernel_files import KernelFiles, kernel_files
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import StartFailedError, StillRunningError
from kconnd.launchers.base import ExitStatus, Handle
from kconnd.system.process.processes import ProcessId

NOBODY = 1 << 22  # no process has a number as large (proc_sys_kernel(5), pid_max)


@dataclass
class FakeLauncher:
    """Kernels that live until they are told to end.

    A plan whose last argument is ``exit N`` ends at once with that code.
    """

    boot_id: str = "fake"
    launched: list[LaunchPlan] = field(default_factory=list)
    ignores: set[Step] = field(default_factory=set)
    hangs: bool = False
    signals: list[int] = field(default_factory=list)  # that were sent
    there: Handle | None = None  # what was launched by somebody else, and is found
    looked_at: str = ""  # the lock by which it was looked for last
    _exits: dict[int, asyncio.Future[ExitStatus]] = field(default_factory=dict)

    async def launch(self, plan: LaunchPlan) -> Handle:
        if plan.argv[0].startswith("no-such"):
            raise StartFailedError(f"launching {plan.name}: running {plan.argv[0]}", hint="install")
        if self.hangs:
            await asyncio.Event().wait()
        if self.there is not None:
            raise StillRunningError(f"launching {plan.name}: there is one", hint="stop it")
        self.launched.append(plan)
        number = len(self.launched)
        self._exits[number] = asyncio.get_running_loop().create_future()
        process = ProcessId(NOBODY + number, 1)
        word, _, code = plan.argv[-1].rpartition(" ")
        if word == "exit":
            self.end(number, ExitStatus(code=int(code)))
        return Handle("fake", plan.generation, self.boot_id, process, process, "", "")

    async def prepare(self, plan: LaunchPlan) -> None:
        pass

    def expect(self, asked: int) -> None:
        pass

    def end(self, number: int, how: ExitStatus) -> None:
        """End what was launched as the first, second and so on."""
        if not self._exits[number].done():
            self._exits[number].set_result(how)

    async def wait(self, handle: Handle) -> ExitStatus:
        return await asyncio.shield(self._exits[handle.kernel.pid - NOBODY])

    async def stop(self, handle: Handle, step: Step) -> None:
        if step not in self.ignores:
            number = signal.SIGKILL if step is Step.KILL else signal.SIGTERM
            self.end(handle.kernel.pid - NOBODY, ExitStatus(signal=number))

    async def signal(self, handle: Handle, number: int) -> None:
        self.signals.append(number)
        if number != signal.SIGINT:
            self.end(handle.kernel.pid - NOBODY, ExitStatus(signal=number))

    async def find(self, _facts: str, _exit_file: str, lock: str) -> Handle | None:
        self.looked_at = lock
        return self.there

    async def adopt(self, handle: Handle) -> str:
        lives = (
            handle.boot_id == self.boot_id and not self._exits[handle.kernel.pid - NOBODY].done()
        )
        return "its word" if lives else ""


def files_in(folder: Path, **names: str) -> KernelFiles:
    """Give the paths of a kernel's files, all in one folder, under short or given names."""
    short = {name: name for name in ("log", "facts", "exit", "lock")} | names
    paths = {name: str(folder / short[name]) for name in short}
    return replace(kernel_files(str(folder), str(folder), "k"), **paths)
