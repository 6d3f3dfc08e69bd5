"""The container image answers, built on the base image."""

import base64
from pathlib import Path

import docker
from docker.models.networks import Network

from tests.in_docker import answers, image, images
from tests.in_docker.s3 import S3
from tests.in_docker.table import Timed

IMAGE = "m2fp-lambda-test/image"


def test_the_image_answers(
    base: str, client: docker.DockerClient, s3: S3, network: Network, portrait: Path, timed: Timed
) -> None:
    with timed("container image", "built by make image"):
        image.make(base, IMAGE)
    function = client.images.get(f"{IMAGE}:{images.ARCH}").attrs["Config"]
    assert (function["Entrypoint"], function["User"]) == (["/var/task/bootstrap"], "nobody")
    with image.running(client, network, IMAGE) as url, timed("container image", "the demo photo"):
        event = {"image": base64.b64encode(portrait.read_bytes()).decode()}
        answers.check_report(image.invoke(url, event), s3)
