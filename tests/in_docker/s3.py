"""moto's S3 server in a container of its own, beside the functions on one Docker network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import docker
from docker.models.networks import Network

from tests.in_docker import images

PORT = 5000
NAME = "m2fp-s3"
CREDENTIALS = {"aws_access_key_id": "docker", "aws_secret_access_key": "docker", "region_name": "us-east-1"}


@dataclass
class S3:
    # Where containers on the network find it, and where this machine does.
    inside: str
    client: Any

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.client.create_bucket(Bucket=bucket)
        self.client.put_object(Bucket=bucket, Key=key, Body=body)

    def keys(self, bucket: str) -> set[str]:
        return {one["Key"] for one in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])}

    def get(self, bucket: str, key: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def empty(self, bucket: str) -> None:
        self.client.create_bucket(Bucket=bucket)
        for key in self.keys(bucket):
            self.client.delete_object(Bucket=bucket, Key=key)


def address(container: docker.models.containers.Container, network: Network) -> str:
    """A container's address on a network, which this machine reaches too, an internal one's included."""
    container.reload()
    return container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]


@contextmanager
def running(docker_client: docker.DockerClient, network: Network) -> Iterator[S3]:
    images.python(docker_client)
    container = docker_client.containers.run(
        images.PYTHON,
        ["python3", "-m", "moto.server", "-H", "0.0.0.0", "-p", str(PORT)],
        environment={"PYTHONPATH": "/moto", "PYTHONDONTWRITEBYTECODE": "1"},
        volumes={str(images.moto()): {"bind": "/moto", "mode": "ro"}},
        network=network.name,
        name=f"{NAME}-{network.short_id}",
        detach=True,
    )
    try:
        # It says when it listens, or ends.
        for line in container.logs(stream=True, follow=True):
            if b"Running on" in line:
                break
        else:
            raise RuntimeError(f"moto ended: {container.logs().decode()}")
        ip = address(container, network)
        client = boto3.client("s3", endpoint_url=f"http://{ip}:{PORT}", **CREDENTIALS)
        yield S3(f"http://{ip}:{PORT}", client)
    finally:
        container.remove(force=True)
