"""The choice of where log lines go, in a process of its own with each kind of stderr."""

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

CODE = "import sys, kconnd.system.systemd.journal as j; print(type(j._handler()).__name__)"
FAKE = """
import logging
class JournalHandler(logging.Handler):
    def __init__(self, **fields): super().__init__()
"""  # systemd-python is an optional dependency


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/__init__.py").touch()
    (tmp_path / "systemd/journal.py").write_text(FAKE, encoding="utf-8")
    return tmp_path


def handler(modules: Path, stderr: IO[str] | int, **environment: str) -> str:
    env = {key: text for key, text in os.environ.items() if key != "INVOCATION_ID"}
    env |= {"PYTHONPATH": str(modules)} | environment
    command = [sys.executable, "-c", CODE]
    return subprocess.check_output(command, env=env, stderr=stderr, text=True).strip()


def test_lines_go_to_stderr_where_the_journal_does_not_read_it(modules: Path) -> None:
    with (modules / "log").open("w", encoding="utf-8") as file:
        assert handler(modules, file, INVOCATION_ID="1") == "StreamHandler"
        assert handler(modules, file, JOURNAL_STREAM="1:2") == "StreamHandler"
    assert handler(modules, subprocess.DEVNULL) == "StreamHandler", "no service"


def test_lines_go_to_the_journal_that_reads_stderr(modules: Path) -> None:
    with (modules / "log").open("w", encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        stream = f"{status.st_dev}:{status.st_ino}"
        assert handler(modules, file, JOURNAL_STREAM=stream) == "JournalHandler"


def test_lines_of_a_service_that_started_without_a_journal_go_to_the_next(modules: Path) -> None:
    assert handler(modules, subprocess.DEVNULL, INVOCATION_ID="1") == "JournalHandler"
