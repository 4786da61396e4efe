"""The port ledger grants no port twice, across daemons.

The address is that of another machine (RFC 5737): its ports count as free, whatever runs here.
"""

from pathlib import Path

import pytest

from kconnd.errors import PortsTakenError
from kconnd.system.ledger import PortLedger

ADDRESS = "192.0.2.1"
RANGE = (20000, 20009)  # of two kernels


def test_kernels_share_no_port_until_one_releases_its_own(tmp_path: Path) -> None:
    ledger, other = PortLedger(tmp_path), PortLedger(tmp_path)
    first, second = ledger.grant("lab", ADDRESS, *RANGE), other.grant("work", ADDRESS, *RANGE)
    assert sorted(first + second) == [*range(RANGE[0], RANGE[1] + 1)]
    with pytest.raises(PortsTakenError, match="only 0 of 5"):
        ledger.grant("third", ADDRESS, *RANGE)
    other.release("lab")
    assert sorted(ledger.grant("third", ADDRESS, *RANGE)) == sorted(first)
    assert ledger.granted().keys() == {"work", "third"}


def test_ports_are_kept_unless_another_kernel_has_one(tmp_path: Path) -> None:
    ledger = PortLedger(tmp_path)
    assert ledger.keep("lab", (1, 2, 3, 4, 5))
    assert ledger.keep("lab", (1, 2, 3, 4, 6))
    assert not ledger.keep("work", (6, 7, 8, 9, 10))
    assert ledger.keep("work", (5, 7, 8, 9, 10))


def test_the_chosen_ports_stay_and_the_others_are_granted(tmp_path: Path) -> None:
    granted = PortLedger(tmp_path).grant_missing("lab", ADDRESS, *RANGE, (20003, 0, 0, 5, 0))
    assert (granted[0], granted[3]) == (20003, 5)
    assert len(set(granted)) == 5


def test_a_connection_file_that_is_removed_releases_its_ports(tmp_path: Path) -> None:
    ledger, file = PortLedger(tmp_path), tmp_path / "kernel-1.json"
    file.touch()
    ledger.grant(str(file), ADDRESS, *RANGE)
    assert ledger.granted().keys() == {str(file)}
    file.unlink()
    assert ledger.granted() == {}
