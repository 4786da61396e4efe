"""Choose the launcher for a plan, and find the launcher of a handle."""

from collections.abc import Callable, Mapping

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan, unavailable_launcher
from kconnd.launchers.base import ExitStatus, Handle, Launcher


class Launchers:
    """All launchers of a daemon, with the interface of a single launcher.

    Parameters
    ----------
    launchers : mapping
        The launchers by name; ``auto`` means the first.
    check : callable
        A function that raises StartFailedError for the name of a launcher that may not be used now.
    """

    def __init__(
        self,
        launchers: Mapping[str, Launcher],
        check: Callable[[str], object] = lambda _name: None,
    ) -> None:
        self._launchers = launchers
        self._check = check
        self._default = next(iter(launchers))

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Launch with the launcher that the plan names."""
        return await self._for(plan).launch(plan)

    async def prepare(self, plan: LaunchPlan) -> None:
        """Do work in advance that makes a later launch of a similar plan fast."""
        await self._for(plan).prepare(plan)

    def expect(self, requested_at_ns: int) -> None:
        """Announce a launch to all launchers, because its launcher is not known yet."""
        for launcher in self._launchers.values():
            launcher.expect(requested_at_ns)

    def _for(self, plan: LaunchPlan) -> Launcher:
        name = self._default if plan.launcher == "auto" else plan.launcher
        launcher = self._launchers.get(name)
        if launcher is None:
            raise unavailable_launcher(plan.name, name, self._launchers)
        self._check(name)
        return launcher

    async def wait(self, handle: Handle) -> ExitStatus:
        """Wait until all processes of the kernel have ended."""
        return await self._of(handle).wait(handle)

    async def stop(self, handle: Handle, step: Step) -> None:
        """Take one step of a stop: send the signal of this step."""
        await self._of(handle).stop(handle, step)

    async def signal(self, handle: Handle, number: int) -> None:
        """Send a signal to the kernel and its process group."""
        await self._of(handle).signal(handle, number)

    async def adopt(self, handle: Handle) -> str:
        """Prove that the kernel is alive and that the handle's processes belong to the kernel."""
        return await self._of(handle).adopt(handle)

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find an unrecorded launch; any launcher can read the facts, which have one format."""
        return await self._launchers[self._default].find(facts, exit_file, lock)

    def _of(self, handle: Handle) -> Launcher:
        return self._launchers.get(handle.launcher, self._launchers[self._default])
