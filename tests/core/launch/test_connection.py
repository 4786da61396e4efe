"""Connection files: written, read, refused, and silent about keys."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.record import KernelRecord
from kconnd.core.launch.connection import CHANNELS, ConnectionInfo, parse_connection
from tests.core.samples import CONNECTIONS, SECRETS


@given(CONNECTIONS)
def test_a_connection_file_is_read_as_it_was_written(connection: ConnectionInfo) -> None:
    assert parse_connection(json.loads(json.dumps(connection.to_file()))) == connection


@given(CONNECTIONS, st.sampled_from([f"{name}_port" for name in CHANNELS] + ["key", "ip"]))
def test_a_missing_field_is_named(connection: ConnectionInfo, field: str) -> None:
    content = connection.to_file()
    del content[field]
    with pytest.raises(ValueError, match=field):
        parse_connection(content)


def test_no_secret_is_in_a_repr_or_a_description() -> None:
    shown = (
        repr(SECRETS) + json.dumps(SECRETS.describe()) + repr(KernelRecord("k", connection=SECRETS))
    )
    for secret in ("K3Y", "PUBL1C", "S3CRET"):
        assert secret not in shown


def test_urls() -> None:
    assert SECRETS.url("control") == "tcp://127.0.0.1:4"
    assert replace(SECRETS, ip="::1").url("hb") == "tcp://[::1]:5"
    ipc = replace(SECRETS, transport="ipc", ip="/r/ipc/lab")
    assert ipc.url("shell") == "ipc:///r/ipc/lab-1"
    assert ipc.socket_paths()[4] == "/r/ipc/lab-5"
