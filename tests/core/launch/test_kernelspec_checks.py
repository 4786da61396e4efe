"""Any JSON in a kernel.json: it is parsed, or refused with the place of a value and a change."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.json_position import find_position
from kconnd.core.launch.kernelspec_checks import KernelspecError, find_gateway_placeholder
from kconnd.core.launch.kernelspec_file import KernelSpec, parse_kernelspec

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda trees: st.lists(trees, max_size=3) | st.dictionaries(st.text(max_size=3), trees),
    max_leaves=6,
)
KEYS = (
    *("argv", "env", "metadata", "interrupt_mode", "display_name", "language", "resource_dir"),
    *("name", "mimetype", "kernel_protocol_version", "unknown"),
)
STANZAS = st.fixed_dictionaries(
    {}, optional={"provisioner_name": LEAVES | st.just("local-provisioner"), "config": TREES}
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "kernel_provisioner": TREES | STANZAS,
        "process_proxy": TREES,
        "supported_encryption": TREES,
    },
)
# Content in which most keys have the right type, so that each check is reached.
SPECS = st.fixed_dictionaries(
    {"argv": st.lists(st.text(min_size=1), min_size=1)},
    optional={
        "env": st.dictionaries(st.text(), st.text() | LEAVES),
        "metadata": METADATA,
        "interrupt_mode": st.sampled_from(["signal", "MESSAGE", "sigint"]),
        "display_name": st.text(),
    },
)


@given(TREES | SPECS | st.dictionaries(st.sampled_from(KEYS), TREES))
def test_any_json_is_parsed_or_refused_with_its_place(content: Any) -> None:
    text = json.dumps(content, indent=1)
    try:
        spec = parse_kernelspec("lab", json.loads(text))
    except KernelspecError as error:
        refusal = error
    else:
        assert not any("\0" in word for word in (*spec.argv, *spec.env.values()))
        assert spec.interrupt_mode in {"signal", "message"}
        assert "process_proxy" not in spec.metadata
        json.dumps(dict(spec.metadata), ensure_ascii=False, allow_nan=False).encode()
        return
    assert all((str(refusal), refusal.hint))
    line, column = find_position(text, refusal.path)
    assert text.split("\n")[line - 1][column - 1 :]


def test_the_values_of_a_spec_are_kept() -> None:
    content: dict[str, Any] = {
        "argv": ["x", "{connection_file}"],
        "display_name": "X",
        "language": "x",
        "interrupt_mode": "Message",
        "env": {"A": "$B"},
        "metadata": {"debugger": True, "supported_encryption": ["curve"]},
        "kernel_protocol_version": "5.5",
    }
    assert parse_kernelspec("lab", content, "/r") == KernelSpec(
        name="lab",
        argv=("x", "{connection_file}"),
        language="x",
        display_name="X",
        interrupt_mode="message",
        env={"A": "$B"},
        encryptions=("curve",),
        resource_dir="/r",
        metadata=content["metadata"],
    )


@pytest.mark.parametrize(
    ("word", "placeholder"),
    [
        ("{kernel_id}", "{kernel_id}"),
        ("--reply={response_address}", "{response_address}"),
        ("exec x ${kernel_id}", ""),
        ("{kernel-id}", ""),
        ("{connection_file}", ""),
    ],
)
def test_a_variable_of_a_shell_is_no_placeholder(word: str, placeholder: str) -> None:
    assert find_gateway_placeholder(word) == placeholder
