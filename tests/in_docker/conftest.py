"""What the tests in Docker share: images, a network with an S3 server, photos, and the table that is printed last."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
from docker.models.networks import Network

from tests.in_docker import images, sam, table
from tests.in_docker.s3 import S3, running
from tests.in_docker.table import Timed


@pytest.fixture
def timed() -> Timed:
    return table.timed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if table.ROWS:
        terminalreporter.section("in Docker")
        terminalreporter.write_line(table.text())


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=300)
    yield client
    client.close()


@pytest.fixture(scope="session")
def base(client: docker.DockerClient) -> str:
    """The name of Lambda's base image, which Docker has then."""
    image = images.lambda_base(client)
    kind = "a stand-in of Debian's packages" if images.is_stand_in(image) else "Amazon's own"
    table.ROWS.append((images.LAMBDA.rsplit("/", 1)[1], kind, 0.0, image.short_id))
    return images.LAMBDA


@contextmanager
def network_of(client: docker.DockerClient, name: str, *, internal: bool) -> Iterator[Network]:
    """A Docker network that is gone afterwards, and that of an earlier run that was killed before."""
    for left in client.networks.list(names=[name]):
        left.reload()
        for container in left.containers:
            container.remove(force=True)
        left.remove()
    network = client.networks.create(name, driver="bridge", internal=internal)
    try:
        yield network
    finally:
        network.remove()


@pytest.fixture(scope="session")
def network(client: docker.DockerClient) -> Iterator[Network]:
    with network_of(client, "m2fp-lambda-test", internal=False) as network:
        yield network


@pytest.fixture(scope="session")
def s3(client: docker.DockerClient, network: Network) -> Iterator[S3]:
    with running(client, network) as s3:
        yield s3


@pytest.fixture(scope="session")
def photo() -> bytes:
    """The photo that the files of events/ are about."""
    event = json.loads((sam.ROOT / "events/function-url.json").read_text())
    return base64.b64decode(event["body"])


@pytest.fixture(scope="session")
def portrait() -> Path:
    return sam.ROOT / ".runtime/photos/astronaut.png"


@pytest.fixture(scope="session")
def parameters(s3: S3) -> dict[str, str]:
    """The stack's parameters, as `--parameter-overrides` takes them."""
    return {
        "ExistingInputBucket": "m2fp-photos",
        "ExistingOutputBucket": "m2fp-masks",
        "S3Endpoint": s3.inside,
    }
