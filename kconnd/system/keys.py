"""Fresh secrets for a kernel."""

import base64
import secrets

from kconnd.core.launch.connection import CurveKeys


def new_key() -> str:
    """Make an HMAC key: 32 random bytes as base64 text."""
    return base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def new_curve_keys() -> CurveKeys:
    """Make a CURVE key pair (zmq_curve_keypair(3))."""
    import zmq  # noqa: PLC0415  # few kernels need such keys, and a daemon without kernels no ZMQ

    public, secret = zmq.curve_keypair()
    return CurveKeys(public.decode("ascii"), secret.decode("ascii"))
