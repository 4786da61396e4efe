"""The version in systemd's own words."""

import pytest

from kconnd.system.systemd.systemd_version import parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [("252.39-1~deb12u1", 252), ("v257", 257), ("256~rc3", 256), ("", 0), ("unknown", 0)],
)
def test_the_first_number_is_the_version(text: str, version: int) -> None:
    assert parse_version(text) == version
