"""JSON by pydantic is what the standard library reads, also with bytes that are not UTF-8."""

import json

import pytest

from kconnd.system.fast_json import as_json


@pytest.mark.parametrize(
    "content",
    [
        {"name": "lab", "pid": None, "ports": [1, 2], "encrypted": False, "age": 0.5},
        {"name": "größe \N{SNOWMAN} \0"},
        {"cwd": "/home/ada/\udcff"},  # a path with a byte that is not UTF-8
    ],
)
def test_what_is_serialised_is_read_back(content: dict[str, object]) -> None:
    assert json.loads(as_json(content)) == content
