"""The text of results, and the parts of them that can be saved."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.html_text import html_to_text
from kconnd.core.mime_bundle import files_of, text_of

TABLE = """<style>td {x}</style>
<table border="1"><thead><tr style="x"><th></th><th>a</th></tr></thead>
  <tbody><tr><th>0</th><td>1</td></tr></tbody></table>"""

HTML = [
    ("plain", "plain"),
    ("a <b>b</b>  c\n d", "a b c d"),
    ("<p>a</p>\n<p>b<br>c</p>", "a\nb\nc"),
    ("<script>x</script><title>y</title>z", "z"),
    ("<pre>a\n  b</pre>c", "a\n  b\nc"),
    ("1 &lt; 2 &amp; &nbsp;x", "1 < 2 & x"),
    (TABLE, "  a\n0  1"),
    ("<img src='x'>", ""),
    ("a<![x]>b<![if y]>c", "abc"),
]


@pytest.mark.parametrize(("html", "text"), HTML)
def test_html_without_its_tags(html: str, text: str) -> None:
    assert html_to_text(html) == text


@given(st.text() | st.text("<>![]-/&;#=? '\"ax"))
def test_any_html_is_read(html: str) -> None:
    assert "\n\n" not in html_to_text(html)


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 kB"), (1, "1 kB"), (1000, "1 kB"), (12001, "13 kB")]
)
def test_the_size_is_that_of_the_decoded_image(size: int, shown: str) -> None:
    data = {"image/png": base64.b64encode(bytes(size)).decode()}
    assert text_of(data) == f"<image/png, {shown}>"


ODD: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"text/plain": None, "text/html": "<p>a</p>"}, "a"),
    ({"text/html": "<img>"}, "<text/html, 1 kB>"),
    ({"image/png": "?"}, "<image/png, 0 kB>"),
    ({"image/png": 1}, "<image/png, 0 kB>"),
    ({"x/y": [1, 2]}, "<x/y, 1 kB>"),
]


@pytest.mark.parametrize(("data", "text"), ODD)
def test_a_bundle_that_is_odd(data: dict[str, Any], text: str) -> None:
    assert text_of(data) == text


def test_the_parts_that_files_can_hold() -> None:
    data = {"text/plain": "x", "text/html": "<b>é</b>", "image/jpeg": "YWI=", "image/png": "a"}
    assert files_of(data) == [("jpg", b"ab"), ("html", "<b>é</b>".encode())]


@given(st.dictionaries(st.sampled_from(["image/png", "image/svg+xml", "a/b"]), st.text()))
def test_any_bundle_has_a_text(data: dict[str, str]) -> None:
    assert bool(text_of(data)) == bool(data)
    files_of(data)
