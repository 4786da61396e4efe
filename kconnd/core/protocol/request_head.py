"""The head of an HTTP request: every text is checked where it is written into it.

A blank ends the target of a request line and a line feed ends the line (RFC 9112, section 3).
A text with one of them, from a user, a file or another program, would be a request of its own.
`quote` makes any text safe; `request_head` refuses what was not quoted.

Rule: nothing is imported that costs time, since every look-up uses this module.
"""

from __future__ import annotations

from kconnd.errors import UsageError

MAX_TARGET_CHARS = 16 << 10  # a daemon takes 64 KiB of head
ESCAPE_DIGITS = 2  # of an escape
SHOWN_CHARS = 80  # of a text that is refused
_UNRESERVED = "-._~@"  # beside letters and digits; RFC 3986 lets the @ stand in a path


def request_head(method: str, target: str, length: int) -> bytes:
    """Build the head of a request, which closes its connection.

    Parameters
    ----------
    method, target : str
        As they stand in the request line. `quote` prepares what goes into a target.
    length : int
        Bytes of the body.

    Raises
    ------
    UsageError
        If either has a blank, a control character or a letter outside ASCII.
    """
    if not (method.isascii() and method.isalpha()):
        raise _refused("method", method)
    if not target.startswith("/") or len(target) > MAX_TARGET_CHARS or not _is_graphic(target):
        raise _refused("target", target)
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode("ascii")


def _is_graphic(text: str) -> bool:
    """Tell whether a text is ASCII without blanks and control characters."""
    return text.isascii() and text.isprintable() and " " not in text


def _refused(what: str, text: str) -> UsageError:
    return UsageError(
        f"writing a request: its {what} {text[:SHOWN_CHARS]!a} cannot stand in a request "
        "line, so nothing was sent",
        hint="names and values go into a request quoted (kconnd.core.protocol.request_head)",
    )


def quote(text: str) -> str:
    """Escape a text for a request's path or query, whatever somebody typed (RFC 3986)."""
    return "".join(
        char if char.isascii() and (char.isalnum() or char in _UNRESERVED) else _escaped(char)
        for char in text
    )


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def unquote(text: str) -> str:
    """Give the text that `quote` escaped.

    Raises
    ------
    UsageError
        If it is not of that form.
    """
    first, *rest = text.split("%")
    try:
        return b"".join((first.encode(), *map(_from_escape, rest))).decode("utf-8", "surrogatepass")
    except ValueError:  # also of what is no UTF-8
        raise _refused("target", text) from None


def _from_escape(text: str) -> bytes:
    """Give the bytes of a text that stood after a percent sign."""
    if len(text) < ESCAPE_DIGITS or not text[:ESCAPE_DIGITS].isalnum():
        raise ValueError("an escape has two digits")
    return int(text[:ESCAPE_DIGITS], 16).to_bytes() + text[ESCAPE_DIGITS:].encode()
