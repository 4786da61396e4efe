"""What stays when the service is uninstalled, which is the last test of this folder.

The test files of this folder run in the order of their names, on one booted machine.
"""

import time

import pytest

from tests.server.box import Box
from tests.server.test_service import DOC, REMEMBER, remembers

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def test_uninstalling_leaves_state_and_profiles_until_told_otherwise(box: Box) -> None:
    box.run("kconnd-ctl start python3", "ada")
    box.run(f"kconnd-ctl {REMEMBER}", "ada")
    kernel = box.pid("python3", "ada")
    root = __file__.rpartition("/tests/")[0]
    box.run(f"{root}/scripts/uninstall")
    assert box.try_("command -v kconnd-ctl").code != 0
    assert box.try_(f"test -e {DOC}").code == 1
    box.run(f"test -d /etc/kconnd/configs && test -d /proc/{kernel}")
    box.run(f"test -e /var/lib/kconnd/u/{box.uid('ada')}/kernels/python3/record.json")
    box.run(f"{root}/scripts/install")
    deadline = time.monotonic() + 30
    while not remembers(box, kernel):
        assert time.monotonic() < deadline
    box.run("kconnd-ctl stop python3", "ada")
    box.run(f"{root}/scripts/uninstall --purge")
    assert box.try_("test -e /etc/kconnd -o -e /var/lib/kconnd -o -e /opt/kconnd").code == 1
