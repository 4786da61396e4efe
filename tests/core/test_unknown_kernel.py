"""The error for a name of which a daemon has no kernel."""

from dataclasses import replace

import pytest

from kconnd.core.unknown_kernel import (
    NameSearch,
    describe_clash,
    explain_unknown,
    explain_unknown_spec,
)


def known(
    *names: str, log: str = "", has_profile: bool = False, hosts: tuple[str, ...] = ()
) -> NameSearch:
    return NameSearch(names, log, has_profile, hosts)


@pytest.mark.parametrize(
    ("name", "surroundings", "hint"),
    [
        ("lba", known("lab", "work"), "did you mean lab?"),
        ("lab@2", known("lab", has_profile=True), "kconnd-ctl start lab@2 creates it"),
        ("lab@2", known("lab"), "did you mean lab?"),
        ("zzz", known("lab"), "kconnd-ctl list shows all kernels"),
        ("lab", known("lba", hosts=("node1", "node2")), "node1, node2: a kernel lab runs there"),
    ],
)
def test_the_hint_is_the_most_helpful_one(name: str, surroundings: NameSearch, hint: str) -> None:
    error = explain_unknown(name, surroundings)
    assert str(error) == f"there is no kernel {name}"
    assert error.hint is not None
    assert error.hint.startswith(hint)


def test_a_removed_profile_is_named_with_the_log_of_its_kernel() -> None:
    error = explain_unknown("lab@2", known("lab", log="/state/lab@2/log", hosts=("node1",)))
    assert "its profile or kernel spec was removed" in str(error)
    assert error.hint == "restore lab to start it; its log is /state/lab@2/log"


SPECS = {"c-17-0a0a0a0a": "c++ 17", "python3": "python3", "a-31m-0b0b0b0b": "a\x1b[31m"}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("C++17", "did you mean 'c++ 17', which is started as c-17-0a0a0a0a?"),
        ("pyhton 3", "did you mean python3?"),
        ("A[31M", r"did you mean 'a\x1b[31m', which is started as a-31m-0b0b0b0b?"),
        ("z z z", "kconnd-ctl list shows all kernels"),
    ],
)
def test_an_unknown_name_suggests_a_kernel_spec_by_both_names(text: str, hint: str) -> None:
    error = explain_unknown_spec(text, SPECS)
    assert error.message.startswith(f"there is no kernel {text!r}, and no kernel spec")
    assert error.hint == hint


def test_a_misspelled_name_of_a_kernel_spec_is_corrected() -> None:
    error = explain_unknown("pyhton3", replace(known("lab"), specs=SPECS))
    assert error.hint == "did you mean python3?"


def test_a_clash_is_told_with_a_way_out() -> None:
    error = describe_clash("A\x1b B", "a-b-0c0c0c0c", "the profile in /c/x.yaml")
    assert error.message.endswith("named a-b-0c0c0c0c, and the profile in /c/x.yaml has this name")
    assert error.hint.endswith(r"the line: kernel: 'a\x1b b'")
    assert error.message.isprintable()
