"""Runs a process and says how long it took and what it held."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import published
from bench.contender import THREADS
from bench.prepare import ROOT
from cgroup import Group, drop_from_cache

KILLED = -9


@dataclass(frozen=True)
class Run:
    """Of one process, from its start to its end."""

    status: int
    seconds: float
    out: str
    error: str
    cpu_seconds: float


@dataclass(frozen=True)
class Result:
    """A row of the table. fault: why there are no figures."""

    seconds: float = 0.0
    work_seconds: float = 0.0
    """Without the process's start and the loading of the model."""
    peak_mb: float = 0.0
    note: str = ""
    fault: str = ""
    cpu_seconds: float = 0.0
    """Processor time: of the work for a contender, of the whole process for `parse`."""


def run(command: list[str | Path], group: Group | None = None) -> Run:
    """`group`: to run in."""
    runtime = {"ORT_DYLIB_PATH": str(ROOT / ".runtime/libonnxruntime.so")}
    settings = {"ORT_DISABLE_TELEMETRY": "1", "M2FP_THREADS": str(THREADS), **runtime}
    environment = {**os.environ, **settings, "OMP_NUM_THREADS": str(THREADS)}
    text = [str(part) for part in command]
    if group is not None:
        text = group.enter(text)
    with TemporaryDirectory() as folder:
        out, error = Path(folder) / "out", Path(folder) / "error"
        with out.open("wb") as out_file, error.open("wb") as error_file:
            start = time.perf_counter()
            process = subprocess.Popen(
                text, stdout=out_file, stderr=error_file, env=environment, cwd=ROOT / "model/export"
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - start
        texts = (out.read_text(), error.read_text())
    return Run(process.returncode, seconds, *texts, used.ru_utime + used.ru_stime)


def contender(python: str, kind: str, model: Path, photo: Path, runs: int) -> list[Result]:
    """The first run, and the median of the rest where there are more."""
    done = run([python, "-m", "bench.contender", kind, model, photo, str(runs)])
    if done.status:
        return [Result(fault=_fault(done))]
    said = json.loads(done.out.splitlines()[-1])
    seconds, peaks = said["seconds"], said["peaks_mb"]
    cpu = said["cpu_seconds"]
    results = [Result(seconds[0], seconds[0], peaks[0], cpu_seconds=cpu[0])]
    if runs > 1:
        later = median(seconds[1:])
        results.append(Result(later, later, max(peaks), cpu_seconds=median(cpu[1:])))
    return results


def parse(m2fp: Path, model: Path, photo: Path, runs: int, group: Group | None = None) -> Result:
    """`m2fp parse`, the whole process: photo to palette mask and report."""
    done = []
    with TemporaryDirectory() as out:
        command = [m2fp, "parse", photo, "--model", model, "--out", out, "--output", "mask,json"]
        for _ in range(runs):
            if group is not None:
                for file in model.iterdir():
                    drop_from_cache(file)
            done.append(run([*command, "--json"], group))
            if done[-1].status:
                return Result(fault=_fault(done[-1]))
    reports = [json.loads(one.out.splitlines()[-1]) for one in done]
    report = reports[0]
    plan, network_ms = report["plan"], report["timings_ms"]["inference"]
    note = f"{plan['working_width']}×{plan['working_height']}, network {network_ms / 1e3:.2f} s"
    seconds = median(one.seconds for one in done)
    work_seconds = median(published.work_seconds(one) for one in reports)
    # The kernel's VmHWM, of the process alone; the figure of wait(2) starts with its parent's.
    peak_mb = max(one["memory"]["peak_rss_mb"] for one in reports)
    cpu_seconds = median(one.cpu_seconds for one in done)
    return Result(seconds, work_seconds, peak_mb, note, cpu_seconds=cpu_seconds)


def load_ms(m2fp: Path, model: Path) -> float:
    """`m2fp info --timing`: checking, mapping and preparing the model."""
    done = run([m2fp, "info", "--timing", "--model", model])
    if done.status:
        raise RuntimeError(_fault(done))
    line = next(line for line in done.out.splitlines() if line.startswith("load"))
    return float(line.split()[1])


def say(what: str) -> None:
    """What is being measured, for whoever waits."""
    print(f"  {what}", file=sys.stderr, flush=True)


def _fault(done: Run) -> str:
    if done.status == KILLED:
        return "killed for memory"
    lines = [line for line in done.error.splitlines() if line.strip()]
    # Without folders: the table is published.
    return re.sub(r"/\S*/", "", lines[-1]) if lines else f"ended with {done.status}"
