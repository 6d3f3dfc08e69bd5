"""Our function's answers, through `src/bin/raw_queries.rs`."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

from answers import Answer, Entry

ROOT = Path(__file__).parents[3]
NANO, NANO_FLOAT = ROOT / "model" / "nano", ROOT / "model" / "nano-float"
PROGRAM = "RAW_QUERIES"
"""Names the built program; cargo builds it where this is not set."""


@cache
def built() -> Path:
    if PROGRAM in os.environ:
        return Path(os.environ[PROGRAM])
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--features", "judges"]
    subprocess.run([*command, "--bin", "raw_queries"], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    return ROOT / target / "release" / "raw_queries"


def answer(model: Path, photo: Path, out: Path, program: Path | None = None) -> Answer:
    """program: what runs in the place of `built`."""
    done = run([str(program or built())], model, photo, out)
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
