"""Publishes kernels in Jupyter's runtime folder: links to connection files, and external kernels.

``jupyter console --existing kernel-NAME.json`` looks in Jupyter's runtime folder, which has a link
to the connection file of each live kernel. A Jupyter server lists every file in the subfolder
``external_kernels`` as a kernel; kernels with ``publish: jupyter`` in their profile have one there.

The daemon writes as its user, into the user's own folders. Each file appears atomically: it is
written outside the subfolder and then renamed into it. A changed file gets another name, since a
server reads each name only once. Files whose name or kind is not ours are left alone. When a kernel
starts or ends, only the differences are written; changes that others make are noticed every
`PUBLISH_INTERVAL_S`.
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

PUBLISH_INTERVAL_S = 30.0  # between comparisons with the folders' real content
EXTERNAL = "external_kernels"
External = tuple[str, ConnectionInfo, str]  # a kernel's name, connection and kernel spec

log = logging.getLogger("kconnd")


async def publish_for_ever(kernels: Kernels, folder: Path) -> None:
    """Publish the kernels that run whenever they change.

    The files stay when the daemon ends, since the kernels do.

    Parameters
    ----------
    folder : Path
        Jupyter's runtime folder.
    """
    published = _published(kernels, folder)
    due = 0.0
    while True:
        seen_events, now = kernels.world.bus.count, kernels.world.clock()
        if rescan := now >= due:
            due = now + PUBLISH_INTERVAL_S
        write = partial(published.show, *_publications(kernels), rescan=rescan)
        await _write(kernels, published, write)
        await kernels.world.bus.wait_for_change(max(0.0, due - kernels.world.clock()), seen_events)


async def publish_once(kernels: Kernels, folder: Path) -> None:
    """Publish the present state, when the daemon has stopped its kernels and ends."""
    published = _published(kernels, folder)
    await _write(kernels, published, partial(published.show, *_publications(kernels)))


def _published(kernels: Kernels, folder: Path) -> "Published":
    world = kernels.world

    def is_foreign(name: str) -> bool:
        return name in kernels.foreign or find_foreign(world, name) is not None

    return Published(folder, world.runtime_dir, world.store.origin.machine, is_foreign)


async def _write(kernels: Kernels, published: "Published", write: Callable[[], None]) -> None:
    """Write to Jupyter's folders in a thread: they may be on a file server that hangs."""

    def work(begin: BeginStep) -> None:
        begin(f"publishing the kernels in {published.folder}")
        write()

    try:
        await kernels.world.paths.run(work)
    except StuckError as error:
        published.log_error(str(error))


def _publications(kernels: Kernels) -> tuple[list[External], dict[str, str]]:
    """Return the kernels that servers list, and each live kernel's connection file."""
    return list(_externals(kernels)), _links(kernels)


def _externals(kernels: Kernels) -> Iterator[External]:
    for actor in kernels.all():
        connection = actor.record.connection
        if connection is not None and _is_up(actor.kernel):
            name = actor.record.name
            profile = kernels.profile(name) or actor.profile  # a removed profile ends no listing
            if profile.publish == "jupyter":
                yield name, connection, actor.record.facts.kernel_name or name


def _is_up(kernel: Lifecycle) -> bool:
    """Tell whether a kernel is running, or is being restarted.

    A restart must not remove it from a server's list, since the server would take it for another
    kernel afterwards.
    """
    if kernel.state is State.RUNNING:
        return True
    may_restart = kernel.state in LIVE or kernel.state is State.BACKOFF
    return may_restart and kernel.proved and kernel.desired is Desired.UP


def _links(kernels: Kernels) -> dict[str, str]:
    actors = [actor for actor in kernels.all() if _is_up(actor.kernel)]
    return {actor.record.name: actor.process.files.connection_file for actor in actors}


