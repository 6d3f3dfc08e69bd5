"""Measures what a model costs under ONNX Runtime: memory and time, each as a line over pixels.

Every size runs in a process of its own, whose high-water mark is the kernel's (Linux only).
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from m2fp_train.onnx_graph import INPUT_NAME, open_session

SIZES = ((171, 96), (341, 192), (512, 288), (683, 384), (800, 600))
"""(width, height) in working pixels, unpadded."""
RUNS = 7
MARGIN = 1.15
"""Measured memory and time are multiplied by this: allocators and neighbours differ."""
MIB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """What one size cost: memory in MiB above what was resident before, time in milliseconds."""

    pixels: int
    load_mb: float
    peak_mb: float
    run_ms: float


def measure(model: Path, threads: int = 2) -> tuple[dict[str, int], dict[str, int]]:
    """The manifest's `memory` and `time` entries for `model`."""
    costs = [_measure_in_new_process(model, size, threads) for size in SIZES]
    pixels = [cost.pixels for cost in costs]
    base_mb, mb_per_pixel = line_above(pixels, [cost.peak_mb * MARGIN for cost in costs])
    base_ms, ms_per_pixel = line_above(pixels, [cost.run_ms * MARGIN for cost in costs])
    memory = {
        "load_mb": round_up(max(cost.load_mb for cost in costs) * MARGIN),
        "base_mb": round_up(base_mb),
        "bytes_per_pixel": round_up(mb_per_pixel * MIB),
    }
    timing = {
        "base_ms": round_up(base_ms),
        "ns_per_pixel": round_up(ms_per_pixel * 1e6),
        "threads": threads,
    }
    return memory, timing


def line_above(x: list[int], y: list[float]) -> tuple[float, float]:
    """Intercept (at least 0) and slope of the least-squares line, raised to the highest point."""
    slope, intercept = np.polyfit(x, y, 1)
    highest = max(value - slope * at for at, value in zip(x, y, strict=True))
    return max(0.0, float(intercept), float(highest)), float(slope)


def round_up(value: float) -> int:
    return int(np.ceil(value))


def _measure_in_new_process(model: Path, size: tuple[int, int], threads: int) -> Cost:
    command = [sys.executable, "-m", "m2fp_train.measure", str(model), *map(str, (*size, threads))]
    # A fixed threshold returns large blocks to the system at once, as the Lambda function does it.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return Cost(**json.loads(output.stdout))


def _measure_here(model: Path, width: int, height: int, threads: int) -> Cost:
    before = _restart_high_water_mark()
    session = open_session(model, threads)
    load_mb = _status_mb("VmHWM") - before
    image = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
    before = _restart_high_water_mark()
    times_ms = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, {INPUT_NAME: image})
        times_ms.append((time.perf_counter() - start) * 1e3)
    peak_mb = _status_mb("VmHWM") - before
    return Cost(width * height, load_mb, peak_mb, median(times_ms))


def _restart_high_water_mark() -> float:
    """Reset the kernel's high-water mark to the resident size, and return that in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS")


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


if __name__ == "__main__":
    path, width, height, threads = sys.argv[1:]
    cost = _measure_here(Path(path), int(width), int(height), int(threads))
    print(json.dumps(vars(cost)))
