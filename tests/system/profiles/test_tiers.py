"""Profiles of the whole machine and of a user, and which of them count."""

import os
from pathlib import Path

import pytest

from kconnd.system.profiles.tiers import load_tiers

LAB = "python: /usr/bin/python3\n"


def write(folder: Path, **profiles: str) -> Path:
    folder.mkdir()
    for name, text in profiles.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_only_a_profile_of_the_whole_machine_names_another_user(tmp_path: Path) -> None:
    own = write(tmp_path / "own", lab=LAB, mine=f"{LAB}user: ada\n", other=f"{LAB}user: eve\n")
    loaded = load_tiers([], [own], uid=os.geteuid(), user="ada")
    assert loaded.profiles.keys() == {"lab", "mine"}
    (fault,) = loaded.faults
    assert (fault.path, "'eve' is another user" in str(fault)) == ("user", True)
    assert loaded.first_faults["other"] == fault


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to own the machine's profiles")
def test_own_profiles_hide_those_of_the_machine_and_others_are_elsewhere(tmp_path: Path) -> None:
    machine = write(
        tmp_path / "machine",
        lab=LAB,
        shared=LAB,
        eves=f"{LAB}user: eve\n",
        both=f"{LAB}user: eve\n",
    )
    own = write(tmp_path / "own", lab=LAB, both=LAB)
    loaded = load_tiers([machine], [own], uid=0, user="ada")
    files = {name: Path(sourced.file).parent for name, sourced in loaded.profiles.items()}
    assert files == {"lab": own, "both": own, "shared": machine}
    assert loaded.elsewhere == {"eves": "eve"}
    assert [text.split()[1:3] for text in loaded.overrides] == [["both", "hides"], ["lab", "hides"]]
