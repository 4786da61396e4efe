"""What both consoles of kconnd change in Jupyter's: how their clients connect to the kernel.

`JupyterConsoleApp` of jupyter_client 8.10 reads CURVE keys from the connection file, and makes its
client without them. The kernel then ignores the client, and the console waits for a reply that
cannot come.

After a restart each socket of a client reconnects on its own. Until iopub has, what the kernel
publishes is lost. So the sockets try to reconnect more often than libzmq's default of 100 ms.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import zmq

RECONNECT_INTERVAL_MS = 20
KEYS = ("curve_publickey", "curve_secretkey")


class CurveConnection:
    """Mixin for a `JupyterConsoleApp` that passes the CURVE keys to its client."""

    kernel_client_class: Any

    def init_kernel_client(self: Any) -> None:
        """Make the client, and start its channels."""
        stock = self.kernel_client_class
        context = zmq.Context()
        context.reconnect_ivl = RECONNECT_INTERVAL_MS  # of its sockets
        self.kernel_client_class = functools.partial(stock, context=context, **curve_keys(self))
        try:
            super().init_kernel_client()  # type: ignore[misc]  # the class that it is mixed into
        finally:
            self.kernel_client_class = stock


def curve_keys(app: Any) -> dict[str, bytes]:
    """Return the CURVE keys that a console app has read; empty for a plain connection.

    An old jupyter_client drops the keys. Its client would wait for ever, so the app exits.
    """
    if all(app.has_trait(key) for key in KEYS):
        return {key: getattr(app, key) for key in KEYS if getattr(app, key)}
    if app.existing and is_encrypted(app.connection_file):
        print(  # noqa: T201  # a program for the terminal
            f"kconnd-ctl: attaching to {app.connection_file}: the connection is encrypted (CURVE), "
            "and this jupyter_client does not support that\n"
            f"  {sys.executable} -m pip install 'jupyter_client>=8.9'",
            file=sys.stderr,
        )
        app.exit(1)
    return {}


def is_encrypted(connection_file: str) -> bool:
    """Return whether a connection file has CURVE keys."""
    return KEYS[0] in json.loads(Path(connection_file).read_bytes())
