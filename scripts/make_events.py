"""Write `events/`: one event for each door, inputs of `sam local invoke` and fixtures of the tests.

`make_events.py PHOTO [DESTINATION]`. The shapes are those of the AWS Lambda developer guide; account, domain and
request ids are its examples. The photo is small, so that the events can be read: PHOTO (the public-domain portrait of
Eileen Collins, NASA, as scikit-image ships it) at 256 pixels. The same Pillow writes the same files.
"""

import argparse
import base64
import hashlib
import io
import json
import sys
from pathlib import Path
from urllib.parse import quote_plus

from PIL import Image

PHOTO_SIDE = 256
PHOTO_QUALITY = 75
# A space, a plus and a letter outside ASCII: S3 form-encodes them in events.
KEY = "photos/Zoë + friends.jpg"
BUCKET = "m2fp-photos"
OUTPUT_BUCKET = "m2fp-masks"
ELB_ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012"
BOUNDARY = "----m2fp-example-boundary"


def small_photo(path: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB").resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
        small.save(buffer, "JPEG", quality=PHOTO_QUALITY, optimize=True)
    return buffer.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def multipart(photo: bytes) -> bytes:
    parts = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="output"\r\n\r\njson\r\n',
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n",
    )
    return "".join(parts).encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def rest(method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes | None) -> dict:
    """API Gateway REST API, Lambda proxy integration (payload format 1.0), stage `Prod`."""
    headers = {
        "Host": "abcdef1234.execute-api.us-east-1.amazonaws.com",
        "User-Agent": "curl/8.9.1",
        "X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
        **headers,
    }
    return {
        "resource": path if path == "/" else "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": query or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} or None,
        "pathParameters": None if path == "/" else {"proxy": path.removeprefix("/")},
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "domainName": "abcdef1234.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abcdef1234",
            "extendedRequestId": "JKJaXmPLvHcESHA=",
            "httpMethod": method,
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "curl/8.9.1"},
            "path": f"/Prod{path}",
            "protocol": "HTTP/1.1",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "requestTime": "09/Apr/2025:12:34:56 +0000",
            "requestTimeEpoch": 1744202096000,
            "resourceId": "123456",
            "resourcePath": path if path == "/" else "/{proxy+}",
            "stage": "Prod",
        },
        "body": text(body) if body is not None else None,
        "isBase64Encoded": body is not None,
    }


