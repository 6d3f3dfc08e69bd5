"""`m2fp optimize` on folders with weights in files of their own: the same answers, or untouched."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import function
import photos
from m2fp_export.verify import relative_error


def optimize(model: Path) -> subprocess.CompletedProcess[str]:
    return function.run(
        ["cargo", "run", "--quiet", "--release", "--locked", "--bin", "m2fp", "--"],
        "optimize",
        model,
    )


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return folder


def test_a_float_model_answers_as_before(model: Path, tmp_path: Path) -> None:
    optimised = shutil.copytree(model, tmp_path / "model")
    done = optimize(optimised)
    assert done.returncode == 0, done.stderr
    graph = described(optimised)["files"][0]
    assert graph == entry(optimised / "model.onnx")
    assert (optimised / "model.onnx").read_bytes() != (model / "model.onnx").read_bytes()
    assert names(optimised) == names(model)
    assert_answers_alike(model, optimised, tmp_path)


def test_a_model_in_8_bits_is_made_ready_and_answers_as_before(
    quantized: Path, tmp_path: Path
) -> None:
    ready = shutil.copytree(quantized, tmp_path / "model")
    done = optimize(ready)
    assert done.returncode == 0, done.stderr
    manifest = described(ready)
    made = manifest.pop("optimized")
    assert made["file"] == entry(ready / "model.onnx.ort")
    assert manifest == described(quantized)
    assert names(ready) == names(quantized) | {"model.onnx.ort"}
    # What it was made of is not read any more.
    for file in manifest["files"]:
        (ready / file["path"]).unlink()
    assert_answers_alike(quantized, ready, tmp_path)


def described(model: Path) -> dict[str, Any]:
    return json.loads((model / "model.json").read_text())


def entry(file: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return {"path": file.name, "sha256": sha256, "bytes": len(content)}


def names(model: Path) -> set[str]:
    return {file.name for file in model.iterdir()}


def assert_answers_alike(model: Path, optimised: Path, folder: Path) -> None:
    photo = photos.write(folder / "photo.png", (333, 250), 1)
    before = function.answer(model, photo, folder / "before")
    after = function.answer(optimised, photo, folder / "after")
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
