"""Fixture: one booted machine with kconnd installed, which all tests of this folder share."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.server.box import Box


def _missing() -> str:
    if os.geteuid() != 0:
        return "needs root: to boot a systemd in namespaces of its own"
    if not os.path.exists("/lib/systemd/systemd"):  # noqa: PTH110
        return "needs systemd to be installed"
    if not all(map(shutil.which, ("unshare", "nsenter", "dbus-daemon", "useradd"))):
        return "needs unshare, nsenter, dbus-daemon and useradd"
    return ""


def skip_without_systemd() -> None:
    """Skip a test if this machine cannot boot a systemd."""
    if why := _missing():
        pytest.skip(why)


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    skip_without_systemd()
    with Box() as found:
        found.run("/bin/true")
        found.run(f"{__file__.rpartition('/tests/')[0]}/scripts/install")
        yield found