def http_api(domain: str, query: str, content_type: str, body: bytes) -> dict:
    """API Gateway HTTP API and Lambda Function URL (payload format 2.0)."""
    host = f"abcdef1234.{domain}"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/parse",
        "rawQueryString": query,
        "headers": {
            "accept": "*/*",
            "content-length": str(len(body)),
            "content-type": content_type,
            "host": host,
            "user-agent": "curl/8.9.1",
            "x-amzn-trace-id": "Root=1-67891233-abcdef012345678912345678",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        **({"queryStringParameters": dict(pair.split("=") for pair in query.split("&"))} if query else {}),
        "requestContext": {
            "accountId": "anonymous" if "lambda-url" in domain else "123456789012",
            "apiId": "abcdef1234",
            "domainName": host,
            "domainPrefix": "abcdef1234",
            "http": {
                "method": "POST",
                "path": "/parse",
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "curl/8.9.1",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "09/Apr/2025:12:34:56 +0000",
            "timeEpoch": 1744202096000,
        },
        "body": text(body),
        "isBase64Encoded": True,
    }


def alb(photo: bytes) -> dict:
    """Application Load Balancer, single-value headers."""
    return {
        "requestContext": {"elb": {"targetGroupArn": f"{ELB_ARN}:targetgroup/m2fp/49e9d65c45c6791a"}},
        "httpMethod": "POST",
        "path": "/parse",
        "queryStringParameters": {"output": "mask"},
        "headers": {
            "accept": "*/*",
            "content-length": str(len(photo)),
            "content-type": "image/jpeg",
            "host": "m2fp-1234567890.us-east-1.elb.amazonaws.com",
            "user-agent": "curl/8.9.1",
            "x-amzn-trace-id": "Root=1-67891233-abcdef012345678912345678",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "body": text(photo),
        "isBase64Encoded": True,
    }


def etag(photo: bytes) -> str:
    return hashlib.md5(photo, usedforsecurity=False).hexdigest()


def s3_put(photo: bytes) -> dict:
    """S3 event notification, event message version 2.1."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": "2025-04-09T12:34:56.789Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
                "requestParameters": {"sourceIPAddress": "203.0.113.7"},
                "responseElements": {"x-amz-request-id": "EXAMPLE123456789", "x-amz-id-2": "EXAMPLE123/abcdefgh"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "photos",
                    "bucket": {
                        "name": BUCKET,
                        "ownerIdentity": {"principalId": "EXAMPLE"},
                        "arn": f"arn:aws:s3:::{BUCKET}",
                    },
                    "object": {
                        "key": quote_plus(KEY, safe="/"),
                        "size": len(photo),
                        "eTag": etag(photo),
                        "sequencer": "0067F6A1B2C3D4E5F6",
                    },
                },
            }
        ]
    }


def s3_test() -> dict:
    """What S3 sends once when a notification is configured."""
    return {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2025-04-09T12:34:56.789Z",
        "Bucket": BUCKET,
        "RequestId": "5582815E1AEA5ADF",
        "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
    }


def eventbridge(photo: bytes) -> dict:
    """S3's "Object Created" by EventBridge. Its key is not encoded."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "time": "2025-04-09T12:34:56Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {
            "version": "0",
            "bucket": {"name": BUCKET},
            "object": {"key": KEY, "size": len(photo), "etag": etag(photo), "sequencer": "0067F6A1B2C3D4E5F6"},
            "request-id": "EXAMPLE123456789",
            "requester": "123456789012",
            "source-ip-address": "203.0.113.7",
            "reason": "PutObject",
        },
    }


def sqs(*bodies: dict) -> dict:
    """Messages of a standard queue."""
    return {
        "Records": [
            {
                "messageId": f"059f36b4-87a3-44ab-83d2-66197{number:07}",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": json.dumps(body, ensure_ascii=False),
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1744202096789",
                    "SenderId": "AIDAEXAMPLE",
                    "ApproximateFirstReceiveTimestamp": "1744202096795",
                },
                "messageAttributes": {},
                "md5OfBody": hashlib.md5(json.dumps(body, ensure_ascii=False).encode()).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:m2fp-photos",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def sns_notification(message: dict) -> dict:
    """What SNS puts around a message."""
    return {
        "Type": "Notification",
        "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:m2fp-photos",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message, ensure_ascii=False),
        "Timestamp": "2025-04-09T12:34:57.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-EXAMPLE.pem",
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
    }


def sns(message: dict) -> dict:
    """A topic that invokes the function itself."""
    # SNS writes these two names in another way for Lambda than for other subscribers.
    notification = sns_notification(message)
    notification["SigningCertUrl"] = notification.pop("SigningCertURL")
    notification["UnsubscribeUrl"] = notification.pop("UnsubscribeURL")
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": "arn:aws:sns:us-east-1:123456789012:m2fp-photos:21be56ed-a058-49f5-8c98",
                "Sns": {**notification, "MessageAttributes": {}},
            }
        ]
    }


def lattice(photo: bytes) -> dict:
    """VPC Lattice, event structure version 2.0."""
    arn = "arn:aws:vpc-lattice:us-east-1:123456789012"
    return {
        "version": "2.0",
        "path": "/parse",
        "method": "POST",
        "headers": {
            "accept": ["*/*"],
            "content-length": [str(len(photo))],
            "content-type": ["image/jpeg"],
            "host": ["m2fp-0a40eebed65f8d69c.7d67968.vpc-lattice-svcs.us-east-1.on.aws"],
            "user-agent": ["curl/8.9.1"],
            "x-forwarded-for": ["10.213.229.10"],
        },
        "queryStringParameters": {"output": ["mask"]},
        "body": text(photo),
        "isBase64Encoded": True,
        "requestContext": {
            "serviceNetworkArn": f"{arn}:servicenetwork/sn-0bf3f2882e9cc805a",
            "serviceArn": f"{arn}:service/svc-0a40eebed65f8d69c",
            "targetGroupArn": f"{arn}:targetgroup/tg-6d0ecf831eec9f09",
            "identity": {"sourceVpcArn": "arn:aws:ec2:us-east-1:123456789012:vpc/vpc-0b8276c84697e7339"},
            "region": "us-east-1",
            "timeEpoch": "1744202096789073",
        },
    }


