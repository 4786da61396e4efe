"""The values of a profile's keys."""

import pytest

from kconnd.core.profile.values import Ports, parse_ports
from tests.core.profile.samples import FIVE


@pytest.mark.parametrize(
    ("value", "ports"),
    [
        ("auto", Ports()),
        ("20000-20999", Ports(20000, 20999)),
        (" 1024 - 65535 ", Ports(1024, 65535)),
        ("20000-20004", Ports(20000, 20004)),
        (FIVE, Ports(fixed=(5001, 5002, 5003, 5004, 5005))),
        (
            {"hb": 5005, "shell": 5001, "iopub": 5002, "stdin": 5003, "control": 5004},
            Ports(fixed=(5001, 5002, 5003, 5004, 5005)),
        ),
    ],
)
def test_ports_have_three_forms(value: object, ports: Ports) -> None:
    assert parse_ports(value) == ports
    assert parse_ports(ports) == ports


@pytest.mark.parametrize(
    "value",
    [
        "",
        "any",
        "20000",
        20000,
        None,
        True,
        "20000-20003",
        "20999-20000",
        "80-2000",
        "20000-65536",
        "20000-99999999",
        "-5--1",
        [],
        FIVE[:4],
        [*FIVE, 5006],
        [5001, 5001, 5002, 5003, 5004],
        [80, *FIVE[1:]],
        [65536, *FIVE[1:]],
        ["5001", *FIVE[1:]],
        [True, *FIVE[1:]],
        [5001.0, *FIVE[1:]],
        {"shell": 5001},
        {"shell": 5001, "iopub": 5002, "stdin": 5003, "control": 5004, "heart": 5005},
    ],
)
def test_bad_ports_are_told_the_three_forms(value: object) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_ports(value)
    assert "write auto, a range" in getattr(caught.value, "hint", "")
