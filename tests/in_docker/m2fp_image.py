"""M2FP itself in float32, with weights at random, answers from the container image.

Its files are too large for a zip, so the image is how it is deployed. `make test-docker-m2fp` makes the model and runs
this; `make test-docker` does not, since PyTorch is needed for the model.
"""

import base64
import json
from pathlib import Path

import docker
from docker.models.networks import Network

from tests.in_docker import answers, image, images, sam
from tests.in_docker.s3 import S3
from tests.in_docker.table import Timed

IMAGE = "m2fp-lambda-test/m2fp"
# Where `make test-docker-m2fp` leaves it.
MODEL = sam.ROOT / "runs/m2fp-random"
# Lambda's limit on a zip unzipped.
ZIP_BYTES = 250 * 2**20


def test_m2fp_answers_from_the_image(
    base: str, client: docker.DockerClient, s3: S3, network: Network, portrait: Path, timed: Timed
) -> None:
    manifest = json.loads((MODEL / "model.json").read_text())
    assert sum(file["bytes"] for file in manifest["files"]) > 200 * 2**20, "not M2FP in float32"
    with timed("M2FP in float32", "built by make image"):
        image.make(base, IMAGE, f"MODEL={MODEL.relative_to(sam.ROOT)}")
    assert client.images.get(f"{IMAGE}:{images.ARCH}").attrs["Size"] > ZIP_BYTES
    with image.running(client, network, IMAGE) as url:
        event = {"image": base64.b64encode(portrait.read_bytes()).decode()}
        with timed("M2FP in float32", "the demo photo, the model's loading included"):
            report = image.invoke(url, event)
        answers.check_report(report, s3)
        assert report["model"]["sha256"] == manifest["files"][0]["sha256"], report["model"]
        with timed("M2FP in float32", "the demo photo again"):
            assert image.invoke(url, event)["classes"] == report["classes"]
