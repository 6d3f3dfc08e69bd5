"""The package in Lambda's sandbox, imitated, at the sizes where memory is scarce."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.networks import Network

from tests.in_docker import answers, sandbox
from tests.in_docker.conftest import network_of
from tests.in_docker.s3 import S3, running
from tests.in_docker.table import Timed
from tests.memory import photos

LARGE = "24 MP JPEG"
SIZES_MB = (128, 256, 512, 1769)
TOO_LITTLE_MB = 72
"""Less than loading the packaged model takes, and less than a function can have."""


@pytest.fixture(scope="module")
def closed(client: docker.DockerClient) -> Iterator[Network]:
    """A network with no way out of it."""
    with network_of(client, "m2fp-lambda-sandbox", internal=True) as network:
        yield network


@pytest.fixture(scope="module")
def store(client: docker.DockerClient, closed: Network, large: Path) -> Iterator[S3]:
    """The S3 server is all that can be reached there."""
    with running(client, closed) as s3:
        s3.put("m2fp-photos", "large.jpg", large.read_bytes())
        yield s3


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos.photo(LARGE, tmp_path_factory.mktemp("photos"))


def upload_of(key: str) -> dict[str, object]:
    """What S3 says of an uploaded photo."""
    event = json.loads((sandbox.sam.ROOT / "events/s3-put.json").read_text())
    event["Records"][0]["s3"]["object"] = {"key": key}
    return event


@pytest.mark.parametrize("memory_mb", SIZES_MB)
def test_photos_are_answered_and_plans_hold(
    memory_mb: int,
    base: str,
    client: docker.DockerClient,
    closed: Network,
    store: S3,
    portrait: Path,
    timed: Timed,
) -> None:
    store.empty(answers.OUTPUT_BUCKET)
    with sandbox.running(client, closed, store, memory_mb, sandbox.TMP) as function:
        with timed(f"sandbox of {memory_mb} MB", "the demo photo"):
            report = function.invoke({"image": base64.b64encode(portrait.read_bytes()).decode()})
        answers.check_report(report, store)
        with timed(f"sandbox of {memory_mb} MB", f"{LARGE} from S3") as notes:
            answer = function.invoke(upload_of("large.jpg"))
            assert not (answer and "errorType" in answer), answer
            metrics = function.metrics(2)
            assert [line.get("Parsed") for line in metrics] == [1.0, 1.0], metrics
            for line in metrics:
                assert line["PeakMemory"] <= line["PredictedMemory"] + 16, line
                assert line["PredictedMemory"] <= memory_mb, line
            notes.append("held {PeakMemory:.0f} MB of {PredictedMemory:.0f} predicted".format_map(metrics[-1]))
        answers.check_stored("masks/", "large.jpg", store)
        assert not function.was_killed()


def test_less_memory_than_the_model_needs_is_told(
    base: str, client: docker.DockerClient, closed: Network, store: S3, portrait: Path
) -> None:
    with sandbox.running(client, closed, store, TOO_LITTLE_MB, sandbox.TMP) as function:
        for _ in range(2):
            answer = function.invoke({"image": base64.b64encode(portrait.read_bytes()).decode()})
            assert answer["errorType"] == "too_little_memory", answer
            assert answer["errorMessage"].endswith(f"; this function has {TOO_LITTLE_MB} MB"), answer
        assert not function.was_killed()


# The folder is named, and what is wrong with it.
FULL = ("full", {"/tmp": "size=1m,mode=1777"}, "temporary_folder", "/tmp is full")
UNWRITABLE = ("unwritable", {}, "temporary_folder", "/tmp cannot be written to")


@pytest.mark.parametrize(("what", "tmp", "error", "said"), [FULL, UNWRITABLE])
def test_a_temporary_folder_that_takes_nothing_is_told(
    what: str,
    tmp: dict[str, str],
    error: str,
    said: str,
    base: str,
    client: docker.DockerClient,
    closed: Network,
    store: S3,
    portrait: Path,
    timed: Timed,
) -> None:
    """The photo from S3 fails so that it comes again; what needs no file is answered before and after."""
    store.empty(answers.OUTPUT_BUCKET)
    with sandbox.running(client, closed, store, sandbox.VCPU_MB, tmp) as function:
        small = {"image": base64.b64encode(_small(portrait)).decode()}
        answers.check_report(function.invoke(small), store)
        with timed("sandbox", f"/tmp {what}: {LARGE} from S3") as notes:
            answer = function.invoke(upload_of("large.jpg"))
            assert answer["errorType"] == error, answer
            function.lines(lambda lines: said in json.dumps([answer, *lines]))
            notes.append(answer["errorMessage"])
        assert not store.keys(answers.OUTPUT_BUCKET)
        answers.check_report(function.invoke(small), store)
        assert not function.was_killed()


def _small(portrait: Path) -> bytes:
    """A photo that is held in memory: no file is made of less than 64 KiB."""
    event = json.loads((sandbox.sam.ROOT / "events/function-url.json").read_text())
    return base64.b64decode(event["body"])
