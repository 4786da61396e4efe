"""Which launcher a kernel gets, and which one a handle belongs to."""

from collections.abc import Callable, Mapping

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Exit, Handle, Launcher


class Launchers:
    """All the launchers of a daemon, as one.

    Parameters
    ----------
    known : mapping
        By name; the first is the one that ``auto`` means.
    check : callable
        Raises StartFailedError for the name of one that may not be used now.
    """

    def __init__(
        self, known: Mapping[str, Launcher], check: Callable[[str], object] = lambda _name: None
    ) -> None:
        self._known = known
        self._check = check
        self._default = next(iter(known))

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Launch with what the plan names."""
        return await self._for(plan).launch(plan)

    async def prepare(self, plan: LaunchPlan) -> None:
        """Do ahead of time what makes a launch of this kind quick."""
        await self._for(plan).prepare(plan)

    def expect(self, asked: int) -> None:
        """Hear that a kernel was asked for; nobody knows yet which launcher it is for."""
        for launcher in self._known.values():
            launcher.expect(asked)

    def _for(self, plan: LaunchPlan) -> Launcher:
        name = self._default if plan.launcher == "auto" else plan.launcher
        launcher = self._known.get(name)
        if launcher is None:
            raise StartFailedError(
                f"launching {plan.name}: the launcher {name} is not to be had here",
                hint=f"there is {', '.join(self._known)}; the profile's 'launcher' names one",
            )
        self._check(name)
        return launcher

    async def wait(self, handle: Handle) -> Exit:
        """Wait until every process of the kernel is gone."""
        return await self._of(handle).wait(handle)

    async def stop(self, handle: Handle, step: Step) -> None:
        """Take one of the steps of a stop that go by signal."""
        await self._of(handle).stop(handle, step)

    async def signal(self, handle: Handle, number: int) -> None:
        """Signal the kernel and its process group."""
        await self._of(handle).signal(handle, number)

    async def adopt(self, handle: Handle) -> str:
        """Prove that the kernel is still there and still ours."""
        return await self._of(handle).adopt(handle)

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find what was launched; every shim leaves the same facts."""
        return await self._known[self._default].find(facts, exit_file, lock)

    def _of(self, handle: Handle) -> Launcher:
        return self._known.get(handle.launcher, self._known[self._default])
