"""Packs, signs and parses the few Jupyter messages that the daemon exchanges with a kernel.

Source: "The wire protocol" in the jupyter_client documentation, protocol 5.x. The frames of a
message are: identities, ``<IDS|MSG>``, HMAC, header, parent header, metadata, content, buffers.
jupyter_client's `Session` is not used, because it would cost 15 MB and 0.15 s, and the daemon needs
few message types.
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
    """A message from a kernel, after its signature was verified.

    ``parent_subshell`` is the id of the subshell that processes the request; ``""`` for the main
    shell (JEP 91).
    """

    kind: str
    parent_kind: str
    parent_id: str
    content: Mapping[str, Any]
    parent_subshell: str = ""


class Signer:
    """Signs messages with a kernel's key.

    Parameters
    ----------
    key : str
        The key as text; an empty key means unsigned messages.
    scheme : str
        ``hmac-`` and the name of a hash of `hashlib`.
    """

    def __init__(self, key: str, scheme: str = "hmac-sha256") -> None:
        self._key = key.encode()
        self._digest = getattr(hashlib, scheme.removeprefix("hmac-"))

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """Return the signature of header, parent header, metadata and content, in hexadecimal."""
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
    """Build the frames of a request.

    Parameters
    ----------
    kind : str
        The ``msg_type`` of the request.
    content : mapping
        The content of the request.
    message_id : str
        A unique id; the reply has this id in its parent header.
    date : str
        The present time in ISO 8601.
    signer : Signer
        The signer with the kernel's key.
    subshell : str
        The id of the subshell that is to process the request; ``""`` for the main shell.
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
    """Check quickly whether a message may have the type ``kind``.

    On iopub, the daemon receives all output of the kernel. Output can be long; because of this
    check, the daemon does not have to verify the signatures of output messages.
    """
    try:
        header = frames[frames.index(DELIMITER) + 2]
    except (ValueError, IndexError):
        return False
    return f'"{kind}"'.encode() in header


def parse_message(frames: Sequence[bytes], signer: Signer) -> Message | None:
    """Parse a message; None if the message is malformed or not signed with the kernel's key."""
    try:
        start = frames.index(DELIMITER) + 1
        signature, *parts = frames[start : start + 5]
        # header, parent header, metadata, content
        if len(parts) != 4 or not hmac.compare_digest(signature, signer.sign(parts)):  # noqa: PLR2004  # named above
            return None
        header, parent, _, content = (json.loads(part) for part in parts)
        return Message(
            str(header["msg_type"]),
            str(parent.get("msg_type", "")),
            str(parent.get("msg_id", "")),
            dict(content),
            str(parent.get("subshell_id") or ""),
        )
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
