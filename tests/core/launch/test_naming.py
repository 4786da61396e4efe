"""The code that gives a running kernel its name; the Python, bash and Node codes are run."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.naming import renaming_code
from kconnd.core.launch.notebook import Notebook

OLD = "/run/live/lab~00000000.connection.json"
ODD = '/run/it\'s "a" $HOME `x` \\n ü/kernel-lab.json'
NAMES = {"KCONND_KERNEL": "lab", "KCONND_CONNECTION_FILE": ODD}
PATHS = st.text(st.characters(exclude_categories=["C"]), min_size=1)


def run(*command: str) -> list[str]:
    """Run a program that prints a JSON list, without the variables in its environment."""
    env = {key: text for key, text in os.environ.items() if key not in NAMES}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    content: list[str] = json.loads(done.stdout)
    return content


def test_a_python_program_gets_variables_and_argument() -> None:
    code = renaming_code("python", OLD, "lab", ODD)
    see = "import os, sys, json; print(json.dumps([*map(os.environ.get, %r), *sys.argv]))"
    program = f"{code}{code}assert '__import__' not in globals()\n{see % (list(NAMES),)}"
    assert run(sys.executable, "-c", program, "-f", OLD) == [*NAMES.values(), "-c", "-f", ODD]


SHOW_FOLDER = {
    "python": (
        *(sys.executable, "-c"),
        "import json, os; print(json.dumps([os.getcwd(), os.environ['JPY_SESSION_NAME']]))",
    ),
    "bash": ("bash", "-c", 'printf \'["%s", "%s"]\' "$PWD" "$JPY_SESSION_NAME"'),
    "javascript": (
        *("node", "-e"),
        "console.log(JSON.stringify([process.cwd(), process.env.JPY_SESSION_NAME]))",
    ),
    "R": (
        *("Rscript", "-e"),
        'cat(sprintf(\'["%s", "%s"]\', getwd(), Sys.getenv("JPY_SESSION_NAME")))',
    ),
    "octave": (
        *("octave-cli", "--eval"),
        "printf('[\"%s\", \"%s\"]', pwd(), getenv('JPY_SESSION_NAME'))",
    ),
}


@pytest.mark.parametrize("language", SHOW_FOLDER)
def test_a_program_enters_the_folder_of_the_notebook(tmp_path: Path, language: str) -> None:
    *command, see = SHOW_FOLDER[language]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed here")
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    notebook = Notebook(str(folder), "it's 1.ipynb")
    code = renaming_code(language, OLD, "lab", "/run/kernel-lab.json", notebook)
    assert run(*command, f"{code}\n{see}") == [str(folder), "it's 1.ipynb"]


def test_bash_gets_the_variables() -> None:
    see = f'{sys.executable} -c "import os; print(os.environ.get)"'
    code = renaming_code("bash", OLD, "lab", ODD)
    see = shlex.join([sys.executable, "-c", "import json, os, sys\n" + _SHOW])
    assert run("bash", "-c", f"{code}\n{see}") == list(NAMES.values())


_SHOW = f"print(json.dumps([os.environ[key] for key in {list(NAMES)!r}]))"


@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed here")
@pytest.mark.parametrize("language", ["javascript", "typescript"])
def test_node_gets_the_variables(language: str) -> None:
    code = renaming_code(language, OLD, "lab", ODD)
    see = f"console.log(JSON.stringify({list(NAMES)!r}.map(key => process.env[key])))"
    assert run("node", "-e", f"{code};{see}") == list(NAMES.values())


@given(PATHS)
def test_a_path_is_quoted_whatever_its_characters(path: str) -> None:
    assert shlex.split(renaming_code("bash", OLD, "lab", path)) == [
        "export",
        "KCONND_KERNEL=lab",
        f"KCONND_CONNECTION_FILE={path}",
    ]
    in_r = renaming_code("R", OLD, "lab", path)
    assert json.loads(in_r.partition("KCONND_CONNECTION_FILE = ")[2].removesuffix(")")) == path
    octave = renaming_code("octave", OLD, "lab", path).partition("FILE', '")[2]
    assert octave.removesuffix("');").replace("''", "'") == path


def test_a_kernel_of_another_language_gets_no_code() -> None:
    assert renaming_code("scheme", OLD, "lab", "/run/kernel-lab.json") == ""
