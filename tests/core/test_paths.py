"""The folders of a daemon that serves one user."""

from kconnd.core import paths


def test_places() -> None:
    env = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "relative"}
    assert paths.runtime_dir(env, 7, lingers=True) == "/run/user/7/kconnd"
    assert paths.runtime_dir(env, 7, lingers=False) == "/tmp/kconnd-7"
    assert paths.runtime_dir({}, 7, lingers=True) == "/tmp/kconnd-7"
    assert paths.state_dir(env, "/home/u", "m1") == "/home/u/.local/state/kconnd/m1"
    assert paths.config_dir({"XDG_CONFIG_HOME": "/c"}, "/home/u") == "/c/kconnd/configs"
