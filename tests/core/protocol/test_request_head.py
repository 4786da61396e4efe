"""The head of a request has the texts that were meant, and never one more line or word."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.protocol.request_head import quote, request_head, unquote
from kconnd.errors import UsageError


@given(st.text(), st.text())
def test_a_head_is_one_request_or_an_error(method: str, target: str) -> None:
    head = b""
    with contextlib.suppress(UsageError):
        head = request_head(method, target, 7)
    if not head:
        return
    assert head.count(b"\r\n") == head.count(b"\n") == 5
    words = head.partition(b"\r\n")[0].split(b" ")
    assert words == [method.encode(), target.encode(), b"HTTP/1.1"]
    assert b"\r\nContent-Length: 7\r\n" in head


@given(st.text(st.characters()))
def test_any_text_that_was_quoted_can_stand_in_a_target(text: str) -> None:
    target = f"/v1/kernels/{quote(text)}/why"
    assert target.encode() in request_head("GET", target, 0)
    assert target.count("/") == 4
    assert unquote(quote(text)) == text


@pytest.mark.parametrize("char", [" ", "\r", "\n", "\t", "\x00", "\x7f", "\x85", "\u2028", "ä"])
def test_what_would_end_a_target_is_refused_by_name(char: str) -> None:
    with pytest.raises(UsageError, match=r"the target .* is not valid in a request line"):
        request_head("GET", f"/v1/x{char}y", 0)
    with pytest.raises(UsageError, match="the method"):
        request_head(f"GET{char}", "/v1/x", 0)


@pytest.mark.parametrize("text", ["%4", "%zz", "%+4", "%", "%\x00 ", "%-1", "%80", "a%"])
def test_what_was_not_quoted_is_not_unquoted(text: str) -> None:
    with pytest.raises(UsageError):
        unquote(text)
