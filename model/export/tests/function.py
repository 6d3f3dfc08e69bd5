"""Our function's answers, through `src/bin/raw_queries.rs`."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np

from answers import Answer, Entry

ROOT = Path(__file__).parents[3]
PROGRAM = "RAW_QUERIES"
"""Names the built program; cargo builds and runs it where this is not set."""


def answer(model: Path, photo: Path, out: Path) -> Answer:
    built = os.environ.get(PROGRAM)
    cargo = ["cargo", "run", "--quiet", "--release", "--locked"]
    cargo += ["--features", "judges", "--bin", "raw_queries", "--"]
    command = [built] if built else cargo
    done = run(command, model, photo, out)
    assert done.returncode == 0, done.stderr
    return read(out)


def run(command: list[str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    runtime = {"ORT_DYLIB_PATH": str(ROOT / ".runtime/libonnxruntime.so")}
    environment = {"ORT_DISABLE_TELEMETRY": "1", "M2FP_THREADS": "2", **runtime, **os.environ}
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def read(folder: Path) -> Answer:
    index = json.loads((folder / "index.json").read_text())
    (width, height), (mask_width, mask_height) = index["photo"], index["mask"]
    queries = index["queries"]

    def array(name: str, kind: str, *shape: int) -> np.ndarray:
        return np.fromfile(folder / name, kind).reshape(shape)

    masks = array("masks.u64", "u1", len(index["pairs"]), height, index["words"] * 8)
    entries = [
        Entry(pair["class"], pair["score"], mask)
        for pair, mask in zip(index["pairs"], masks, strict=True)
    ]
    return Answer(
        array("class_logits.f32", "<f4", queries, index["columns"]),
        array("mask_logits.f32", "<f4", queries, mask_height, mask_width),
        array("labels.u8", "u1", height, width),
        entries,
    )