class Published:
    """Our files in Jupyter's folders.

    Parameters
    ----------
    folder : Path
        Jupyter's runtime folder.
    runtime_dir : Path
        The daemon's runtime folder, to which links lead.
    machine : str
        This machine's id, since machines may share the home.
    is_foreign : callable
        Tells whether the kernel of a name belongs to another machine, or to a container, which may
        have our machine-id. Files that its daemon has published are left alone.
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
        self._file_names: set[str] | None = None  # None until the folder has been listed
        self._linked: dict[str, str] | None = None  # the links that are ours to remove
        self._is_foreign = is_foreign
        self._error = ""

    def show(
        self,
        externals: list[External],
        links: dict[str, str],
        *,
        rescan: bool = True,
    ) -> None:
        """Write the files of these kernels, and remove our files of all others.

        With ``rescan`` the folders are listed first; otherwise they are assumed to be as the last
        call left them. After a call that failed they are listed in any case.
        """
        rescan = rescan or bool(self._error)
        try:
            files = {self._file_name(*external): external for external in externals}
            self._show_external(files, rescan=rescan)
            self._show_links(links, rescan=rescan)
            self._error = ""
        except OSError as error:
            self.log_error(str(error))

    def log_error(self, message: str) -> None:
        """Log an error, unless the last logged error was the same."""
        if message != self._error:
            log.warning("publishing kernels for Jupyter: %s", message)
        self._error = message

    def _file_name(self, name: str, connection: ConnectionInfo, kernel_name: str) -> str:
        content = json.dumps(self._content(name, connection, kernel_name), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        return f"{self._prefix}{name}-{digest}.json"

    def _content(
        self, name: str, connection: ConnectionInfo, kernel_name: str
    ) -> dict[str, object]:
        """Return the content of a connection file, with fields that name kernel and machine."""
        fields = {"kernel_name": kernel_name, "kconnd": name, "kconnd_machine": self._machine}
        return {**connection.to_file(), **fields}

    def _show_external(self, externals: dict[str, External], *, rescan: bool) -> None:
        """Write the files that servers list, by their names."""
        if not rescan and self._file_names == set(externals):
            return
        existing = {path.name for path in self._external.glob(f"{self._prefix}*.json")}
        for name in existing - set(externals):
            if not self._is_foreign(name.removeprefix(self._prefix).rpartition("-")[0]):
                (self._external / name).unlink(missing_ok=True)
        for name in set(externals) - existing:
            self._external.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._folder / f".{name}"
            write_private(part, json.dumps(self._content(*externals[name]), indent=1).encode())
            part.rename(self._external / name)
        self._file_names = set(externals)

    def _show_links(self, links: dict[str, str], *, rescan: bool) -> None:
        """Make a link for each of these kernels, and try to remove every other link once.

        A removed link may appear again: in a shared home the daemon of another machine makes it.
        """
        targets = {connection_file_name(name): target for name, target in links.items()}
        before = self._linked
        if before is not None:
            self._linked = {**before, **targets}  # ours to remove, also if some cannot be made
        existing = dict(self._own_links()) if rescan or before is None else before
        for name in set(existing if before is None else before) - set(targets):
            kernel = kernel_of_connection_file(name)
            if self._target(name) and not self._is_foreign(kernel):
                (self._folder / name).unlink(missing_ok=True)
        for name in set(targets) - set(existing):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # a file of another program
                (self._folder / name).symlink_to(targets[name])
        self._linked = targets

    def _own_links(self) -> Iterator[tuple[str, str]]:
        """List the links to connection files of this daemon, and their targets."""
        for path in self._folder.glob(connection_file_name("*")):
            if target := self._target(path.name):
                yield path.name, target

    def _target(self, name: str) -> str:
        """Return the target of a link; ``""`` if it is not a link of this daemon."""
        with contextlib.suppress(OSError):
            target = os.readlink(self._folder / name)  # noqa: PTH115  # Path.readlink changes the text
            if Path(target).parent == self._runtime_dir:
                return target
        return ""
