"""Connects the clients of kconnd's terminal console and Qt console to a kernel.

`JupyterConsoleApp` of jupyter_client 8.10 reads CURVE keys from the connection file, but creates
its client without these keys. The kernel then ignores the client, and the console waits for a reply
that cannot come.

After a restart, each socket of a client reconnects on its own. Messages that the kernel publishes
before the iopub socket has reconnected are lost. The sockets therefore try to reconnect more often
than every 100 ms, which is libzmq's default.
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
    """A mixin for `JupyterConsoleApp`: passes the CURVE keys to the app's client."""

    kernel_client_class: Any

    def init_kernel_client(self: Any) -> None:
        """Create the app's client, and start the client's channels."""
        stock = self.kernel_client_class
        context = zmq.Context()
        context.reconnect_ivl = RECONNECT_INTERVAL_MS  # for each socket of this context
        self.kernel_client_class = functools.partial(stock, context=context, **curve_keys(self))
        try:
            super().init_kernel_client()  # type: ignore[misc]  # the class that it is mixed into
        finally:
            self.kernel_client_class = stock


def curve_keys(app: Any) -> dict[str, bytes]:
    """Return the CURVE keys that a console app has read; ``{}`` for an unencrypted connection.

    An old jupyter_client does not read the keys. The app then exits, because its client would wait
    for ever.
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
