"""Names of kernels."""

import pytest

from kconnd.core.names import parse_name
from kconnd.errors import UsageError


@pytest.mark.parametrize("name", ["lab", "a", "A.b-c_d", "x" * 40, "lab@exp1", "lab@" + "y" * 40])
def test_names(name: str) -> None:
    profile, instance = parse_name(name)
    assert name == (f"{profile}@{instance}" if instance else profile)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/b", "-a", ".a", "a b", "x" * 41, "a@", "@a", "a@b@c", "a\n", "é", "a\0"],
)
def test_what_is_not_a_name(name: str) -> None:
    with pytest.raises(UsageError, match="is not a kernel name"):
        parse_name(name)
