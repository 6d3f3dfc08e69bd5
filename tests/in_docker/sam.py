"""`sam local`, on what `sam build` has left."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scripts import emulator

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".aws-sam/build/template.yaml"
SAM = ROOT / ".venv/bin/sam"
PATIENCE_S = 300
AGAIN_S = 30
"""More than SAM takes to stop its containers."""


def _environment() -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "docker", "AWS_SECRET_ACCESS_KEY": "docker", "AWS_DEFAULT_REGION": "us-east-1"}
    return os.environ | keys | {"SAM_CLI_TELEMETRY": "0", "AWS_EC2_METADATA_DISABLED": "true"}


def _command(
    verb: str, network: str, parameters: dict[str, str], template: Path, *more: str | Path
) -> list[str | Path]:
    command: list[str | Path] = [SAM, "local", verb, *more, "--template", template, "--skip-pull-image"]
    command += ["--docker-network", network, "--parameter-overrides"]
    return command + [f"{name}={value}" for name, value in parameters.items()]


def invoke(function: str, event: Path, network: str, parameters: dict[str, str]) -> tuple[Any, str]:
    """What the function answers to the event, and what was logged."""
    command = _command("invoke", network, parameters, BUILT, function, "--event", event)
    run = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.strip().splitlines()[-1]), run.stderr


@contextmanager
def serving(verb: str, network: str, parameters: dict[str, str], template: Path = BUILT) -> Iterator[str]:
    """`start-api` or `start-lambda`: the URL where it listens."""
    host, port = emulator.free_address().split(":")
    command = _command(verb, network, parameters, template, "--port", port, "--warm-containers", "LAZY")
    log = ROOT / f".aws-sam/{verb}.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=file, stderr=file)
    try:
        _wait_until_it_says_so(process, log)
        yield f"http://{host}:{port}"
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SAM makes an exception of the signal, which is lost where it meets a callback of Python's: it is sent again."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            raise RuntimeError("sam does not stop")
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=AGAIN_S)


def _wait_until_it_says_so(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not re.search("Running on http", log.read_text()):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"sam does not serve: {log.read_text()}")
        time.sleep(0.05)
