"""The program in a memory cgroup of a function's size, with the share of the processors that Lambda gives it."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

import cgroup
from cgroup import Group
from tests.memory.photos import ROOT

# Memory that buys one vCPU, MB (AWS Lambda developer guide).
MB_PER_VCPU = 1769
# Larger than any photo of ours takes at the smallest share of a processor.
RUN_SECONDS = 1200
SAMPLE_SECONDS = 0.01
# Enough to plan in, and too little for any photo.
LEAST_MB = 32
# The memory that a refusal names.
NAMED = re.compile(r"needs (\d+) MB")
KILLED = -9


@dataclass(frozen=True)
class Program:
    """A binary and the model that it runs; files of our own, so that a group is charged for every page of them."""

    m2fp: Path
    runtime: Path
    model: Path
    # How photos are run: auto or tiled.
    mode: str

    @property
    def name(self) -> str:
        return self.model.name if self.mode == "auto" else f"{self.model.name}, {self.mode}"

    def environment(self, size_mb: int) -> dict[str, str]:
        """Of a function of this size: nothing of the caller's settings."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("M2FP_", "AWS_"))}
        return {
            **ours,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(size_mb),
            "M2FP_MODEL_DIR": str(self.model),
            "ORT_DYLIB_PATH": str(self.runtime),
            # On a disk, as Lambda's /tmp is: in memory it would be charged.
            "TMPDIR": str(self.m2fp.parent),
        }

    def drop_from_cache(self) -> None:
        """What nobody has cached is charged to whoever reads it."""
        for path in (self.m2fp, self.runtime, *self.model.iterdir()):
            cgroup.drop_from_cache(path)


@contextmanager
def copied(m2fp: Path, models: list[Path], mode: str, work: Path) -> Iterator[list[Program]]:
    """The program with each model, copied: pages of files that others use already would cost a group nothing."""
    runtime = Path(os.environ.get("ORT_DYLIB_PATH", ROOT / ".runtime/libonnxruntime.so"))
    with TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        binaries = [Path(shutil.copy(binary, folder)) for binary in (m2fp, runtime)]
        copies = [Path(shutil.copytree(model, folder / model.name)) for model in models]
        yield [Program(*binaries, model, mode) for model in copies]


@dataclass(frozen=True)
class Ran:
    """A process that has ended."""

    status: int
    seconds: float
    out: str
    error: str
    peak_mb: float
    kills: int
    group_peak_mb: float | None

    @property
    def killed(self) -> bool:
        return self.kills > 0 or self.status == KILLED

    @property
    def last_line(self) -> str:
        """Of what it complained about, folders left out."""
        lines = [line for line in self.error.splitlines() if line.strip()]
        return re.sub(r"/\S*/", "", lines[-1]) if lines else ""


@dataclass(frozen=True)
class Parsed:
    """`m2fp parse` of one photo."""

    ran: Ran
    report: dict[str, Any] | None
    mask_size: tuple[int, int] | None


def vcpus(size_mb: int) -> float:
    return size_mb / MB_PER_VCPU


def can_limit() -> bool:
    """Whether this machine lets us make memory cgroups."""
    with cgroup.group(64) as group:
        return group is not None


def run(program: Program, size_mb: int, arguments: list[str], photo: Path) -> Ran:
    """One command on one photo."""
    program.drop_from_cache()
    cgroup.drop_from_cache(photo)
    with cgroup.group(size_mb, vcpus(size_mb)) as group, TemporaryDirectory() as name:
        if group is None:
            raise RuntimeError("a memory cgroup could be made before, and no longer")
        out, error = Path(name) / "out", Path(name) / "error"
        with out.open("w") as out_file, error.open("w") as error_file:
            start = time.perf_counter()
            process = subprocess.Popen(
                group.enter([str(program.m2fp), *arguments, str(photo)]),
                stdout=out_file,
                stderr=error_file,
                env=program.environment(size_mb),
            )
            peak_mb = _watched(process)
            seconds = time.perf_counter() - start
        texts = (out.read_text(), error.read_text())
        return Ran(process.returncode, seconds, *texts, peak_mb, group.kills(), group.peak_mb())


def _watched(process: subprocess.Popen) -> float:
    """Waits for the end; the greatest resident set seen, MB. The program resets the kernel's mark for each request."""
    peak, end = 0.0, time.perf_counter() + RUN_SECONDS
    while process.poll() is None:
        peak = max(peak, _status_mb(process.pid, "VmHWM"))
        if time.perf_counter() > end:
            process.kill()
        time.sleep(SAMPLE_SECONDS)
    return peak


def _status_mb(pid: int, name: str) -> float:
    """A figure of `/proc`, 0 when the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def margin_mb(program: Program, photo: Path) -> int:
    """What the account keeps free for what no constant predicts: what a refusal names beyond its plan's peak."""
    _, answer = plan(replace(program, mode="auto"), LEAST_MB, photo)
    return int(NAMED.search(answer["refused"]["detail"])[1]) - answer["plan"]["predicted_peak_mb"]


def plan(program: Program, size_mb: int, photo: Path) -> tuple[Ran, dict[str, Any] | None]:
    """`m2fp plan`, which ends with 1 where it refuses."""
    ran = run(program, size_mb, ["plan", *_options(program), "--json"], photo)
    return ran, _last_json(ran.out)


def parse(program: Program, size_mb: int, photo: Path) -> Parsed:
    with TemporaryDirectory() as folder:
        ran = run(program, size_mb, ["parse", *_options(program), "--json", "--out", folder], photo)
        masks = list(Path(folder).glob("*.mask.png"))
        size = None
        if masks:
            Image.MAX_IMAGE_PIXELS = None
            with Image.open(masks[0]) as mask:
                size = mask.size
    return Parsed(ran, _last_json(ran.out), size)


class Server:
    """`m2fp serve` in a group."""

    def __init__(self, process: subprocess.Popen[str], url: str, group: Group) -> None:
        self.process = process
        self.address = url.removeprefix("http://").rstrip("/")
        self.group = group

    def anonymous_mb(self) -> float:
        return _status_mb(self.process.pid, "RssAnon")


@contextmanager
def serve(program: Program, size_mb: int, settings: dict[str, str]) -> Iterator[Server]:
    """Settings are `M2FP_*` without the prefix. All processors: memory is what is asked about."""
    program.drop_from_cache()
    environment = program.environment(size_mb) | {f"M2FP_{key}": value for key, value in settings.items()}
    with cgroup.group(size_mb) as group, TemporaryDirectory() as folder:
        if group is None:
            raise RuntimeError("a memory cgroup could be made before, and no longer")
        log = Path(folder) / "log"
        with log.open("w") as log_file:
            process = subprocess.Popen(
                group.enter([str(program.m2fp), "serve", "--port", "0"]),
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                env=environment,
            )
        try:
            said = process.stdout.readline()
            found = re.search(r"http://\S+", said)
            if found is None:
                raise RuntimeError(f"m2fp serve did not start: {log.read_text()}")
            yield Server(process, found[0], group)
        finally:
            process.terminate()
            process.wait(60)


def _options(program: Program) -> list[str]:
    return ["--output", "mask,json", "--mode", program.mode]


def _last_json(text: str) -> dict[str, Any] | None:
    lines = text.strip().splitlines()
    said = json.loads(lines[-1]) if lines else {"error": "it said nothing"}
    return None if "error" in said else said
