"""Recognises that a login shell did not find conda or environment modules, and suggests a line.

conda, mamba, ``module`` and ``ml`` are functions that a start-up file of the tool defines. Many
installers add this file to ``~/.bashrc``, which a login shell without a terminal does not read to
the end. The cure is a line of ``setup`` that reads the file. Functions are pure: the caller checks
which of the suggested files exist.
"""

import re
from collections.abc import Iterator

from kconnd.core.launch.login_command import Family, family_of

_TOOLS = r"(?P<tool>conda|mamba|micromamba|module|ml)"
_MISSING = re.compile(
    rf"(?:^|[\s:]){_TOOLS}: (?:command not found|not found|inaccessible or not found)"
    rf"|command not found: {_TOOLS.replace('tool', 'zsh')}(?:\s|$)"
    rf"|Unknown command: {_TOOLS.replace('tool', 'fish')}(?:\s|$)"
    r"|(?P<conda>conda (?:init|activate)')",
    re.IGNORECASE | re.MULTILINE,
)
_CONDA_ROOTS = (
    *("~/miniforge3", "~/mambaforge", "~/miniconda3", "~/anaconda3", "~/miniconda", "~/anaconda"),
    *("/opt/conda", "/opt/miniforge3", "/opt/mambaforge", "/opt/miniconda3", "/opt/anaconda3"),
)
_MICROMAMBAS = ("~/.local/bin/micromamba", "~/micromamba/bin/micromamba", "~/bin/micromamba")
_MODULE_FILES = ("/etc/profile.d/modules", "/etc/profile.d/lmod", "/etc/profile.d/z00_lmod")
_MODULE_FOLDERS = (
    *("/usr/share/lmod/lmod/init", "/usr/share/modules/init", "/usr/share/Modules/init"),
    *("/opt/ohpc/admin/lmod/lmod/init", "/opt/apps/lmod/lmod/init", "/usr/local/Modules/init"),
)


def find_missing_tool(output: str) -> str:
    """Return the tool that a shell did not find, according to its output; ``""`` for none."""
    match = _MISSING.search(output)
    if match is None:
        return ""
    names = match.groupdict()
    tool = names["tool"] or names["zsh"] or names["fish"]
    return tool.lower() if tool else "conda"


def activation_lines(tool: str, shell: str, home: str) -> Iterator[tuple[str, str]]:
    """Yield files that may exist, each with the line of ``setup`` that makes a tool known by it.

    Parameters
    ----------
    tool : str
        A result of `find_missing_tool`.
    shell : str
        The login shell.
    home : str
        The owner's home folder.
    """
    family, name = family_of(shell), shell.rpartition("/")[2]
    source = "source" if family is not Family.POSIX or name in {"bash", "zsh", "ksh"} else "."
    if tool == "micromamba":
        for path in (path.replace("~", home, 1) for path in _MICROMAMBAS):
            yield path, _hook_of(path, family)
        return
    if tool in {"module", "ml"}:
        files = (f"{path}.{'csh' if family is Family.CSH else 'sh'}" for path in _MODULE_FILES)
        folders = (f"{folder}/{name}" for folder in _MODULE_FOLDERS)
        paths = folders if family is Family.FISH else (*files, *folders)
    else:
        paths = (_conda_file(root.replace("~", home, 1), tool, family) for root in _CONDA_ROOTS)
    for path in paths:
        yield path, f"{source} {path}"


def _conda_file(root: str, tool: str, family: Family) -> str:
    if family is Family.FISH:
        return f"{root}/etc/fish/conf.d/{tool}.fish"
    return f"{root}/etc/profile.d/{tool}.{'csh' if family is Family.CSH else 'sh'}"


def _hook_of(path: str, family: Family) -> str:
    if family is Family.FISH:
        return f"{path} shell hook -s fish | source"
    if family is Family.CSH:
        return f"eval `{path} shell hook -s tcsh`"
    return f'eval "$({path} shell hook -s posix)"'


def hint_for_missing_tool(tool: str, line: str) -> str:
    """Return the hint about a missing tool; ``line`` is the line to write, or ``""``."""
    if not line:
        return (
            f"its login shell does not know {tool}: put a line into 'setup' first that makes it "
            "known, or write the path of the environment's own python in 'python'"
        )
    return f"its login shell does not know {tool}: put this line into 'setup' first: {line}"
