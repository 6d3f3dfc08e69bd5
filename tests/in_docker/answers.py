"""What answers must be."""

import base64
import json
from typing import Any

from tests.in_docker.s3 import S3

PNG = b"\x89PNG\r\n\x1a\n"
OUTPUT_BUCKET = "m2fp-masks"
# The key that the files of events/ name.
KEY = "photos/Zoë + friends.jpg"


def http_body(answer: dict[str, Any]) -> bytes:
    assert answer["statusCode"] == 200, answer
    body = answer["body"]
    return base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()


def check_mask(answer: dict[str, Any], s3: S3) -> None:
    assert http_body(answer).startswith(PNG), answer


def check_page(answer: dict[str, Any], s3: S3) -> None:
    assert b"<html" in http_body(answer), answer


def check_http_report(answer: dict[str, Any], s3: S3) -> None:
    check_report(json.loads(http_body(answer)), s3)


def check_report(report: dict[str, Any], s3: S3) -> None:
    assert report["classes"], report
    assert report["memory"]["peak_rss_mb"] <= report["memory"]["limit_mb"], report


def check_stored(prefix: str, key: str, s3: S3, bucket: str = OUTPUT_BUCKET) -> None:
    assert s3.get(bucket, f"{prefix}{key}.mask.png").startswith(PNG)
    assert json.loads(s3.get(bucket, f"{prefix}{key}.json"))["classes"]


def check_warm(answer: dict[str, Any], s3: S3) -> None:
    """The model is loaded, and nothing is done."""
    assert answer == {"warm": True}
    assert not s3.keys(OUTPUT_BUCKET)


def check_done(answer: Any, s3: S3) -> None:  # noqa: ANN401 - JSON
    """An event of S3: nothing failed, outputs are there."""
    failed = answer and (answer.get("errorType") or answer.get("batchItemFailures"))
    assert not failed, answer
    check_stored("masks/", KEY, s3)


def check_batch(answer: dict[str, Any], s3: S3, prefix: str = "masks/") -> None:
    assert [result["resultCode"] for result in answer["results"]] == ["Succeeded"], answer
    check_stored(prefix, KEY, s3)


def check_batch_with_options(answer: dict[str, Any], s3: S3) -> None:
    check_batch(answer, s3, "jobs/7/")


def check_nothing(answer: Any, s3: S3) -> None:  # noqa: ANN401 - JSON
    assert not (answer and answer.get("errorType")), answer
    assert not s3.keys(OUTPUT_BUCKET)
