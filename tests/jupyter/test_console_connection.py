"""A console's client has the CURVE keys of the connection file, or the console says why not."""

import json
from pathlib import Path
from typing import Any

import pytest

from kconnd.jupyter.console_connection import curve_keys

KEYS = {"curve_publickey": b"public", "curve_secretkey": b"secret"}


class App:
    """A console app that has read a connection file.

    Parameters
    ----------
    connection_file : Path
        The connection file.
    **keys : bytes
        The traits for CURVE keys that its version of jupyter_client has.
    """

    existing = "yes"

    def __init__(self, connection_file: Path, **keys: bytes) -> None:
        self.connection_file = str(connection_file)
        self.status: int | None = None
        self.__dict__.update(keys)

    def has_trait(self, name: str) -> bool:
        return name in self.__dict__

    def exit(self, status: int) -> None:
        self.status = status


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    path = tmp_path / "connection.json"
    path.write_text(json.dumps({name: key.decode() for name, key in KEYS.items()}))
    return path


def test_the_keys_that_the_app_has_read_reach_its_client(encrypted: Path) -> None:
    app: Any = App(encrypted, **KEYS)
    assert curve_keys(app) == KEYS
    app = App(encrypted, curve_publickey=b"", curve_secretkey=b"")
    assert curve_keys(app) == {}


def test_an_old_jupyter_client_ends_with_what_to_install(
    encrypted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app: Any = App(encrypted)
    curve_keys(app)
    assert app.status == 1
    assert "pip install 'jupyter_client>=8.9'" in capsys.readouterr().err


def test_an_old_jupyter_client_suffices_for_a_plain_connection(tmp_path: Path) -> None:
    plain = tmp_path / "connection.json"
    plain.write_text("{}")
    app: Any = App(plain)
    assert curve_keys(app) == {}
    assert app.status is None
