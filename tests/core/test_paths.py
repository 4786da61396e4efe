"""The folders of a daemon that serves one user."""

import pytest

from kconnd.core import paths


@pytest.mark.parametrize(
    ("env", "home"),
    [
        ({"HOME": "/scratch/ada"}, "/scratch/ada"),
        ({"HOME": ""}, "/home/ada"),
        ({"HOME": "scratch"}, "/home/ada"),
        ({}, "/home/ada"),
    ],
)
def test_home_in_the_environment_takes_precedence(env: dict[str, str], home: str) -> None:
    assert paths.home_dir(env, "/home/ada") == home
    assert paths.home_dir({}, "") == "/"


def test_places() -> None:
    env = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "relative"}
    assert paths.runtime_dir(env, 7, lingers=True) == "/run/user/7/kconnd"
    assert paths.runtime_dir(env, 7, lingers=False) == "/tmp/kconnd-7"
    assert paths.runtime_dir({}, 7, lingers=True) == "/tmp/kconnd-7"
    assert paths.state_dir(env, "/home/u", "m1") == "/home/u/.local/state/kconnd/m1"
    assert paths.config_dir({"XDG_CONFIG_HOME": "/c"}, "/home/u") == "/c/kconnd/configs"
