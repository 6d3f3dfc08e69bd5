"""Parse photos the way Lambda does and show what came out: `demo.py --m2fp BINARY --out FOLDER PHOTO…`.

Each photo is wrapped into the event that a Function URL sends and handed to `m2fp invoke`, the same dispatcher that
runs on Lambda. The answers are decoded into the output folder.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# What is asked for: the request's `output`, and the ending of the file it is written to.
OUTPUTS = {"mask": ".mask.png", "overlay": ".overlay.jpg", "json": ".json"}

# Parts smaller than this share of the photo are not worth a line; the report has them.
LEAST_FRACTION = 0.001


def function_url_event(photo: bytes, query: str) -> dict[str, Any]:
    """The event of `curl --data-binary @photo URL/parse?query`."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/parse",
        "rawQueryString": query,
        "headers": {"content-type": "application/octet-stream", "host": "demo.lambda-url.us-east-1.on.aws"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "demo",
            "domainName": "demo.lambda-url.us-east-1.on.aws",
            "domainPrefix": "demo",
            "http": {"method": "POST", "path": "/parse", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "demo",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": 0,
        },
        "body": base64.b64encode(photo).decode(),
        "isBase64Encoded": True,
    }


def invoke(m2fp: Path, event: dict[str, Any]) -> bytes:
    """The body that the dispatcher answers with."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(event, file)
        file.flush()
        run = subprocess.run([m2fp, "invoke", file.name], stdout=subprocess.PIPE, check=True)
    answer = json.loads(run.stdout)
    body = base64.b64decode(answer["body"]) if answer.get("isBase64Encoded") else answer["body"].encode()
    if answer["statusCode"] != 200:
        raise SystemExit(f"the function answered {answer['statusCode']}: {body.decode()}")
    return body


def table(report: dict[str, Any]) -> str:
    """The report's parts as a text table, specks left out."""
    lines = [f"  {'part':<14} {'share':>7} {'score':>6}   box [x, y, w, h]"]
    parts = [part for part in report["classes"] if part["fraction"] >= LEAST_FRACTION]
    for part in sorted(parts, key=lambda part: -part["pixels"]):
        score = "" if part.get("score") is None else f"{part['score']:.2f}"
        lines.append(f"  {part['name']:<14} {part['fraction']:>7.2%} {score:>6}   {part['bbox']}")
    return "\n".join(lines)


def show(m2fp: Path, photo: Path, out: Path) -> None:
    """Writes the photo's outputs to `out` and prints where they are and what they hold."""
    content = photo.read_bytes()
    written = []
    report: dict[str, Any] = {}
    for kind, suffix in OUTPUTS.items():
        body = invoke(m2fp, function_url_event(content, f"output={kind}"))
        if kind == "json":
            report = json.loads(body)
            body = json.dumps(report, indent=2).encode()
        target = out / (photo.name + suffix)
        target.write_bytes(body)
        written.append(target)
    image, plan, timings = report["image"], report["plan"], report["timings_ms"]
    print(f"\n{photo}: {image['width']}×{image['height']}, people found: {len(report['persons'])}")
    print(f"  run at {plan['working_width']}×{plan['working_height']}: {plan['reason']}")
    print(
        f"  inference {timings['inference']:.0f} ms of {timings['total']:.0f}, "
        f"peak memory {report['memory']['peak_rss_mb']:.0f} MB"
    )
    print(table(report))
    for target in written:
        print(f"  {target}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m2fp", type=Path, required=True, help="the command line's binary")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("photos", type=Path, nargs="+")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for photo in arguments.photos:
        show(arguments.m2fp, photo, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
