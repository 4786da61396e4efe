"""Names of kernels."""

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kconnd.core.names import (
    NAME_PATTERN,
    derived_name,
    is_account_name,
    is_spec_name,
    jupyter_name,
    kernel_name,
    name_specs,
    parse_name,
    shown_spec,
)
from kconnd.errors import UsageError

# Names that folders can have, most of them no kernel names; short ones, so that some are similar.
ALPHABET = st.sampled_from("aAbBß+ .-_@~*[ü\u0308\u202e\x1b\n" + string.digits)
FOLDER_NAME = st.text(ALPHABET, min_size=1, max_size=60).filter(is_spec_name)
DERIVED = {  # a name that changes here changes the name of somebody's kernel
    "C++ 17": "c-17-0ca5f4d0",
    "_lead": "lead-c481e8ef",
    ".dot": "dot-0ce4e5a5",
    "größe": "gr-e-d353a267",
    "x" * 41: "x" * 31 + "-3164596d",
    "+" * 3: "spec-29f5099b",
    "py@home": "py-home-0f1d456a",
}


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


@pytest.mark.parametrize(("spec", "name"), DERIVED.items())
def test_a_derived_name_stays_the_same_for_ever(spec: str, name: str) -> None:
    assert derived_name(spec) == name


@given(FOLDER_NAME)
@example("-" * 60)
@example("a" * 30 + "-+" + "b" * 9)
def test_a_derived_name_is_a_kernel_name_in_lower_case(spec: str) -> None:
    name = derived_name(spec)
    assert re.fullmatch(NAME_PATTERN, name)
    assert name == name.lower()
    assert parse_name(name) == (name, "")
    assert derived_name(spec.lower()) == name, "Jupyter compares names in lower case"


@given(st.sets(FOLDER_NAME.map(str.lower), max_size=20), st.integers(0, 2))
@example({"c++ 17", "c-17-0ca5f4d0"}, 0)
@example({"a+", "b+"}, 2)
def test_no_two_kernel_specs_have_one_name(specs: set[str], collisions: int) -> None:
    """Derived names collide with each other here, and with names that specs have literally."""
    derive = (derived_name, lambda spec: f"a{len(spec)}", lambda _spec: "b")[collisions]
    names = name_specs(specs, derive)
    assert sorted([*names.specs.values(), *names.clashes]) == sorted(specs)
    for name, spec in names.specs.items():
        assert name == (spec if re.fullmatch(NAME_PATTERN, spec) else derive(spec))
        others = specs - {spec}
        assert name not in others, "a spec that has the name literally takes precedence"
    for spec, other in names.clashes.items():
        assert derive(spec) in {other, derive(other)}
        assert spec != other


@given(FOLDER_NAME, FOLDER_NAME)
def test_the_names_of_users_lead_to_their_kernel_specs(spec: str, other: str) -> None:
    """A kernel name is one everywhere; any other name leads to the spec's name, in each case."""
    if "@" in spec and kernel_name(spec) == spec:
        return  # NAME@INSTANCE is an instance
    names = name_specs({spec.lower(), other.lower()})
    if spec.lower() not in names.clashes:
        assert names.specs[kernel_name(spec).lower()] == spec.lower()


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "../x", "a\0", "\udc80", "x" * 1531])
def test_what_no_folder_can_be_named_is_no_name(text: str) -> None:
    with pytest.raises(UsageError, match="is not a kernel name"):
        kernel_name(text)


def test_only_a_derived_name_has_jupyters_name_beside_it() -> None:
    name = derived_name("c++ 17")
    assert jupyter_name(name, "C++ 17") == "c++ 17"
    assert jupyter_name(f"{name}@x", "c++ 17") == "c++ 17"
    for kernel, spec in (("lab", "c++ 17"), ("lab", ""), ("lab", "lab"), (name, name)):
        assert jupyter_name(kernel, spec) == ""


def test_a_kernel_spec_is_shown_escaped_unless_its_name_is_harmless() -> None:
    assert shown_spec("python3") == "python3"
    for spec in ("c++ 17", "a\x1b]0;x\x07", "a\nb", "\u202eevil", "größe"):
        assert shown_spec(spec) == repr(spec)
        assert shown_spec(spec).isprintable()
