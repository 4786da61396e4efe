"""The error for a name of which a daemon has no kernel."""

import pytest

from kconnd.core.unknown_kernel import NameSearch, explain_unknown


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
