"""Names of kernels."""

import pytest

from kconnd.core.names import is_account_name, parse_name
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


@pytest.mark.parametrize(
    "name",
    [
        "ada",
        r"EXAMPLE\jane doe",
        "o'brien",
        "jürgen",
        "1abc",
        "20231234",
        "lab$",
        "jane@uni.example",
        "Domain Users",
        "x" * 104,
    ],
)
def test_accounts_of_directory_services_have_names(name: str) -> None:
    assert is_account_name(name)


@pytest.mark.parametrize(
    "text", ["", " ada", "ada ", "a/b", "a:b", "a\nb", "-x", ".", "..", "\x1b[1m", "x" * 257]
)
def test_texts_that_no_account_can_have_as_its_name(text: str) -> None:
    assert not is_account_name(text)
