"""The notebook for which a kernel is started: a front end has it open, or a run executes it.

A front end sends the notebook with its request for a start. The daemon keeps it in the kernel's
record, because a restart needs it, too. Only the owner's own front ends are believed: the notebook
names folders and files of the owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kconnd.errors import UsageError

SESSION_NAME = "JPY_SESSION_NAME"
MAX_TEXT_CHARS = 4096  # PATH_MAX of Linux


@dataclass(frozen=True)
class Run:
    """The process of a run, such as papermill, with which the kernel ends.

    Parameters
    ----------
    pid, started : int
        The process id, and the start time in ticks since boot (proc(5)). The pid is 0 if the
        process is in another pid namespace; the kernel then ends only if the run stops it.
    """

    pid: int = 0
    started: int = 0


@dataclass(frozen=True)
class Notebook:
    """The notebook or run for which a kernel was started.

    Parameters
    ----------
    folder : str
        The folder in which the front end would start the kernel; ``""`` if it named none.
    name : str
        The value of ``JPY_SESSION_NAME`` in a kernel of Jupyter; ``""`` without a notebook.
    file : str
        What identifies the notebook's file (`kconnd.system.files.file_identity`); ``""`` if nothing
        does, or without a notebook.
    run : Run, optional
        The run with which the kernel ends; None for a kernel that has no such run.
    """

    folder: str = ""
    name: str = ""
    file: str = ""
    run: Run | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        texts = {"folder": self.folder, "name": self.name, "file": self.file}
        content: dict[str, Any] = {key: text for key, text in texts.items() if text}
        return {**content, "run": [self.run.pid, self.run.started]} if self.run else content

    def variables(self) -> dict[str, str]:
        """Return the environment variables by which code in a kernel identifies its notebook."""
        return {SESSION_NAME: self.name} if self.name else {}


NO_NOTEBOOK = Notebook()


def parse_notebook(content: object) -> Notebook:
    """Parse the notebook in the body of a request, or in a record; unknown fields are ignored.

    Raises
    ------
    UsageError
        If a field has an invalid value.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"notebook: {content!r} is not a mapping")
    folder, name = _text(content, "folder"), _text(content, "name")
    if folder and not folder.startswith("/"):
        raise UsageError(f"notebook: folder: {folder!r} is not an absolute path")
    return Notebook(folder, name, _text(content, "file"), _parse_run(content.get("run")))


def _text(content: Mapping[str, Any], key: str) -> str:
    text = content.get(key, "")
    if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS or "\0" in text:
        raise UsageError(f"notebook: {key}: {str(text)[:80]!r} is not a valid text")
    return text


def _parse_run(content: object) -> Run | None:
    if content is None:
        return None
    numbers = content if isinstance(content, list) else []
    if [type(number) for number in numbers] != [int, int]:
        raise UsageError(f"notebook: run: {str(content)[:80]!r} is not a pid and a time")
    return Run(*numbers)


def next_notebook(
    recorded: Notebook | None, sent: Notebook | None, *, is_up: bool, is_own: bool
) -> Notebook | None:
    """Return the notebook to keep when a start is requested.

    Parameters
    ----------
    recorded : Notebook, optional
        The notebook in the kernel's record.
    sent : Notebook, optional
        The notebook in the request; None if no front end sent the request. A kernel that such a
        request starts again no longer ends with its earlier run.
    is_up : bool
        Whether the kernel has a process already, to which the front end attaches.
    is_own : bool
        Whether the kernel belongs to one notebook or run (``instance: per-session``). A shared
        kernel stays in the folder of the front end that has launched it.
    """
    if recorded is None or (sent is not None and (is_own or not is_up)):
        return sent
    return recorded if is_up or sent is not None else replace(recorded, run=None)
