"""The container image: made by `make image`, and run with the emulator that is in its trial stage."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
from docker.models.networks import Network

import emulator
from tests.in_docker import images, sam, sandbox
from tests.in_docker.s3 import address

PORT = 8080
# A model of 250 MB on a slow machine, its loading counted.
TIMEOUT_S = 300


def make(base: str, name: str, *variables: str) -> None:
    """Both stages, as `name:ARCH` and `name:ARCH-trial`."""
    command = ["make", "image", f"IMAGE={name}", f"BASE={base}", f"ARCH={images.ARCH}", *variables]
    made = subprocess.run(command, cwd=sam.ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


@contextmanager
def running(client: docker.DockerClient, network: Network, name: str) -> Iterator[str]:
    """The URL that invokes the function of the image's trial stage."""
    container = client.containers.run(
        f"{name}:{images.ARCH}-trial", network=network.name, read_only=True, tmpfs=sandbox.TMP, detach=True
    )
    try:
        where = f"{address(container, network)}:{PORT}"
        emulator.wait_for(where)
        yield f"http://{where}{emulator.INVOCATIONS}"
    finally:
        container.remove(force=True)


def invoke(url: str, event: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    request = urllib.request.Request(url, json.dumps(event).encode())
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.loads(answer.read())
