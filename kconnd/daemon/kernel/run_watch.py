"""Watches the process of a run, such as papermill, because the kernel of the run ends with it.

A run stops its kernel itself before it ends. If the run was killed, nobody else would stop the
kernel.
"""

from collections.abc import Callable

from kconnd.core.launch.notebook import Run
from kconnd.daemon.kernel.background import BackgroundTasks
from kconnd.system.process.processes import ProcessId, read_stat, wait_for_end


class RunWatch:
    """Watches the process of one kernel's run.

    Parameters
    ----------
    name : str
        The kernel's name.
    report : callable
        A function that is called when the process of the run has ended.
    """

    def __init__(self, name: str, report: Callable[[], None]) -> None:
        self._report = report
        self._tasks = BackgroundTasks(name)
        self._run: Run | None = None

    def follow(self, run: Run | None) -> None:
        """Watch a run, or nothing; a run that is watched already is not watched again."""
        if run == self._run:
            return
        self._tasks.cancel()
        self._run = run
        if run is not None and run.pid:
            self._tasks.spawn(self._wait(run))

    async def _wait(self, run: Run) -> None:
        await wait_for_end(ProcessId(run.pid, run.started), reap=False)
        self._report()


def identify_run(pid: int) -> Run:
    """Identify the process of a run; a process that has ended already is never found alive."""
    try:
        return Run(pid, read_stat(pid)[2]) if pid else Run()
    except OSError:
        return Run(pid)
