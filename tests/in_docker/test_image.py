"""The container image: built on the base image, run with the emulator that is in its trial stage."""

import base64
import json
import subprocess
import urllib.request
from pathlib import Path

import docker
from docker.models.networks import Network

import emulator
from tests.in_docker import answers, images, sam, sandbox
from tests.in_docker.s3 import S3, address
from tests.in_docker.table import Timed

PORT = 8080
IMAGE = "m2fp-lambda-test/image"


def test_the_image_answers(
    base: str, client: docker.DockerClient, s3: S3, network: Network, portrait: Path, timed: Timed
) -> None:
    with timed("container image", "built by make image"):
        command = ["make", "image", f"IMAGE={IMAGE}", f"BASE={base}", f"ARCH={images.ARCH}"]
        made = subprocess.run(command, cwd=sam.ROOT, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    function = client.images.get(f"{IMAGE}:{images.ARCH}").attrs["Config"]
    assert (function["Entrypoint"], function["User"]) == (["/var/task/bootstrap"], "nobody")
    container = client.containers.run(
        f"{IMAGE}:{images.ARCH}-trial", network=network.name, read_only=True, tmpfs=sandbox.TMP, detach=True
    )
    try:
        where = f"{address(container, network)}:{PORT}"
        emulator.wait_for(where)
        with timed("container image", "the demo photo"):
            event = {"image": base64.b64encode(portrait.read_bytes()).decode()}
            request = urllib.request.Request(f"http://{where}{emulator.INVOCATIONS}", json.dumps(event).encode())
            with urllib.request.urlopen(request, timeout=120) as answer:
                report = json.loads(answer.read())
        answers.check_report(report, s3)
    finally:
        container.remove(force=True)
