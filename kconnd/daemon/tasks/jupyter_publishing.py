"""Where Jupyter looks by itself: links to connection files by name, and external kernels.

``jupyter console --existing kernel-NAME.json`` looks in Jupyter's runtime folder; there each
live kernel has a link to its connection file. A Jupyter server lists every file in
``external_kernels`` below that as a kernel; there a kernel has one whose profile says
``publish: jupyter``. Rules. All is done by the user's own process, in the user's own folders.
A file is whole from the beginning: it is written beside that folder and moved there. Its name
is new whenever its content is, since a server reads each name once. What is not ours, by its
name and by what it is, is not touched. As kernels come and go, only what differs is looked at;
what others do to the folders is seen at the next round.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kconnd.core.kernel.lifecycle import LIVE, Desired, Lifecycle, State
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import connection_file_name, kernel_of_connection_file
from kconnd.daemon.kernel.claims import find_foreign
from kconnd.daemon.kernels import Kernels
from kconnd.system.files.private import write_private
from kconnd.system.hung_calls import BeginStep, StuckError

ROUND = 30.0  # seconds between looks whether somebody has removed something
EXTERNAL = "external_kernels"

log = logging.getLogger("kconnd")


async def publish_for_ever(kernels: Kernels, folder: Path) -> None:
    """Keep what Jupyter sees in step with the kernels that run.

    It stays when the daemon ends, since the kernels do.

    Parameters
    ----------
    folder : Path
        Jupyter's runtime folder.
    """
    published = _published(kernels, folder)
    due = 0.0
    while True:
        seen, now = kernels.world.bus.count, kernels.world.clock()
        if afresh := now >= due:
            due = now + ROUND
        what = list(_wanted(kernels)), _links(kernels)
        await _show(kernels, published, partial(published.show, *what, afresh=afresh))
        await kernels.world.bus.quiet(max(0.0, due - kernels.world.clock()), seen)


async def publish_once(kernels: Kernels, folder: Path) -> None:
    """Show what runs now, when the daemon has ended its kernels and ends itself."""
    published = _published(kernels, folder)
    what = list(_wanted(kernels)), _links(kernels)
    await _show(kernels, published, partial(published.show, *what))


def _published(kernels: Kernels, folder: Path) -> "Published":
    world = kernels.world

    def is_foreign(name: str) -> bool:
        return name in kernels.foreign or find_foreign(world, name) is not None

    return Published(folder, world.runtime_dir, world.store.origin.machine, is_foreign)


async def _show(kernels: Kernels, published: "Published", show: Callable[[], None]) -> None:
    """Write to Jupyter's folders, which can be on a file server that hangs."""

    def work(begin: BeginStep) -> None:
        begin(f"showing Jupyter the kernels in {published.folder}")
        show()

    try:
        await kernels.world.paths.run(work)
    except StuckError as error:
        published.trouble_is(str(error))


def _wanted(kernels: Kernels) -> Iterator[tuple[str, ConnectionInfo, str]]:
    """List the kernels that are to be listed by servers."""
    for actor in kernels.all():
        connection = actor.record.connection
        if connection is not None and _lasts(actor.kernel):
            name = actor.record.name
            profile = kernels.profile(name) or actor.profile  # removed ones end no listing
            if profile.publish == "jupyter":
                yield name, connection, actor.record.facts.kernel_name or name


def _lasts(kernel: Lifecycle) -> bool:
    """Tell whether a kernel is up, or has been and is about to be again.

    A restart must not take it out of a server's list: the server would take it for another.
    """
    if kernel.state is State.RUNNING:
        return True
    waits = kernel.state in LIVE or kernel.state is State.BACKOFF
    return waits and kernel.proved and kernel.desired is Desired.UP


def _links(kernels: Kernels) -> dict[str, str]:
    """Give the connection file of each kernel that is up."""
    live = [actor for actor in kernels.all() if _lasts(actor.kernel)]
    return {actor.record.name: actor.process.files.connection_file for actor in live}


