"""Profiles that are sound, for the tests of this folder."""

from hypothesis import strategies as st

from kconnd.core.profile.model import Profile
from kconnd.core.profile.parse import parse_profile

FIVE = [5001, 5002, 5003, 5004, 5005]


def sound(**given_keys: object) -> Profile:
    profile, problems = parse_profile({"kernel": "python3", **given_keys}, name="lab")
    assert problems == ()
    assert profile is not None
    return profile


DURATIONS = st.integers(min_value=1, max_value=86_400_000).map(lambda ms: f"{ms + 1000}ms")
PROFILES = st.fixed_dictionaries(
    {"kernel": st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", fullmatch=True)},
    optional={
        "cwd": st.sampled_from(["/a", "~/b/{instance}"]),
        "env": st.dictionaries(
            st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.integers() | st.just("x")
        ),
        "ports": st.sampled_from(["auto", "20000-20999", FIVE]),
        "start": st.sampled_from(["boot", "on-demand", "manual"]),
        "startup_timeout": DURATIONS,
        "idle": st.fixed_dictionaries({"stop_after": DURATIONS | st.just(value=False)}),
        "restart": st.fixed_dictionaries({"policy": st.sampled_from([False, "no", "always"])}),
        "limits": st.fixed_dictionaries(
            {"memory": st.integers(4096, 2**60), "cpu": st.floats(0.01, 64)}
        ),
        "log": st.fixed_dictionaries({"max_size": st.integers(4096, 2**40)}),
        "publish": st.sampled_from([False, "none", "jupyter"]),
    },
)
