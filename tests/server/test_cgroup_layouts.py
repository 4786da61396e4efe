"""The front door makes units for daemons only, with each layout of control groups."""

import pytest

from kconnd.core.paths import FRONT_SOCKET
from tests.server.box import ROOT, Box
from tests.server.conftest import skip_without_systemd


@pytest.mark.nightly  # each boots a machine and installs on it
@pytest.mark.root
@pytest.mark.timeout(300)
@pytest.mark.parametrize("layout", ["legacy", "unified"])
def test_a_daemon_is_known_by_its_control_group(layout: str) -> None:
    skip_without_systemd()
    ask = f"curl -s --unix-socket {FRONT_SOCKET} http://x/v1/units -d {{}}"
    with Box(layout=layout) as box:
        box.run(f"{ROOT}/scripts/install")
        box.run("kconnd-ctl start python3", "ada")
        box.run("kconnd-ctl start python3@other", "ada")
        assert box.ctl("info python3", "ada")["launcher"] == "systemd"
        ada = box.uid("ada")
        assert box.as_daemon(ask, ada).json()["error"]["message"] == "name: not text"
        for user, uid in (("ada", ada), ("root", 0)):
            said = box.run(ask, user).json()["error"]["message"]
            assert f"does not belong to the daemon of uid {uid}" in said
