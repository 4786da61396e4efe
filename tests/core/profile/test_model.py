"""A profile's defaults and values, and the profile of an instance."""

import math
from dataclasses import FrozenInstanceError

import pytest
from pydantic import ValidationError

from kconnd.core.profile.model import instantiate, shared_ports
from kconnd.core.profile.values import Ports
from tests.core.profile.samples import FIVE, sound


def test_the_defaults_are_those_of_the_documentation() -> None:
    profile = sound()
    assert (profile.name, profile.kernel, profile.cwd, profile.ip) == (
        *("lab", "python3", "", "127.0.0.1"),
    )
    assert (profile.shell, profile.transport, profile.encryption) == ("none", "auto", "auto")
    assert (profile.start, profile.launcher, profile.publish) == ("on-demand", "auto", "none")
    assert profile.ports == Ports()
    assert profile.restart.model_dump() == {
        "policy": "on-failure",
        "max_failures": 5,
        "backoff": 0.5,
        "backoff_max": 60.0,
        "stable_after": 60.0,
    }
    assert (profile.startup_timeout, profile.stop_timeout) == (60.0, 10.0)
    assert profile.heartbeat.model_dump() == {"interval": 10.0, "misses": 3, "action": "report"}
    assert profile.idle.stop_after == math.inf
    assert profile.log.model_dump() == {"max_size": 10 << 20, "keep": 3}
    assert profile.access.model_dump() == {"see": (), "connect": (), "manage": ()}
    assert set(profile.limits.model_dump().values()) == {None}
    assert (profile.instance, profile.on_frontend_shutdown) == ("shared", "auto")


def test_a_profile_is_frozen_and_compares_by_value() -> None:
    assert sound(env={"A": "1"}) == sound(env={"A": 1})
    assert sound(cwd="/a") != sound(cwd="/b")
    with pytest.raises(ValidationError):
        sound().name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        sound().ports.first = 1  # type: ignore[misc]


def test_an_instance_fills_cwd_and_env_and_nothing_else() -> None:
    profile = sound(cwd="/runs/{instance}", env={"RUN": "{instance}-{other}", "A": "b"})
    made = instantiate(profile, "exp1")
    assert made.cwd == "/runs/exp1"
    assert made.env == {"RUN": "exp1-{other}", "A": "b"}
    assert instantiate(profile, "").cwd == "/runs/"
    assert made.model_copy(update={"cwd": profile.cwd, "env": profile.env}) == profile
    assert profile.cwd == "/runs/{instance}"


def test_fixed_ports_are_shared_only_on_the_same_address() -> None:
    one, same = sound(ports=FIVE), sound(ports=[5005, 6001, 6002, 6003, 6004])
    assert shared_ports(one, same) == (5005,)
    assert shared_ports(one, sound(ports=[6000, 6001, 6002, 6003, 6004])) == ()
    assert shared_ports(one, sound(ports="5000-6000")) == ()
    assert shared_ports(one, sound(ports=FIVE, ip="127.0.0.2")) == ()
    assert shared_ports(one, sound(ports=FIVE, ip="::")) == (5001, 5002, 5003, 5004, 5005)
