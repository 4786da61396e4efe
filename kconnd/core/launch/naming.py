"""Builds the code that gives a running kernel its name and folder, in the kernel's language.

A kernel gets its name when it starts, in two environment variables (`kernel_variables`). A warm
kernel starts before its name is known, so the name arrives later, as code that the kernel runs
silently. The code sets the variables, enters the folder of the notebook if the kernel starts there,
and leaves nothing in the user's namespace. A second run changes nothing. The codes were run in
ipykernel, xeus-python, IRkernel, bash_kernel, octave_kernel, deno and tslab. A kernel of another
language gets no code. Its `KCONND_CONNECTION_FILE` is a link that leads to the connection file of
the name, and it has no `KCONND_KERNEL`.
"""

import json
import shlex
from collections.abc import Callable, Mapping

from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook
from kconnd.core.launch.plan import kernel_variables


def can_be_named(language: str) -> bool:
    """Return whether code is known for a language."""
    return language == "python" or language.lower() in _WRITERS


def renaming_code(
    language: str, old_file: str, name: str, file: str, notebook: Notebook = NO_NOTEBOOK
) -> str:
    """Return code that gives a kernel a name; ``""`` if no code is known for the language.

    Parameters
    ----------
    language : str
        The language's name, as the kernel reports it.
    old_file, file : str
        The path of the connection file with which the kernel was started, and the new path.
    name : str
        The kernel's name.
    notebook : Notebook
        The notebook for which the kernel is started.
    """
    variables = kernel_variables(name, file) | notebook.variables()
    if language == "python":
        return _python(variables, old_file, file, notebook.folder)
    write = _WRITERS.get(language.lower())
    return write(variables, notebook.folder) if write is not None else ""


def _python(variables: Mapping[str, str], old_file: str, file: str, folder: str) -> str:
    """Also change the path that ipykernel stores, and the path among the kernel's arguments."""
    enter = f'__import__("os").chdir({folder!r})\n' if folder else ""
    return f"""\
__import__("os").environ.update({variables!r})
(lambda module: setattr(
    module.IPKernelApp.instance(), "connection_file", {file!r}
) if module and module.IPKernelApp.initialized() else None)(
    __import__("sys").modules.get("ipykernel.kernelapp")
)
(lambda words: words.__setitem__(slice(None), [
    {file!r} if word == {old_file!r} else word for word in words
]))(__import__("sys").argv)
{enter}"""


def _r(variables: Mapping[str, str], folder: str) -> str:
    pairs = ", ".join(f"{key} = {_quoted(value)}" for key, value in variables.items())
    return f"Sys.setenv({pairs})" + (f"; setwd({_quoted(folder)})" if folder else "")


def _bash(variables: Mapping[str, str], folder: str) -> str:
    pairs = " ".join(f"{key}={shlex.quote(text)}" for key, text in variables.items())
    return f"export {pairs}" + (f"; cd {shlex.quote(folder)}" if folder else "")


def _octave(variables: Mapping[str, str], folder: str) -> str:
    texts = {key: text.replace("'", "''") for key, text in variables.items()}
    lines = [f"setenv('{key}', '{text}');" for key, text in texts.items()]
    path = folder.replace("'", "''")
    return "\n".join([*lines, f"cd('{path}');"] if folder else lines)


def _javascript(variables: Mapping[str, str], folder: str) -> str:
    """Set the variables in Deno or in Node, whichever runs the code."""
    pairs = _quoted(dict(variables))
    code = (
        f"Object.entries({pairs}).forEach(([key, text]) => "
        "{ globalThis.Deno ? globalThis.Deno.env.set(key, text) : "
        'globalThis["process"].env[key] = text; })'
    )
    enter = f'; (globalThis.Deno ?? globalThis["process"]).chdir({_quoted(folder)})'
    return code + (enter if folder else "")


def _quoted(content: object) -> str:
    """Write a text, or a mapping of texts, as a literal of R or of JavaScript."""
    return json.dumps(content, ensure_ascii=False)


_WRITERS: Mapping[str, Callable[[Mapping[str, str], str], str]] = {
    "r": _r,
    "bash": _bash,
    "octave": _octave,
    "javascript": _javascript,
    "typescript": _javascript,
}
