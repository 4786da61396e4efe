"""The command line of the daemon."""

from pathlib import Path

import pytest

from kconnd.core.launch.ports import default_range
from kconnd.daemon.options import parse_options
from kconnd.errors import UsageError
from kconnd.system.machine import ephemeral_ports


@pytest.mark.parametrize("text", ["20000-20004", "1024-65535"])
def test_a_range_of_ports_is_one_that_a_profile_could_have(text: str) -> None:
    assert "-".join(map(str, parse_options([f"--ports={text}"]).ports)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("20000-20003", "too short: a kernel needs five ports"),
        ("65000-65540", "no range in 1024 to 65535"),
        ("80-1100", "no range in 1024 to 65535"),
        ("20999-20000", "no range in 1024 to 65535"),
        ("many", "not a choice of ports"),
    ],
)
def test_what_no_profile_could_have_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_options([f"--ports={text}"])


def test_without_a_range_ports_are_below_those_of_outgoing_connections() -> None:
    assert parse_options([]).ports == default_range(ephemeral_ports())
    assert parse_options(["--ports=auto"]).ports == default_range(ephemeral_ports())


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="--exit-idle: "):
        parse_options(["--exit-idle=soon"])
    assert parse_options(["--exit-idle=1min"]).exit_idle == 60


def test_other_machines_records_are_looked_for_beside_ours_unless_their_folder_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    options = parse_options([])
    assert options.machines_dir == tmp_path / "kconnd"
    assert options.state_dir.parent == options.machines_dir
    chosen = parse_options([f"--state-dir={tmp_path}/own"])
    assert (chosen.state_dir, chosen.machines_dir) == (tmp_path / "own", None)