def scheduled() -> dict:
    """A schedule that keeps the function warm, as an EventBridge rule sends it."""
    return {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2025-04-09T12:35:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/m2fp-warm"],
        "detail": {},
    }


def s3_batch(schema: str, bucket: dict[str, str], arguments: dict[str, str] | None) -> dict:
    """An invocation by S3 Batch Operations."""
    return {
        "invocationSchemaVersion": schema,
        "invocationId": "YXNkbGZqYWRmaiBhc2RmdW9hZHNmZGpmaGFzbGtkaGZza2RmaAo",
        "job": {
            "id": "f3cc4f60-61f6-4a2b-8a21-d07600c373ce",
            **({"userArguments": arguments} if arguments else {}),
        },
        "tasks": [
            {
                "taskId": "dGFza2lkZ29lc2hlcmUK",
                "s3Key": quote_plus(KEY, safe="/"),
                "s3VersionId": None,
                **bucket,
            }
        ],
    }


def events(photo: bytes) -> dict[str, dict | list]:
    form = f"multipart/form-data; boundary={BOUNDARY}"
    api = "execute-api.us-east-1.amazonaws.com"
    return {
        "apigw-rest": rest("POST", "/parse", {"output": "mask"}, {"Content-Type": "image/jpeg"}, photo),
        "apigw-rest-page": rest("GET", "/", {}, {"Accept": "text/html"}, None),
        "apigw-http": http_api(api, "output=mask", "image/jpeg", photo),
        "apigw-http-multipart": http_api(api, "", form, multipart(photo)),
        "function-url": http_api("lambda-url.us-east-1.on.aws", "output=mask", "image/jpeg", photo),
        "alb": alb(photo),
        "s3-put": s3_put(photo),
        "s3-test-event": s3_test(),
        "eventbridge": eventbridge(photo),
        "sqs-s3": sqs(s3_put(photo), s3_test()),
        "sqs-eventbridge": sqs(eventbridge(photo)),
        "sqs-sns": sqs(sns_notification(s3_put(photo))),
        "sns-s3": sns(s3_put(photo)),
        "sns-eventbridge": sns(eventbridge(photo)),
        "pipes-sqs": sqs(s3_put(photo))["Records"],
        "lattice": lattice(photo),
        "scheduled": scheduled(),
        "s3-batch-1.0": s3_batch("1.0", {"s3BucketArn": f"arn:aws:s3:::{BUCKET}"}, None),
        "s3-batch-2.0": s3_batch(
            "2.0", {"s3Bucket": BUCKET}, {"output": "mask,overlay,json", "score": "0.3", "output_prefix": "jobs/7/"}
        ),
        "direct-invoke": {"image": text(photo), "options": {"output": "json"}},
        "direct-invoke-s3": {
            "s3": {"bucket": BUCKET, "key": KEY},
            "options": {"output": ["mask", "overlay", "json"]},
            "store": {"bucket": OUTPUT_BUCKET, "key_prefix": "jobs/42/Zoë"},
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("destination", type=Path, nargs="?", default=Path(__file__).parent.parent / "events")
    arguments = parser.parse_args()
    arguments.destination.mkdir(parents=True, exist_ok=True)
    for name, event in events(small_photo(arguments.photo)).items():
        path = arguments.destination / f"{name}.json"
        path.write_text(json.dumps(event, indent=2, ensure_ascii=False) + "\n")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
