"""`m2fp optimize` on a folder in 8 bits: the same answers, whole or untouched."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np

import function
import photos
from m2fp_export.verify import relative_error


def optimize(model: Path) -> subprocess.CompletedProcess[str]:
    return function.run(
        ["cargo", "run", "--quiet", "--release", "--locked", "--bin", "m2fp", "--"],
        "optimize",
        model,
    )


def test_an_optimised_model_answers_as_before(quantized: Path, tmp_path: Path) -> None:
    model = shutil.copytree(quantized, tmp_path / "model")
    done = optimize(model)
    assert done.returncode == 0, done.stderr
    entry = json.loads((model / "model.json").read_text())["files"][0]
    graph = (model / "model.onnx").read_bytes()
    assert entry == {
        "path": "model.onnx",
        "sha256": hashlib.sha256(graph).hexdigest(),
        "bytes": len(graph),
    }
    assert graph != (quantized / "model.onnx").read_bytes()
    assert {p.name for p in model.iterdir()} == {p.name for p in quantized.iterdir()}
    photo = photos.write(tmp_path / "photo.png", (333, 250), 1)
    before = function.answer(quantized, photo, tmp_path / "before")
    after = function.answer(model, photo, tmp_path / "after")
    assert relative_error(after.mask_logits, before.mask_logits) < 1e-4
    assert np.mean(after.labels == before.labels) > 0.999


def test_what_cannot_be_optimised_stays_as_it_was(quantized: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(quantized, tmp_path / "damaged")
    data = damaged / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    files = {p.name: p.read_bytes() for p in damaged.iterdir()}
    refused = optimize(damaged)
    assert refused.returncode == 1
    assert "model.onnx.data: it has" in refused.stderr
    assert {p.name: p.read_bytes() for p in damaged.iterdir()} == files
