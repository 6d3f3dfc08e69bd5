"""`sam local invoke` of every file of events/, as it stands."""

from pathlib import Path

import pytest
from docker.models.networks import Network

from tests.in_docker import answers, sam
from tests.in_docker.s3 import S3
from tests.in_docker.table import Timed

HTTP, S3_EVENTS = "HttpFunction", "S3Function"

# File, function, and what its answer must be; one that is missing here fails.
EVENTS = {
    "alb.json": (HTTP, answers.check_mask),
    "apigw-http-multipart.json": (HTTP, answers.check_http_report),
    "apigw-http.json": (HTTP, answers.check_mask),
    "apigw-rest-page.json": (HTTP, answers.check_page),
    "apigw-rest.json": (HTTP, answers.check_mask),
    "direct-invoke-s3.json": (HTTP, answers.check_report),
    "direct-invoke.json": (HTTP, answers.check_report),
    "eventbridge.json": (S3_EVENTS, answers.check_done),
    "function-url.json": (HTTP, answers.check_mask),
    "lattice.json": (HTTP, answers.check_mask),
    "pipes-sqs.json": (S3_EVENTS, answers.check_done),
    "s3-batch-1.0.json": (S3_EVENTS, answers.check_batch),
    "s3-batch-2.0.json": (S3_EVENTS, answers.check_batch_with_options),
    "s3-put.json": (S3_EVENTS, answers.check_done),
    "s3-test-event.json": (S3_EVENTS, answers.check_nothing),
    "scheduled.json": (S3_EVENTS, answers.check_warm),
    "sns-eventbridge.json": (S3_EVENTS, answers.check_done),
    "sns-s3.json": (S3_EVENTS, answers.check_done),
    "sqs-eventbridge.json": (S3_EVENTS, answers.check_done),
    "sqs-s3.json": (S3_EVENTS, answers.check_done),
    "sqs-sns.json": (S3_EVENTS, answers.check_done),
}


def test_every_event_is_tried() -> None:
    assert sorted(EVENTS) == sorted(path.name for path in (sam.ROOT / "events").glob("*.json"))


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_answered(
    name: str, base: str, s3: S3, network: Network, parameters: dict[str, str], photo: bytes, timed: Timed
) -> None:
    function, check = EVENTS[name]
    s3.put("m2fp-photos", answers.KEY, photo)
    s3.empty(answers.OUTPUT_BUCKET)
    event: Path = sam.ROOT / "events" / name
    with timed("sam local invoke", name):
        answer, _ = sam.invoke(function, event, network.name, parameters)
    check(answer, s3)
