"""Applies observations about a process to the kernel's record, and decides when to save the record.

A record is written as a whole, so each write is expensive. Two rules keep the number of writes
small. First, a launch is saved once, before the launch begins. Until the kernel answers, the shim's
files on disk show the progress of the launch, and a new daemon finds the process by these files.
Second, a change of habits causes no write by itself if the daemon can easily observe the same habit
again, as with `Habits.beats`. Such a change is written together with the next other change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from kconnd.core.kernel.events import Event
from kconnd.core.kernel.habits import Habits
from kconnd.core.kernel.lifecycle import Lifecycle, State, StopCause
from kconnd.core.kernel.record import Facts, KernelRecord, LastExit
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.notebook import Notebook
from kconnd.core.launch.program_search import Program
from kconnd.core.launch.session import Umask

MAX_FACT_CHARACTERS = 100  # each text of a kernel's self-description is cut to this length
LAUNCH = frozenset({State.LAUNCHING, State.STARTING})


@dataclass(frozen=True)
class Learned:
    """New values for fields of a kernel's record; None leaves a field as it is.

    Parameters
    ----------
    generation : int
        The generation of the observed process.
    """

    generation: int
    handle: Mapping[str, Any] | None = None
    connection: ConnectionInfo | None = None
    facts: Facts | None = None
    habits: Habits | None = None
    last_exit: LastExit | None = None
    program: Program | None = None
    umask: Umask | None = None
    notebook: Notebook | None = None


def learn(record: KernelRecord, news: Learned) -> KernelRecord:
    """Apply new values to a record; values of an earlier generation change nothing."""
    if news.generation != record.lifecycle.generation:
        return record
    values = {field.name: getattr(news, field.name) for field in fields(news)}
    del values["generation"]
    if news.last_exit is not None:
        requested = record.lifecycle.stop_cause in {StopCause.STOP, StopCause.RESTART}
        values["last_exit"] = replace(news.last_exit, requested=requested)
    changes = {name: value for name, value in values.items() if value is not None}
    return replace(record, **changes)


def needs_saving(saved: KernelRecord, record: KernelRecord, event: Event | Learned) -> bool:
    """Return whether a record must be saved after an event.

    Parameters
    ----------
    saved : KernelRecord
        The record on disk.
    record : KernelRecord
        The record after the event.
    event : Event or Learned
        The event that was applied.
    """
    if _is_launch_progress(saved.lifecycle, record.lifecycle):
        return False
    before, after = without_deadline(saved), without_deadline(record)
    if before == after:
        return False
    if isinstance(event, Learned) and before == replace(after, habits=before.habits):
        return _matters(before.habits, after.habits)
    return True


def without_deadline(record: KernelRecord) -> KernelRecord:
    """Return a copy of a record without its deadline, which is never saved."""
    return replace(record, lifecycle=replace(record.lifecycle, deadline=None))


def _is_launch_progress(before: Lifecycle, after: Lifecycle) -> bool:
    """Return whether a change only continues a launch whose beginning is already saved."""
    within = before.state in LAUNCH and after.state in LAUNCH
    decided = (before.generation, before.desired, before.port_tries, before.proved)
    return within and decided == (
        after.generation,
        after.desired,
        after.port_tries,
        after.proved,
    )


def _matters(before: Habits, after: Habits) -> bool:
    """Return whether changed habits must be saved, because a user's work may depend on them."""
    return (before.silent_busy, before.overlaps) != (after.silent_busy, after.overlaps)


def facts_of(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts from a ``kernel_info_reply``; missing and invalid fields are left out."""
    info = reply.get("language_info")
    language = info if isinstance(info, dict) else {}
    fields = {
        "language": language.get("name"),
        "language_version": language.get("version"),
        "implementation": reply.get("implementation"),
        "implementation_version": reply.get("implementation_version"),
        "protocol_version": reply.get("protocol_version"),
    }
    return {
        key: text[:MAX_FACT_CHARACTERS]
        for key, text in fields.items()
        if text and type(text) is str
    }
