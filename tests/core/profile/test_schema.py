"""The JSON Schema accepts and refuses the same profiles as the daemon."""

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from kconnd.core.profile.schema import profile_schema
from tests.core.profile.samples import PROFILES, sound

SCHEMA = Draft202012Validator(profile_schema())


def test_the_schema_is_a_schema_and_tells_what_each_key_is_for() -> None:
    Draft202012Validator.check_schema(profile_schema())
    for name, part in profile_schema()["$defs"].items():
        for key, field in part["properties"].items():
            assert field.get("description"), f"{name}.{key}"


@given(PROFILES)
def test_the_schema_accepts_what_the_daemon_accepts(keys: dict[str, object]) -> None:
    sound(**keys)
    assert SCHEMA.is_valid(keys)
    assert SCHEMA.is_valid({"kernels": {"lab": keys}})


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"kernel": "a", "python": "/b"},
        {"kernel": "a", "kernl": "b"},
        {"kernel": "a", "restart": {"policy": "sometimes"}},
        {"kernel": "a", "restart": {"policy": True}},
        {"kernel": "a", "startup_timeout": "-1s"},
        {"kernel": "a", "ports": [1, 2]},
        {"kernels": {}},
        {"kernels": {"a b": {"kernel": "a"}}},
        {"kernels": {"a": {"kernel": "a"}}, "kernel": "a"},
    ],
)
def test_the_schema_refuses_what_the_daemon_refuses(keys: dict[str, object]) -> None:
    assert not SCHEMA.is_valid(keys)