class Published:
    """What is in Jupyter's folders of ours.

    Parameters
    ----------
    folder : Path
        Jupyter's runtime folder.
    runtime_dir : Path
        Ours, where links lead to.
    machine : str
        Which machine this is, since a home can be shared between several.
    is_foreign : callable
        Tells by its name whether a kernel is another's: a container can have our machine-id, too.
        What that has shown stays.
    """

    def __init__(
        self,
        folder: Path,
        runtime_dir: Path,
        machine: str,
        is_foreign: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self.folder = self._folder = folder
        self._external = folder / EXTERNAL
        self._runtime_dir, self._machine = runtime_dir, machine
        self._prefix = f"kconnd-{machine[:8]}-"
        self._listed: set[str] | None = None  # files, as far as we know
        self._linked: dict[str, str] | None = None  # links, and where to, that are ours to remove
        self._is_foreign = is_foreign
        self._trouble = ""

    def show(
        self,
        wanted: list[tuple[str, ConnectionInfo, str]],
        links: dict[str, str],
        *,
        afresh: bool = True,
    ) -> None:
        """Make the folders say that these kernels run, and no others of ours.

        ``afresh`` to find out what is there, instead of believing that it is what we left; so it
        is done, too, where that came to an end half-way.
        """
        afresh = afresh or bool(self._trouble)
        try:
            self._show_external({self._file_name(*one): one for one in wanted}, afresh=afresh)
            self._show_links(links, afresh=afresh)
            self._trouble = ""
        except OSError as error:
            self.trouble_is(str(error))

    def trouble_is(self, trouble: str) -> None:
        """Log once what keeps Jupyter from being shown the kernels."""
        if trouble != self._trouble:
            log.warning("showing Jupyter the kernels: %s", trouble)
        self._trouble = trouble

    def _file_name(self, name: str, connection: ConnectionInfo, kernel_name: str) -> str:
        content = json.dumps(self._content(name, connection, kernel_name), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        return f"{self._prefix}{name}-{digest}.json"

    def _content(
        self, name: str, connection: ConnectionInfo, kernel_name: str
    ) -> dict[str, object]:
        """Give a connection file's content, with whose it is for those who know of kconnd."""
        ours = {"kernel_name": kernel_name, "kconnd": name, "kconnd_machine": self._machine}
        return {**connection.to_file(), **ours}

    def _show_external(
        self, wanted: dict[str, tuple[str, ConnectionInfo, str]], *, afresh: bool
    ) -> None:
        if not afresh and self._listed == set(wanted):
            return
        there = {path.name for path in self._external.glob(f"{self._prefix}*.json")}
        for gone in there - set(wanted):
            if not self._is_foreign(gone.removeprefix(self._prefix).rpartition("-")[0]):
                (self._external / gone).unlink(missing_ok=True)
        for missing in set(wanted) - there:
            self._external.mkdir(mode=0o700, parents=True, exist_ok=True)
            staged = self._folder / f".{missing}"
            write_private(staged, json.dumps(self._content(*wanted[missing]), indent=1).encode())
            staged.rename(self._external / missing)
        self._listed = set(wanted)

    def _show_links(self, links: dict[str, str], *, afresh: bool) -> None:
        """Have a link for each of these, and remove each of the others once.

        Once, since in a home that machines share another's daemon may have made it again.
        """
        wanted = {connection_file_name(name): target for name, target in links.items()}
        before = self._linked
        if before is not None:
            self._linked = {**before, **wanted}  # ours to remove, also if not all can be made
        there = dict(self._ours()) if afresh or before is None else before
        for name in set(there if before is None else before) - set(wanted):
            kernel = kernel_of_connection_file(name)
            if self._target(name) and not self._is_foreign(kernel):
                (self._folder / name).unlink(missing_ok=True)
        for name in set(wanted) - set(there):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # it is somebody else's
                (self._folder / name).symlink_to(wanted[name])
        self._linked = wanted

    def _ours(self) -> Iterator[tuple[str, str]]:
        """List the links that lead to connection files of this daemon, and where to."""
        for path in self._folder.glob(connection_file_name("*")):
            if target := self._target(path.name):
                yield path.name, target

    def _target(self, name: str) -> str:
        """Tell where a link leads; ``""`` for what is none of this daemon's."""
        with contextlib.suppress(OSError):
            target = os.readlink(self._folder / name)  # noqa: PTH115  # as it was written
            if Path(target).parent == self._runtime_dir:
                return target
        return ""
