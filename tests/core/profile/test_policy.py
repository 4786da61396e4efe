"""The policy of the lifecycle and the choice of a transport, from a profile."""

import pytest

from kconnd.core.kernel.lifecycle import Policy
from kconnd.core.profile.policy import is_shared, lifecycle_policy, needs_tcp
from tests.core.profile.samples import FIVE, sound


def test_a_default_profile_has_the_default_policy() -> None:
    assert lifecycle_policy(sound()) == Policy()


def test_each_key_of_the_policy_comes_from_its_key_of_the_profile() -> None:
    restart = {
        "policy": "always",
        "max_failures": 7,
        "backoff": "1s",
        "backoff_max": "2s",
        "stable_after": "3s",
    }
    profile = sound(
        restart=restart,
        startup_timeout="4s",
        stop_timeout="5s",
        heartbeat={"action": "restart"},
    )
    assert lifecycle_policy(profile) == Policy("always", 7, 1.0, 2.0, 3.0, 4.0, 5.0, True)  # noqa: FBT003  # the fields in their order


@pytest.mark.parametrize(
    ("keys", "tcp"),
    [
        ({}, False),
        ({"encryption": "none"}, False),
        ({"access": {"see": ["ada"]}}, False),
        ({"ports": FIVE}, True),
        ({"ports": "20000-20999"}, True),
        ({"ip": "::1"}, True),
        ({"encryption": "curve"}, True),
        ({"access": {"connect": ["ada"]}}, True),
        ({"access": {"manage": ["@staff"]}}, True),
    ],
)
def test_a_setting_that_only_tcp_supports_needs_tcp(keys: dict[str, object], *, tcp: bool) -> None:
    assert needs_tcp(sound(**keys)) is tcp


def test_a_kernel_is_shared_if_others_may_connect() -> None:
    assert not is_shared(sound(access={"see": ["ada"]}))
    assert is_shared(sound(access={"connect": ["ada"]}))
    assert is_shared(sound(access={"manage": ["ada"]}))
