"""The few Jupyter messages that the daemon itself exchanges with a kernel, as bytes.

Source: "The wire protocol" in the jupyter_client documentation, protocol 5.x: identities,
``<IDS|MSG>``, HMAC, header, parent header, metadata, content, buffers. jupyter_client's own
Session is not used here, since it brings 15 MB and 0.15 s into a daemon that needs four kinds
of message.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DELIMITER = b"<IDS|MSG>"
PROTOCOL_VERSION = "5.3"


@dataclass(frozen=True)
class Message:
    """A message that a kernel sent, its signature checked."""

    kind: str
    parent_kind: str
    parent_id: str
    content: Mapping[str, Any]


class Signer:
    """Signs messages with a kernel's key.

    Parameters
    ----------
    key : str
        Text whose bytes are the key; an empty one means that nothing is signed.
    scheme : str
        ``hmac-`` and a hash of `hashlib`.
    """

    def __init__(self, key: str, scheme: str = "hmac-sha256") -> None:
        self._key = key.encode()
        self._digest = getattr(hashlib, scheme.removeprefix("hmac-"))

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """Give the signature of header, parent header, metadata and content, as hex text."""
        if not self._key:
            return b""
        return hmac.new(self._key, b"".join(parts), self._digest).hexdigest().encode()


def pack_request(
    kind: str,
    content: Mapping[str, Any],
    *,
    message_id: str,
    date: str,
    signer: Signer,
    subshell: str = "",
) -> list[bytes]:
    """Build a request.

    Parameters
    ----------
    kind : str
        Its ``msg_type``.
    content : mapping
        Its content.
    message_id : str
        Unique; the reply names it as its parent.
    date : str
        ISO 8601.
    signer : Signer
        Of the kernel's key.
    subshell : str
        Which of the kernel's subshells it is for; by default the main one.
    """
    header = {
        "msg_id": message_id,
        "msg_type": kind,
        "session": "kconnd",
        "username": "kconnd",
        "date": date,
        "version": PROTOCOL_VERSION,
        **({"subshell_id": subshell} if subshell else {}),
    }
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
    return [DELIMITER, signer.sign(parts), *parts]


def may_have_type(kind: str, frames: Sequence[bytes]) -> bool:
    """Tell cheaply whether a message may be of a kind, before its signature is worked out.

    A kernel that prints a hundred megabytes sends them to whoever listens on iopub.
    """
    try:
        header = frames[frames.index(DELIMITER) + 2]
    except (ValueError, IndexError):
        return False
    return f'"{kind}"'.encode() in header


def parse_message(frames: Sequence[bytes], signer: Signer) -> Message | None:
    """Read a message; None for one that is malformed or not signed with the kernel's key."""
    try:
        start = frames.index(DELIMITER) + 1
        signature, *parts = frames[start : start + 5]
        if len(parts) != 4 or not hmac.compare_digest(signature, signer.sign(parts)):  # noqa: PLR2004
            return None
        header, parent, _, content = (json.loads(part) for part in parts)
        return Message(
            str(header["msg_type"]),
            str(parent.get("msg_type", "")),
            str(parent.get("msg_id", "")),
            dict(content),
        )
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
