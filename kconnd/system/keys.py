"""Generate the secrets of a kernel."""

import base64
import secrets

from kconnd.core.launch.connection import CurveKeys

KEY_BYTES = 32


def new_key() -> str:
    """Generate an HMAC key: 32 random bytes as base64 text."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def new_curve_keys() -> CurveKeys:
    """Generate a CURVE key pair (zmq_curve_keypair(3))."""
    import zmq  # noqa: PLC0415  # few kernels need CURVE keys, and an idle daemon needs no ZMQ

    public, secret = zmq.curve_keypair()
    return CurveKeys(public.decode("ascii"), secret.decode("ascii"))
