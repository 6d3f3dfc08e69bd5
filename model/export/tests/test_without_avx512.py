"""The same answers on a processor with AVX2 alone: other kernels, other operators of ours."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import function
import photos
from m2fp_export.export import export
from m2fp_export.verify import relative_error


@pytest.fixture(scope="module")
def m2fp(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shrunken network with all operators of ours."""
    out = tmp_path_factory.mktemp("m2fp") / "model"
    export(folder, out, portable=False, sizes=())
    return out


def assert_same_answers(model: Path, without_avx512: Path, tmp_path: Path) -> None:
    photo = photos.write(tmp_path / "photo.png", (500, 333), 1)
    with_it = function.answer(model, photo, tmp_path / "with")
    without = function.answer(model, photo, tmp_path / "without", without_avx512)
    assert relative_error(without.mask_logits, with_it.mask_logits) < 1e-4
    assert relative_error(without.class_logits, with_it.class_logits) < 1e-4
    assert np.mean(without.labels == with_it.labels) > 0.999


def test_the_packaged_model(without_avx512: Path, tmp_path: Path) -> None:
    assert_same_answers(function.NANO, without_avx512, tmp_path)


def test_the_packaged_model_made_ready_for_lambda(without_avx512: Path, tmp_path: Path) -> None:
    """As `make lambda` packages it, whatever processor this machine has."""
    ready = shutil.copytree(function.NANO, tmp_path / "ready")
    m2fp = Path(os.environ.get("M2FP", function.built().with_name("m2fp")))
    runtime = function.ROOT / ".runtime/libonnxruntime.so"
    make_ready = f"package.optimize(*map(pathlib.Path, {[str(ready), str(m2fp), str(runtime)]}))"
    environment = {**os.environ, "PYTHONPATH": str(function.ROOT / "scripts")}
    subprocess.run(
        [sys.executable, "-c", f"import package, pathlib; {make_ready}"],
        check=True,
        env=environment,
        cwd=function.ROOT,
    )
    made = json.loads((ready / "model.json").read_text())["optimized"]
    assert made["processor"] == "avx2"
    # Nothing else is there to be loaded.
    (ready / "model.onnx").unlink()
    photo = photos.write(tmp_path / "photo.png", (500, 333), 1)
    for_all = function.answer(function.NANO, photo, tmp_path / "for-all", without_avx512)
    for_lambda = function.answer(ready, photo, tmp_path / "for-lambda", without_avx512)
    assert np.array_equal(for_lambda.mask_logits, for_all.mask_logits)
    assert np.array_equal(for_lambda.class_logits, for_all.class_logits)


def test_the_packaged_model_in_8_bits(
    quantized: Path, without_avx512: Path, tmp_path: Path
) -> None:
    assert_same_answers(quantized, without_avx512, tmp_path)


def test_our_operators(m2fp: Path, without_avx512: Path, tmp_path: Path) -> None:
    assert_same_answers(m2fp, without_avx512, tmp_path)
