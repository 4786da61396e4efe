"""Builds the head of an HTTP request and refuses text that would break its syntax.

In a request line, a blank ends the target, and a line feed ends the line (RFC 9112, section 3).
Text from a user, a file or another program can contain such characters and could inject a second
request. `quote` makes any text safe; `request_head` refuses unquoted text.

Rule: this module imports nothing slow, because every command of the client imports it.
"""

from __future__ import annotations

from kconnd.errors import UsageError

MAX_TARGET_CHARS = 16 << 10  # a daemon accepts heads of up to 64 KiB
ESCAPE_DIGITS = 2  # the hexadecimal digits after each percent sign
SHOWN_CHARS = 80  # an error message quotes this much of the refused text
_UNRESERVED = "-._~@"  # allowed besides letters and digits; RFC 3986 allows @ in a path


def request_head(method: str, target: str, length: int) -> bytes:
    """Build the head of a request, with ``Connection: close``.

    Parameters
    ----------
    method, target : str
        The parts of the request line. `quote` prepares text for a target.
    length : int
        The length of the body in bytes.

    Raises
    ------
    UsageError
        If the method or the target contains a blank, a control character or a character outside
        ASCII.
    """
    if not (method.isascii() and method.isalpha()):
        raise _syntax_error("method", method)
    if not target.startswith("/") or len(target) > MAX_TARGET_CHARS or not _is_graphic(target):
        raise _syntax_error("target", target)
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode("ascii")


def _is_graphic(text: str) -> bool:
    """Return whether a text consists of printable ASCII characters without blanks."""
    return text.isascii() and text.isprintable() and " " not in text


def _syntax_error(part: str, text: str) -> UsageError:
    return UsageError(
        f"building a request: the {part} {text[:SHOWN_CHARS]!a} is not valid in a request line, "
        "so nothing was sent",
        hint="quote names and values in a request (kconnd.core.protocol.request_head)",
    )


def quote(text: str) -> str:
    """Percent-encode any text for the path or query of a request (RFC 3986)."""
    return "".join(
        char if char.isascii() and (char.isalnum() or char in _UNRESERVED) else _escaped(char)
        for char in text
    )


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def unquote(text: str) -> str:
    """Decode text that `quote` encoded.

    Raises
    ------
    UsageError
        If the text is not the result of `quote`.
    """
    first, *escapes = text.split("%")
    try:
        data = b"".join((first.encode(), *map(_decode_escape, escapes)))
        return data.decode("utf-8", "surrogatepass")
    except ValueError:  # invalid UTF-8 as well
        raise _syntax_error("target", text) from None


def _decode_escape(text: str) -> bytes:
    """Decode the text after a percent sign: two hexadecimal digits, then plain characters."""
    if len(text) < ESCAPE_DIGITS or not text[:ESCAPE_DIGITS].isalnum():
        raise ValueError("an escape has two digits")
    return int(text[:ESCAPE_DIGITS], 16).to_bytes() + text[ESCAPE_DIGITS:].encode()
