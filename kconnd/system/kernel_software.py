"""Read known facts about a kernel's software before the kernel's start, and store learned facts.

`SoftwareReader` derives a key that identifies the software, and reads the facts in the table of
kernel measurements, in the metadata of packages and in the kernel spec. If the facts for this key
were read before, a few calls of stat(2) suffice. If the same command was looked up less than a
second ago, these calls are omitted, because kernels of one spec often start together. The facts
that starts and probes have shown are learned facts; `LearnedCapabilities` stores them in a private
file of the state folder. A start is possible without learned facts, so an error while this file is
read or written is logged and ignored.
"""

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from kconnd.core.launch.capabilities import (
    CURVE,
    UNIX_SOCKETS,
    Capabilities,
    Fact,
    FactSource,
    LearnedSoftware,
    Software,
    combine,
    keep_latest,
    learned_to_json,
    news_in,
    parse_learned,
    software_key,
)
from kconnd.core.launch.kernelspec_file import KernelSpec, python_module
from kconnd.core.launch.measured import (
    MeasuredKernel,
    find_rows,
    inherited_facts,
    measured_facts,
    parse_table,
)
from kconnd.core.launch.plan import SYSTEM_PATH
from kconnd.system.files.private import remove_temporary_files, write_private
from kconnd.system.files.regular import read_regular
from kconnd.system.hung_calls import BeginStep
from kconnd.system.packages import InstalledPackages, package_folders, read_stamps

TABLE = Path(__file__).with_name("measured_kernels.json")
LEARNED = "capabilities.json"  # a file in the state folder
MAX_LEARNED_BYTES = 4 << 20
MAX_CACHED = 256
REUSE_S = 1.0  # the time for which a key stays valid without a look at the files

Key = TypeVar("Key")
Value = TypeVar("Value")

log = logging.getLogger("kconnd")


@cache
def read_table() -> tuple[MeasuredKernel, ...]:
    """Read the table of kernel measurements, which is a file of this package."""
    return parse_table(json.loads(TABLE.read_bytes()))


@dataclass
class _Lookup:
    """The latest look at the software of one command.

    Starts of the same command take turns, so that one of them looks for all. If a file server
    hangs, only starts that need this file server wait, and each has a time limit of its own.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    read_at: float = -REUSE_S
    software: Software = field(default_factory=Software)


class SoftwareReader:
    """Reads the facts about kernels' software that are known before the kernels start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cache: dict[str, Capabilities] = {}
        self._recent: dict[object, _Lookup] = {}

    def read(
        self,
        spec: KernelSpec,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        settings: tuple[object, ...],
        begin: BeginStep,
    ) -> Software:
        """Read the known facts about a kernel's software.

        Parameters
        ----------
        spec : KernelSpec
            The kernel spec.
        argv, env : tuple, mapping
            The kernel's command, which begins with the interpreter or the program, and the kernel's
            environment.
        settings : tuple
            The settings of the profile that change the command.
        begin : callable
            Called with a description of each step when the step begins.
        """
        variables = (env.get(name) for name in ("PATH", "HOME", "PYTHONPATH"))
        content = (spec.argv, (*sorted(spec.env.items()),), spec.interrupt_mode, spec.encryptions)
        command = (*content, spec.language, *settings)
        request = (spec.name, argv, *variables, command)
        lookup = self._recent.get(request) or _insert(self._recent, request, _Lookup())
        begin(f"looking for {argv[0]}")
        with lookup.lock:
            if (now := self._clock()) - lookup.read_at >= REUSE_S:
                lookup.software = self._look(spec, argv, env, command, begin)
                lookup.read_at = now
            return lookup.software

    def _look(
        self,
        spec: KernelSpec,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        command: tuple[object, ...],
        begin: BeginStep,
    ) -> Software:
        program = shutil.which(argv[0], path=env.get("PATH", SYSTEM_PATH)) or argv[0]
        folders = package_folders(program, env, begin)
        resolved = os.path.realpath(program)
        places = [resolved, *folders]
        stamps = read_stamps(places, begin)
        key = software_key(command, resolved, stamps)
        facts = self._cache.get(key)
        if facts is None:
            facts = _read_facts(spec, (program, *argv[1:]), folders, begin)
            _insert(self._cache, key, facts)
        changed_at = max((modified_ns for *_, modified_ns in stamps), default=0) / 1e9
        return Software(key, spec.name, facts, tuple(places), changed_at)


