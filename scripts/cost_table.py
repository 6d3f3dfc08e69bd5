"""Print what a photo costs on Lambda at each memory size, as a Markdown table: `cost_table.py [--model FOLDER]`.

Times are computed, not measured on Lambda: inference from the model's calibrated constants, those of Lambda's kind of
processor if that was measured, else made slower as processors without VNNI are. It is spread over the vCPUs that the
memory buys, the rest runs on one of them. A vCPU is a hardware thread, not a core, and is taken to be as fast as one
that has its core alone. `m2fp info --timing` measures a machine of yours.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

# AWS's list prices for us-east-1, USD, as of October 2025.
GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
REQUEST = 0.20 / 1_000_000

# Memory that buys one vCPU, MB, and the most vCPUs there are (AWS Lambda developer guide).
MB_PER_VCPU = 1769
MOST_VCPUS = 6

# API Gateway ends a request then.
GATEWAY_SECONDS = 29

# How many times as long a network takes on a processor that shows AVX2 alone, as Lambda's x86_64 ones do to functions,
# as on the one with VNNI that the packaged models' constants were measured on: M2FP's in float32 takes 3.88 s on the
# one and 2.77 s on the other, two cores each (docs/benchmarks.md).
WITHOUT_VNNI = 3.88 / 2.77

# The kinds of Lambda's processors, as manifests name them, the best first: arm64 is taken to be as fast as x86_64 until
# it was measured.
LAMBDA = {"x86_64": ["avx2"], "arm64": ["neon", "avx2"]}

# Decoding, post-processing and encoding of a 1920×1080 photo on one core, milliseconds, rounded up.
SERIAL_MS = 150

SIZES_MB = [512, 1024, 1769, 3008, 3538, 5307, 10240]


@dataclass
class Work:
    """What one photo takes on whole vCPUs."""

    inference_core_seconds: float  # of all threads together
    serial_seconds: float  # decoding, post-processing and encoding


def working_pixels(width: int, height: int, size: dict[str, float]) -> int:
    """Pixels that the network sees of a photo: the size rule, padded to the divisor. A photo is shrunk within
    `max_shrink` to no more pixels than at the least size that it allows."""
    scale = min(size["min_side"] / min(width, height), size["max_side"] / max(width, height))
    least = math.ceil(int(max(width, height) * scale + 0.5) * (1 - size.get("max_shrink", 0)))
    scale = min(scale, least / max(width, height))
    divisor = size["divisor"]
    return math.prod(-(-int(side * scale + 0.5) // divisor) * divisor for side in (width, height))


def work_of(
    manifest: dict, width: int, height: int, serial_ms: float, arch: str = "x86_64", slower: float | None = None
) -> Work:
    """The work of a photo, from the constants in the manifest.

    slower: how many times as long as with them the network takes. None: not at all with those that were measured on a
    kind in `LAMBDA`, and else `WITHOUT_VNNI` times.
    """
    times = [manifest["time"], *manifest.get("other_times", [])]
    measured = [time for kind in LAMBDA[arch] for time in times if time.get("processor") == kind]
    time = (measured or times)[0]
    if slower is None:
        slower = 1 if measured else WITHOUT_VNNI
    pixels = working_pixels(width, height, manifest["input"]["size"])
    wall_ms = slower * (time["base_ms"] + time["ns_per_pixel"] * pixels / 1e6)
    return Work(wall_ms * time["threads"] / 1000, serial_ms / 1000)


def seconds(work: Work, vcpus: float) -> float:
    """Time of a warm request. Under one vCPU everything is slowed alike."""
    return work.inference_core_seconds / min(vcpus, MOST_VCPUS) + work.serial_seconds / min(vcpus, 1)


def photo_usd(time_seconds: float, memory_mb: int, arch: str) -> float:
    """What Lambda asks for one invocation; billed to the millisecond."""
    return max(round(time_seconds, 3), 0.001) * memory_mb / 1024 * GB_SECOND[arch] + REQUEST


def rows(work: Work, arch: str, least_mb: int) -> list[str]:
    """The table's lines."""
    lines = [
        "| memory | vCPU | seconds a photo | USD for 1,000 photos | fits 29 s? |",
        "|---:|---:|---:|---:|---|",
    ]
    for memory_mb in SIZES_MB:
        vcpus = min(memory_mb / MB_PER_VCPU, MOST_VCPUS)
        if memory_mb < least_mb:
            lines.append(f"| {memory_mb} MB | {vcpus:.2f} | – | – | no: the model needs {least_mb} MB |")
            continue
        time = seconds(work, vcpus)
        cost = 1000 * photo_usd(time, memory_mb, arch)
        fits = "yes" if time <= GATEWAY_SECONDS else "no"
        lines.append(f"| {memory_mb:,} MB | {vcpus:.2f} | {time:.2f} | {cost:.4f} | {fits} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("model/nano"))
    parser.add_argument("--size", default="1920x1080", help="the photo's, default %(default)s")
    parser.add_argument(
        "--serial-ms",
        type=float,
        default=SERIAL_MS,
        help="decoding, post-processing and encoding on one core, default %(default)s",
    )
    parser.add_argument(
        "--slower",
        type=float,
        help="how many times as long as the model's constants the network takes, default 1 with constants measured on "
        f"Lambda's kind of processor, else {WITHOUT_VNNI:.2f}",
    )
    parser.add_argument("--least-mb", type=int, default=256, help="memory that one photo needs, default %(default)s")
    parser.add_argument("--arch", choices=sorted(GB_SECOND), default="x86_64")
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    manifest = json.loads((arguments.model / "model.json").read_text())
    work = work_of(manifest, width, height, arguments.serial_ms, arguments.arch, arguments.slower)
    print("\n".join(rows(work, arguments.arch, arguments.least_mb)))


if __name__ == "__main__":
    main()
