"""Compute the tables of docs/measured/scale.md.

`scale.py` prints them, `--write` puts them into the page, `--check` compares the page with them.

Times of a photo are measured ones (docs/benchmarks.md, the packaged model's manifest), of processors without VNNI, and
are spread over the vCPUs that a memory size buys as in cost_table.py; nothing here was measured on Lambda.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import cost_table
import published
from cost_table import Work

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "measured" / "scale.md"

# AWS's list prices for us-east-1, USD, as of October 2025; Lambda's are in cost_table.py.
S3_PUT = 0.005 / 1000
S3_GET = 0.0004 / 1000  # also HEAD
S3_GB_MONTH = 0.023
BATCH_JOB = 0.25
BATCH_OBJECT = 1.00 / 1_000_000
EXPRESS_REQUEST = 1.00 / 1_000_000
EXPRESS_GB_SECOND = 0.00001667
LOGS_GB = 0.50

# Requests for a photo that was not parsed before (tests/it/settle.rs counts them).
INPUT_READS = 1 + 1  # GET; HEAD afterwards
OUTPUT_HEADS = 1 + 5  # the report before; every other key afterwards
OUTPUT_PUTS = 2  # mask and report

# Round trips to S3 one after the other, counted there too: photo and report; mask; report; the look afterwards.
S3_TRIPS = 4

# Assumed, not measured: what a trip takes; what is logged and stored for a photo.
S3_TRIP_SECONDS = 0.03
LOG_BYTES = 2_000
OUTPUT_BYTES = 40_000

# Requests a second that S3 serves for each prefix at least (Amazon S3 user guide, "Best practices design patterns").
S3_PUTS_PER_SECOND = 3_500
S3_GETS_PER_SECOND = 5_500

# Copies that one function gains in ten seconds, and the account's default quota (AWS Lambda developer guide).
COPIES_PER_10_SECONDS = 1_000
DEFAULT_CONCURRENCY = 1_000

# An Express workflow's memory is billed in steps of 64 MB, its time in steps of 100 ms.
EXPRESS_GB = 64 / 1024
EXPRESS_STEP_SECONDS = 0.1


@dataclass
class Model:
    """What one 1920x1080 photo takes."""

    name: str
    work: Work
    least_mb: int


@dataclass
class Plan:
    """A number of photos, how they are run."""

    photos: int
    model: Model
    memory_mb: int
    arch: str
    concurrency: int


def models() -> list[Model]:
    """The packaged model from its manifest, and M2FP from docs/benchmarks.md, "Where Lambda is".

    Of M2FP these are the seconds of the network on two cores, and those of decoding, post-processing and encoding.
    """
    manifest = json.loads((ROOT / "model/nano/model.json").read_text())
    return [
        Model("nano", cost_table.work_of(manifest, 1920, 1080, cost_table.SERIAL_MS), 256),
        Model("M2FP, 8 bits", Work(inference_core_seconds=2 * 2.36, serial_seconds=0.28), 512),
        Model("M2FP, float32", Work(inference_core_seconds=2 * 3.23, serial_seconds=0.28), 512),
    ]


def seconds(model: Model, memory_mb: int) -> float:
    """An invocation for one photo, warm, its waiting for S3 included."""
    vcpus = min(memory_mb / cost_table.MB_PER_VCPU, cost_table.MOST_VCPUS)
    return cost_table.seconds(model.work, vcpus) + S3_TRIPS * S3_TRIP_SECONDS


def lambda_usd(model: Model, memory_mb: int, arch: str) -> float:
    """One photo's invocation."""
    return cost_table.photo_usd(seconds(model, memory_mb), memory_mb, arch)


def s3_usd() -> float:
    """One photo's requests."""
    return (INPUT_READS + OUTPUT_HEADS) * S3_GET + OUTPUT_PUTS * S3_PUT


def express_usd(time_seconds: float) -> float:
    """One photo's Express child."""
    billed = math.ceil(time_seconds / EXPRESS_STEP_SECONDS) * EXPRESS_STEP_SECONDS
    return EXPRESS_REQUEST + billed * EXPRESS_GB * EXPRESS_GB_SECOND


def log_usd() -> float:
    """One photo's log lines."""
    return LOG_BYTES / 1e9 * LOGS_GB


