"""Lambda's sandbox, imitated: what a function may write, be, hold and reach."""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
from docker.models.containers import Container
from docker.models.networks import Network

import emulator
from tests.in_docker import images, sam
from tests.in_docker.s3 import S3, address

RIE = next((sam.ROOT / ".venv/lib").glob(f"*/site-packages/samcli/local/rapid/aws-lambda-rie-{images.ARCH}"))
PACKAGE = sam.BUILT.parent / "S3Function"
PORT = 8080
# Lambda's unprivileged user.
USER = "993:990"
# This much memory buys one vCPU.
VCPU_MB = 1769
TIMEOUT_S = 120
LOG_TIMEOUT_S = 30
TMP = {"/tmp": "size=512m,mode=1777"}


@dataclass
class Sandbox:
    container: Container
    url: str

    def invoke(self, event: Any) -> Any:  # noqa: ANN401 - JSON
        request = urllib.request.Request(self.url, json.dumps(event).encode())
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read() or "null")

    def lines(self, are_all: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What the function logged as JSON, as soon as that is all; an AssertionError if it never is.

        Lines can reach Docker's log after the answer that they belong to.
        """
        ends = time.monotonic() + LOG_TIMEOUT_S
        while True:
            text = self.container.logs().decode(errors="replace")
            whole = text[: text.rfind("\n") + 1]
            found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
            if are_all(found):
                return found
            assert time.monotonic() < ends, text
            time.sleep(0.1)

    def metrics(self, count: int) -> list[dict[str, Any]]:
        """The first `count` lines of metrics and what came with them."""
        return _metrics(self.lines(lambda lines: len(_metrics(lines)) >= count))

    def was_killed(self) -> bool:
        self.container.reload()
        state = self.container.attrs["State"]
        return state["OOMKilled"] or not state["Running"]


def _metrics(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if "_aws" in line]


@contextmanager
def running(
    client: docker.DockerClient,
    network: Network,
    s3: S3,
    memory_mb: int,
    tmp: dict[str, str],
) -> Iterator[Sandbox]:
    """The built function with so much memory, its share of a processor, and these writable folders."""
    processors = min(memory_mb / VCPU_MB, os.cpu_count() or 1)
    container = client.containers.run(
        images.LAMBDA,
        entrypoint=["env", "-u", "HOME", "/var/rapid/aws-lambda-rie", "--log-level", "error", "/var/task/bootstrap"],
        environment={
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT_S),
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "docker",
            "AWS_SECRET_ACCESS_KEY": "docker",
            "M2FP_S3_ENDPOINT": s3.inside,
            "M2FP_OUTPUT_BUCKET": "m2fp-masks",
        },
        volumes={str(PACKAGE): {"bind": "/var/task", "mode": "ro"}}
        | {str(RIE): {"bind": "/var/rapid/aws-lambda-rie", "mode": "ro"}},
        working_dir="/var/task",
        read_only=True,
        tmpfs=tmp,
        user=USER,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit=f"{memory_mb}m",
        memswap_limit=f"{memory_mb}m",
        nano_cpus=int(processors * 1e9),
        network=network.name,
        detach=True,
    )
    try:
        where = f"{address(container, network)}:{PORT}"
        emulator.wait_for(where)
        yield Sandbox(container, f"http://{where}{emulator.INVOCATIONS}")
    finally:
        container.remove(force=True)
