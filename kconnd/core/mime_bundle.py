"""Chooses the text of a result for a terminal, and the parts to save as files.

A kernel publishes a result as a MIME bundle: the same value in several formats. A terminal shows
``text/plain``. Without ``text/plain``, Markdown and LaTeX are shown unchanged, and HTML is shown
without tags. For other formats, only the format and the size are shown: ``<image/png, 12 kB>``.
"""

from __future__ import annotations

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TEXT_TYPES = ("text/plain", "text/markdown", "text/latex")  # the best format first
HTML = "text/html"
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
    "application/pdf": "pdf",
    HTML: "html",
}
TEXT_FILES = frozenset({"image/svg+xml", HTML})  # the other formats to save are in base64
KB_BYTES = 1000


def text_of(data: Mapping[str, Any]) -> str:
    """Return the text of a MIME bundle for a terminal; ``""`` if the bundle is empty."""
    for mime in TEXT_TYPES:
        if isinstance(data.get(mime), str):
            return str(data[mime])
    if isinstance(data.get(HTML), str):
        from kconnd.core.html_text import html_to_text  # noqa: PLC0415  # for few results

        if text := html_to_text(data[HTML]):
            return text
    return " ".join(f"<{mime}, {_describe_size(mime, value)}>" for mime, value in data.items())


def files_of(data: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Return the file extension and the content of each part of a MIME bundle that can be saved."""
    return [
        (extension, content)
        for mime, extension in EXTENSIONS.items()
        if (content := _content_of(mime, data.get(mime)))
    ]


def _content_of(mime: str, value: object) -> bytes:
    """Return the bytes to save for one part; empty if the part is missing or is invalid base64."""
    if not isinstance(value, str):
        return b""
    if mime in TEXT_FILES:
        return value.encode("utf-8", "replace")
    try:
        return binascii.a2b_base64(value)
    except ValueError:
        return b""


def _describe_size(mime: str, value: object) -> str:
    size = len(_content_of(mime, value)) if mime in EXTENSIONS else len(str(value))
    return f"{-(-size // KB_BYTES)} kB"
