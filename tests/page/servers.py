"""The servers that the page is tested on: `m2fp serve`, and the function under AWS's emulator behind a gateway."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

import boto3
from samcli.yamlhelper import yaml_parse

import emulator
import make_events

ROOT = Path(__file__).parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MODEL = ROOT / "model/nano"
STAGE = "/Prod"
AWS = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "emulator", "AWS_SECRET_ACCESS_KEY": "emulator"}
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
# moto lets pages do what buckets allow, and nothing else.
OWN_CORS = {"MOTO_DISABLE_GLOBAL_CORS": "true"}
# What CloudFormation calls otherwise than S3 itself.
API_NAMES = {"MaxAge": "MaxAgeSeconds"}
LAMBDA_REQUEST_BYTES = 6 * 1024 * 1024


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Ours, and nothing of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("M2FP_")}
    library = str(ROOT / ".runtime/libonnxruntime.so")
    return {"ORT_DYLIB_PATH": library, **kept, "M2FP_MODEL_DIR": str(MODEL), "M2FP_LOG": "warn", **settings}


@contextmanager
def process(command: list[str | Path], settings: dict[str, str], **how: object) -> Iterator[subprocess.Popen[str]]:
    """A process with its children, ended with the block."""
    running = subprocess.Popen(command, env=environment(settings), text=True, start_new_session=True, **how)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, 15)
        running.wait()


def _named(settings: dict[str, str]) -> dict[str, str]:
    return {f"M2FP_{name}": value for name, value in settings.items()}


@contextmanager
def serve(*arguments: str, **settings: str) -> Iterator[str]:
    """The address of an `m2fp serve` with these settings (without their `M2FP_`)."""
    command = [TARGET / "release/m2fp", "serve", "--port", "0", *arguments]
    with process(command, AWS | _named(settings), stdout=subprocess.PIPE) as running:
        line = running.stdout.readline()
        assert "http://" in line, f"m2fp serve said {line!r}"
        yield line.split()[2]


@contextmanager
def storage(**buckets: str) -> Iterator[str]:
    """The address of an S3 server with these buckets, each open to pages as the template's bucket of that name is."""
    address = emulator.free_address()
    host, port = address.split(":")
    command = [Path(sys.prefix) / "bin/moto_server", "-H", host, "-p", port]
    with process(command, OWN_CORS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        emulator.wait_for(address)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name=AWS["AWS_REGION"],
            aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
        )
        for bucket, resource in buckets.items():
            client.create_bucket(Bucket=bucket)
            rules = TEMPLATE["Resources"][resource]["Properties"]["CorsConfiguration"]["CorsRules"]
            rules = [{API_NAMES.get(name, name): value for name, value in rule.items()} for rule in rules]
            client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
        yield f"http://{address}"


@contextmanager
def lambda_function(**settings: str) -> Iterator[str]:
    """The address of a gateway's stage, `…/Prod`, before the function under the emulator, with these settings."""
    address = emulator.free_address()
    command, environment = _emulator(address)
    with process(command, environment | _named(settings)):
        function = f"http://{address}{emulator.INVOCATIONS}"
        emulator.wait_for(address)
        with ThreadingHTTPServer(("127.0.0.1", 0), _gateway(function)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_port}{STAGE}"
            finally:
                server.shutdown()


def _emulator(address: str) -> tuple[list[str | Path], dict[str, str]]:
    arch = "arm64" if os.uname().machine == "aarch64" else "x86_64"
    (program,) = Path(sys.prefix).glob(f"lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{arch}")
    size = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "AWS_LAMBDA_FUNCTION_TIMEOUT": "29"}
    return emulator.command(program, address, TARGET / "release/bootstrap"), size | AWS


def _gateway(function: str) -> type[BaseHTTPRequestHandler]:
    """A REST API with one stage, every media type binary: what it makes of a request, and of the function's answer."""
    one_at_a_time = threading.Lock()

    class Gateway(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            url = urlsplit(self.path)
            if not (url.path == STAGE or url.path.startswith(f"{STAGE}/")):
                return self.reply(403, {"content-type": "application/json"}, b'{"message":"Forbidden"}')
            path = url.path.removeprefix(STAGE) or "/"
            event = make_events.rest(
                self.command, path, dict(parse_qsl(url.query)), dict(self.headers.items()), body or None
            )
            sent = json.dumps(event).encode()
            if len(sent) > LAMBDA_REQUEST_BYTES:
                too_long = b'{"message":"Request Too Long"}'
                return self.reply(413, {"content-type": "application/json"}, too_long)
            with one_at_a_time, urlopen(Request(function, sent)) as response:
                answer = json.load(response)
            headers = {name: values[-1] for name, values in answer["multiValueHeaders"].items()}
            text = answer.get("body") or ""
            content = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
            return self.reply(answer["statusCode"], headers, content)

        do_GET = do_POST = do_HEAD = do_OPTIONS = answer

        def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "date", "server"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Gateway
