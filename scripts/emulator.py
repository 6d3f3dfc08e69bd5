"""AWS's Runtime Interface Emulator: how it is started, and where it and other servers listen."""

import socket
import time
from pathlib import Path

# Where a function under the emulator is invoked.
INVOCATIONS = "/2015-03-31/functions/function/invocations"

PATIENCE_S = 10


def command(emulator: Path, address: str, bootstrap: Path) -> list[str | Path]:
    """The emulator at `address`, the runtime's side at a free one; it starts `bootstrap` with the first event."""
    doors = ["--runtime-interface-emulator-address", address, "--runtime-api-address", free_address()]
    return [emulator, *doors, bootstrap]


def free_address() -> str:
    """`host:port` that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def wait_for(address: str) -> None:
    """Until somebody listens there."""
    host, port = address.split(":")
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((host, int(port))).close()
        except OSError:
            if time.monotonic() > end:
                raise TimeoutError(f"nobody listens on {address}") from None
            time.sleep(0.01)
