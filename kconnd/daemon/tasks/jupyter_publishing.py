"""Publishes kernels in Jupyter's runtime folder: links to connection files, and external kernels.

``jupyter console --existing kernel-NAME.json`` looks for the file in Jupyter's runtime folder. For
each live kernel, the daemon creates a link in this folder to the kernel's connection file. A
Jupyter server lists every file in the subfolder ``external_kernels`` as a kernel. For each kernel
with ``publish: jupyter`` in its profile, the daemon writes a file into this subfolder.

The daemon runs as the user and writes into the user's own folders. Each file is written outside the
subfolder and then renamed into it, so the file appears there atomically. A file with changed
content gets a new name, because a server reads each file once and then remembers its name. Files of
other programs are not changed; the daemon recognises its own files by name and type. When a kernel
starts or exits, the daemon writes the differences and leaves the other files unchanged. Every
`PUBLISH_INTERVAL_S`, the daemon detects changes by other programs.
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
from kconnd.daemon.kernels import Kernels
from kconnd.system.files.private import write_private
from kconnd.system.hung_calls import BeginStep, StuckError

PUBLISH_INTERVAL_S = 30.0  # between comparisons with the content of the folders
EXTERNAL = "external_kernels"
External = tuple[str, ConnectionInfo, str]  # a kernel's name, connection and kernel spec

log = logging.getLogger("kconnd")


async def publish_for_ever(kernels: Kernels, folder: Path) -> None:
    """Publish the running kernels now and after each change.

    When the daemon exits, the files stay, because the kernels keep running.

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
    """Publish the present state once; for a daemon that has stopped its kernels and exits."""
    published = _published(kernels, folder)
    await _write(kernels, published, partial(published.show, *_publications(kernels)))


def _published(kernels: Kernels, folder: Path) -> "Published":
    world = kernels.world
    return Published(folder, world.runtime_dir, world.store.origin.machine, kernels.is_foreign)


async def _write(kernels: Kernels, published: "Published", write: Callable[[], None]) -> None:
    """Write to Jupyter's folders in a thread, because they can be on a file server that hangs."""

    def work(begin: BeginStep) -> None:
        begin(f"publishing the kernels in {published.folder}")
        write()

    try:
        await kernels.world.paths.run(work)
    except StuckError as error:
        published.log_error(str(error))


def _publications(kernels: Kernels) -> tuple[list[External], dict[str, str]]:
    """Return the kernels for servers' lists, and the path of each kernel's connection file."""
    return list(_externals(kernels)), _links(kernels)


def _externals(kernels: Kernels) -> Iterator[External]:
    for actor in kernels.all():
        connection = actor.record.connection
        if connection is not None and _is_up(actor.kernel):
            name = actor.record.name
            # If the profile was removed, the kernel stays listed by the profile of its launch.
            profile = kernels.profile(name) or actor.profile
            if profile.publish == "jupyter":
                yield name, connection, actor.record.facts.kernel_name or name


def _is_up(kernel: Lifecycle) -> bool:
    """Return whether a kernel is running or is being restarted.

    During a restart, a kernel stays in a server's list. If it were removed, the server would treat
    it as a new kernel after the restart.
    """
    if kernel.state is State.RUNNING:
        return True
    may_restart = kernel.state in LIVE or kernel.state is State.BACKOFF
    return may_restart and kernel.proved and kernel.desired is Desired.UP


def _links(kernels: Kernels) -> dict[str, str]:
    actors = [actor for actor in kernels.all() if _is_up(actor.kernel)]
    return {actor.record.name: actor.process.files.connection_file for actor in actors}


class Published:
    """The daemon's files in Jupyter's folders.

    Parameters
    ----------
    folder : Path
        Jupyter's runtime folder.
    runtime_dir : Path
        The daemon's runtime folder, which contains the targets of the links.
    machine : str
        The id of this machine. It is part of the names of files, because several machines may share
        the home.
    is_foreign : callable
        A function that returns whether the kernel of a name belongs to another machine or
        container. Files that another daemon has published for such a kernel are not changed.
        The machine id alone does not show where a kernel belongs, because a container can have the
        machine id of its host.
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
        self._linked: dict[str, str] | None = None  # None until the links were listed
        self._is_foreign = is_foreign
        self._error = ""

    def show(
        self,
        externals: list[External],
        links: dict[str, str],
        *,
        rescan: bool = True,
    ) -> None:
        """Write the files and links of these kernels; remove the daemon's other files and links.

        With ``rescan`` or after a failed call, the folders are listed first. Otherwise, the folders
        are assumed to be unchanged since the last call.
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
        """Log an error unless it equals the last logged error."""
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
        """Return the content of a published file: connection, name of the kernel, and machine."""
        fields = {"kernel_name": kernel_name, "kconnd": name, "kconnd_machine": self._machine}
        return {**connection.to_file(), **fields}

    def _show_external(self, externals: dict[str, External], *, rescan: bool) -> None:
        """Write the files that Jupyter servers list."""
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
        """Create a link for each of these kernels; try once to remove the daemon's other links.

        A removed link may reappear, because the daemon of another machine can create it in a shared
        home.
        """
        targets = {connection_file_name(name): target for name, target in links.items()}
        before = self._linked
        if before is not None:
            # The links are recorded before they are created, because an error may occur after some
            # of them.
            self._linked = {**before, **targets}
        existing = dict(self._own_links()) if rescan or before is None else before
        for name in set(existing if before is None else before) - set(targets):
            kernel = kernel_of_connection_file(name)
            if self._target(name) and not self._is_foreign(kernel):
                (self._folder / name).unlink(missing_ok=True)
        for name in set(targets) - set(existing):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A file of another program is not replaced.
            with contextlib.suppress(FileExistsError):
                (self._folder / name).symlink_to(targets[name])
        self._linked = targets

    def _own_links(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the target of each link that belongs to this daemon."""
        for path in self._folder.glob(connection_file_name("*")):
            if target := self._target(path.name):
                yield path.name, target

    def _target(self, name: str) -> str:
        """Return the target of a link; ``""`` if the path is not a link of this daemon."""
        with contextlib.suppress(OSError):
            target = os.readlink(self._folder / name)  # noqa: PTH115  # Path.readlink changes the text
            if Path(target).parent == self._runtime_dir:
                return target
        return ""