def _insert(cache: dict[Key, Value], key: Key, value: Value) -> Value:
    """Insert a value unless another thread has inserted one; return the value in the cache."""
    while len(cache) >= MAX_CACHED:
        cache.pop(next(iter(cache)), None)
    return cache.setdefault(key, value)


def _read_facts(
    spec: KernelSpec, argv: tuple[str, ...], folders: list[str], begin: BeginStep
) -> Capabilities:
    declared = {}
    if "curve" in spec.encryptions:
        declared[CURVE] = Fact(True, FactSource.DECLARED, "its kernel.json declares it")  # noqa: FBT003  # the value
    packages = InstalledPackages(folders, begin)
    table, command = read_table(), python_module(argv)
    rows = find_rows(table, argv)
    measured = measured_facts(rows, packages.version_of(rows[0].package) if rows else "")
    if measured.keys() >= {UNIX_SOCKETS, CURVE}:
        return measured
    program = argv[0].rpartition("/")[2]
    package = packages.find_package(command.module if command else "", program)
    inherited = {}
    if package is not None:
        requires = packages.read_requirements(package)
        inherited = inherited_facts(table, package.name, requires, packages.versions)
    return combine(declared, inherited, measured)


class LearnedCapabilities:
    """The facts that starts and probes have shown.

    Parameters
    ----------
    state_dir : Path, optional
        The state folder. Without a state folder, the facts are kept in memory and are not stored.
    """

    def __init__(self, state_dir: Path | None = None) -> None:
        self._path = state_dir / LEARNED if state_dir is not None else None
        self._learned: dict[str, LearnedSoftware] | None = None

    def facts(self, software: Software) -> dict[str, Fact]:
        """Return the known and the learned facts about a kernel's software."""
        learned = self._read().get(software.key)
        return combine(software.facts, learned.facts if learned is not None else {})

    def learn(self, software: Software, observed: Capabilities) -> dict[str, Fact]:
        """Store those observed facts that are new, and return them."""
        news = news_in(self.facts(software), observed)
        if not news or not software.key:
            return {}
        learned = self._read()
        known = learned[software.key].facts if software.key in learned else {}
        learned[software.key] = LearnedSoftware(software.name, {**known, **news})
        self._save(keep_latest(learned))
        return news

    def has_learned(self, name: str, fact: str) -> bool:
        """Return whether a fact was learned about the software of a kernel spec, in any version."""
        learned = self._read().values()
        return any(software.name == name and fact in software.facts for software in learned)

    def tidy(self) -> None:
        """Remove the temporary files that a dead daemon left behind in the state folder."""
        if self._path is not None:
            remove_temporary_files(self._path.parent)

    def forget(self, key: str) -> bool:
        """Drop the learned facts about a kernel's software; return whether there were any."""
        learned = self._read()
        if learned.pop(key, None) is None:
            return False
        self._save(learned)
        return True

    def _read(self) -> dict[str, LearnedSoftware]:
        if self._learned is None:
            self._learned = _read_learned(self._path) if self._path is not None else {}
        return self._learned

    def _save(self, learned: dict[str, LearnedSoftware]) -> None:
        self._learned = learned
        if self._path is None:
            return
        content = json.dumps(learned_to_json(learned), indent=1).encode()
        try:
            write_private(self._path, content)
        except OSError as error:
            log.warning("writing %s: %s; kept in memory", self._path, error)


def _read_learned(path: Path) -> dict[str, LearnedSoftware]:
    """Read the learned facts; an invalid file is renamed and counts as empty."""
    try:
        return parse_learned(json.loads(read_regular(path, MAX_LEARNED_BYTES)))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("reading %s: %s; it is learned anew", path, error)
    try:
        path.rename(path.with_name(f"{LEARNED}.bad"))
    except OSError as error:
        log.warning("putting %s aside: %s", path, error)
    return {}