def cost_lines() -> list[str]:
    """USD for 1,000 photos, Lambda alone."""
    lines = [
        "| model | memory | seconds a photo | x86_64, USD for 1,000 | arm64, USD for 1,000 |",
        "|---|---:|---:|---:|---:|",
    ]
    for model in models():
        for memory_mb in cost_table.SIZES_MB:
            if memory_mb >= model.least_mb:
                x86, arm = (1000 * lambda_usd(model, memory_mb, arch) for arch in ("x86_64", "arm64"))
                time = seconds(model, memory_mb)
                lines.append(f"| {model.name} | {memory_mb:,} MB | {time:.2f} | {x86:.4f} | {arm:.4f} |")
    return lines


def other_lines() -> list[str]:
    """USD for 1,000 photos, whatever the model."""
    express = 1000 * express_usd(seconds(models()[0], cost_table.MB_PER_VCPU))
    storage = 1000 * OUTPUT_BYTES / 1e9 * S3_GB_MONTH
    reads, puts = INPUT_READS + OUTPUT_HEADS, OUTPUT_PUTS
    return [
        "| beside Lambda | USD for 1,000 |",
        "|---|---:|",
        f"| S3: {reads} GET and HEAD, {puts} PUT a photo | {1000 * s3_usd():.4f} |",
        f"| Step Functions: an Express child a photo (nano, 1,769 MB) | {express:.4f} |",
        f"| or S3 Batch Operations, without the {BATCH_JOB} for the job | {1000 * BATCH_OBJECT:.4f} |",
        f"| CloudWatch Logs, {LOG_BYTES:,} bytes a photo | {1000 * log_usd():.4f} |",
        f"| masks and reports, {OUTPUT_BYTES // 1000} KB a photo, each month | {storage:.4f} |",
    ]


def plans() -> list[Plan]:
    """The default quota for a million; five times that for a hundred."""
    nano, int8, _ = models()
    sizes = ((1_000_000, DEFAULT_CONCURRENCY), (100_000_000, 5 * DEFAULT_CONCURRENCY))
    return [
        Plan(photos, model, memory_mb, "arm64", concurrency)
        for photos, concurrency in sizes
        for model, memory_mb in ((nano, 1769), (int8, 1769), (int8, 3538))
    ]


def plan_lines() -> list[str]:
    """Time, rates and cost of the plans."""
    lines = [
        "| photos | model, memory | at once | photos a second | hours | input GET+HEAD/s | output HEAD/s | PUT/s "
        "| output prefixes | at once with one | USD by Step Functions | by S3 Batch |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for plan in plans():
        time = seconds(plan.model, plan.memory_mb)
        rate = plan.concurrency / time
        heads, puts = rate * OUTPUT_HEADS, rate * OUTPUT_PUTS
        prefixes = max(math.ceil(heads / S3_GETS_PER_SECOND), math.ceil(puts / S3_PUTS_PER_SECOND))
        with_one = math.floor(time * min(S3_GETS_PER_SECOND / OUTPUT_HEADS, S3_PUTS_PER_SECOND / OUTPUT_PUTS))
        each = lambda_usd(plan.model, plan.memory_mb, plan.arch) + s3_usd() + log_usd()
        by_map = plan.photos * (each + express_usd(time))
        by_batch = plan.photos * (each + BATCH_OBJECT) + BATCH_JOB
        lines.append(
            f"| {plan.photos:,} | {plan.model.name}, {plan.memory_mb:,} MB | {plan.concurrency:,} | {rate:,.0f} "
            f"| {plan.photos / rate / 3600:.1f} | {rate * INPUT_READS:,.0f} | {heads:,.0f} | {puts:,.0f} | {prefixes} "
            f"| {with_one:,} | {by_map:,.0f} | {by_batch:,.0f} |"
        )
    return lines


TABLES = {
    "scripts/scale.py, cost": cost_lines,
    "scripts/scale.py, beside": other_lines,
    "scripts/scale.py, plans": plan_lines,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    action.add_argument("--check", action="store_true", help=f"fail where {PAGE.name} has others")
    arguments = parser.parse_args()
    tables = {made_by: "\n".join(lines()) for made_by, lines in TABLES.items()}
    if arguments.write:
        for made_by, text in tables.items():
            published.replace_block(PAGE, made_by, text)
    elif arguments.check:
        others = [made_by for made_by, text in tables.items() if published.block(PAGE, made_by) != text]
        for made_by in others:
            print(f"{PAGE}: its table of `{made_by}` is another; run scripts/scale.py --write", file=sys.stderr)
        return 1 if others else 0
    else:
        print("\n\n".join(tables.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
