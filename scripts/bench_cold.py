"""Cold starts: fresh processes under AWS's Runtime Interface Emulator, from the process's start to its first answer.

The emulator starts the function's process when the first event comes, so the time of that event's answer is the time
from the start of the process. Prints a table; `--write PAGE` puts it into the page.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

import emulator
import published

ROOT = Path(__file__).parents[1]
MADE_BY = "make bench-cold"
CORES = 2
# Buys two vCPUs on Lambda.
MEMORY_MB = 3538
TIMEOUT_S = 60
WARM_ANSWERS = 3
# Milliseconds until the first answer, by the model's name.
AIMS = {"nano": 120, "m2fp-r101-int8": 700}


@dataclass(frozen=True)
class Start:
    """Of one process, milliseconds."""

    first: float
    """From the start of the process to its first answer."""
    init: float
    """Of it, until the function had the event."""
    load: float
    """Of it, loading the model."""
    parse: float
    """Of it, from decoding to encoding."""
    warm: float
    """An answer of the same process later."""


def start(program: Path, bootstrap: Path, model: Path, event: bytes) -> Start:
    """One fresh process, its first answer and some more."""
    address = emulator.free_address()
    command = emulator.command(program, address, bootstrap)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("M2FP_")}
    environment = ours | {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT_S),
        "M2FP_MODEL_DIR": str(model),
        "ORT_DYLIB_PATH": str(ROOT / ".runtime/libonnxruntime.so"),
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT
        )
        try:
            emulator.wait_for(address)
            began = time.time()
            times, parse = [], 0.0
            for number in range(1 + WARM_ANSWERS):
                before = time.perf_counter()
                answer = invoke(address, event)
                times.append((time.perf_counter() - before) * 1e3)
                if number == 0:
                    parse = stages_ms(answer)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
        log.seek(0)
        lines = [json.loads(line) for line in log.read().decode().splitlines() if line.startswith("{")]
    said = {line.get("message"): line for line in reversed(lines)}
    invoked = datetime.fromisoformat(said["invoked"]["timestamp"].replace("Z", "+00:00")).timestamp()
    load = said["model loaded"]["load_ms"]
    return Start(times[0], (invoked - began) * 1e3, load, parse, median(times[1:]))


def invoke(address: str, event: bytes) -> dict:
    url = f"http://{address}{emulator.INVOCATIONS}"
    with urllib.request.urlopen(urllib.request.Request(url, data=event), timeout=TIMEOUT_S) as response:
        answer = json.load(response)
    if answer.get("statusCode") != 200:
        raise SystemExit(f"the function answered {json.dumps(answer)[:500]}")
    return answer


def stages_ms(answer: dict) -> float:
    """Of `Server-Timing`, but for the total, which has the loading of the model."""
    stages = dict(one.strip().split(";dur=") for one in answer["headers"]["server-timing"].split(","))
    return sum(float(stages[name]) for name in published.STAGES)


def made_ready(model: Path, folder: Path, m2fp: Path) -> Path:
    """A copy of the model with its graph made ready for this machine, as a package has it for Lambda's."""
    ready = folder / model.name
    shutil.copytree(model, ready)
    subprocess.run([m2fp, "optimize", ready], check=True, stdout=sys.stderr)
    return ready


def row(name: str, model: Path, starts: list[Start], bootstrap: Path) -> str:
    def of(field: str) -> float:
        return median(getattr(one, field) for one in starts)

    zipped, unzipped = published.package_mb(bootstrap, model)
    aim = AIMS.get(name)
    reached = "" if aim is None else f" (aim {aim}: {'reached' if of('first') <= aim else '**not reached**'})"
    cells = [name, f"{of('first'):.0f}{reached}", f"{min(one.first for one in starts):.0f}"]
    cells += [f"{of(field):.0f}" for field in ("init", "load", "parse", "warm")]
    cells += [f"{of('first') / of('warm'):.1f} ×", f"{zipped:.0f} MB", f"{unzipped:.0f} MB"]
    return f"| {' | '.join(cells)} |"


def table(arguments: argparse.Namespace) -> str:
    event = arguments.event.read_bytes()
    lines = [
        f"{published.machine()}, {CORES} used; {arguments.runs} fresh processes, files cached; medians, milliseconds.",
        "",
        "| model | first answer | least | until the event | model load | parse | later answer | first to later "
        "| zipped | unzipped |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        measured = []
        for model in arguments.models:
            holds_weights = len(json.loads((model / "model.json").read_text())["files"]) == 1
            if holds_weights:
                measured.append((model.name, made_ready(model, Path(folder), arguments.m2fp)))
            measured.append((f"{model.name}, not made ready" if holds_weights else model.name, model))
        for name, model in measured:
            print(f"  {name}: {arguments.runs + 1} processes", file=sys.stderr, flush=True)
            # The first one reads the files into the cache.
            starts = [start(arguments.emulator, arguments.bootstrap, model, event) for _ in range(arguments.runs + 1)]
            lines.append(row(name, model, starts[1:], arguments.bootstrap))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=lambda text: Path(text).resolve(), nargs="+", help="model folders")
    parser.add_argument("--bootstrap", type=Path, required=True, help="the Lambda binary, a release build")
    parser.add_argument("--m2fp", type=Path, required=True, help="the command line")
    parser.add_argument("--emulator", type=Path, required=True, help="AWS's Runtime Interface Emulator")
    parser.add_argument(
        "--event", type=Path, default=ROOT / "events/function-url.json", help="an HTTP event of `/parse`"
    )
    parser.add_argument("--runs", type=int, default=11, help="processes of each model")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="puts the table into the page")
    arguments = parser.parse_args()
    if arguments.write:
        published.check_blocks(arguments.write, [MADE_BY])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    text = table(arguments)
    print(text)
    if arguments.write:
        published.replace_block(arguments.write, MADE_BY, text)


if __name__ == "__main__":
    sys.exit(main())
