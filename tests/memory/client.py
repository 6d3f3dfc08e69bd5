"""HTTP requests to `m2fp serve`."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class Answer:
    """Status 0: the connection broke before an answer came."""

    status: int
    retry_after: str | None = None
    body: bytes = b""


def post(
    address: str, path: str, body: bytes, over_seconds: float = 0, media_type: str = "application/octet-stream"
) -> Answer:
    """One request on a connection of its own; its body sent at an even pace over this time."""
    connection = HTTPConnection(address, timeout=PATIENCE_SECONDS)
    try:
        headers = {"Content-Length": str(len(body)), "Content-Type": media_type}
        # Where it is answered before the body was read.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", path, _paced(body, over_seconds) if over_seconds else body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.getheader("Retry-After"), response.read())
    except (OSError, HTTPException) as error:
        return Answer(0, None, str(error).encode())
    finally:
        connection.close()


def _paced(body: bytes, over_seconds: float) -> Iterator[bytes]:
    pieces = 40
    step = -(-len(body) // pieces)
    for start in range(0, len(body), step):
        yield body[start : start + step]
        time.sleep(over_seconds / pieces)
