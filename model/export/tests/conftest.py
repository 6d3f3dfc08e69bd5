"""Networks and folders that tests share: shrunken, and of true size for tests marked full."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

import function
import photos
import shrunken
from m2fp_export import manifest, onnx_builder, quantize_folder
from m2fp_export.architecture import Architecture
from m2fp_export.export import export
from m2fp_export.model import M2FP
from m2fp_export.quantize import widen_weights
from m2fp_export.random_checkpoint import random_network, read_photos, write_folder
from m2fp_export.variants import CIHP, PASCAL_PERSON_PART, Variant


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def network() -> M2FP:
    return random_network(shrunken.SIZES, seed=0)


@pytest.fixture(scope="session")
def folder(network: M2FP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ModelScope has them; not to be changed."""
    path = tmp_path_factory.mktemp("modelscope")
    write_folder(network, path, PASCAL_PERSON_PART)
    return path


@pytest.fixture(scope="session")
def full_network() -> M2FP:
    return random_network(Architecture(), seed=0)


@pytest.fixture(scope="session")
def full_folder(full_network: M2FP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnet101")
    write_folder(full_network, path, CIHP)
    return path


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Variant], Path]:
    """Folders of true size whose weights are spread on photos; not to be changed."""

    @cache
    def make(variant: Variant) -> Path:
        seen = read_photos(photos.FOLDER)[:3] if photos.FOLDER.is_dir() else None
        sizes = Architecture(classes=len(variant.classes))
        has_human = variant.person_id is not None
        path = tmp_path_factory.mktemp("seeded")
        write_folder(random_network(sizes, 0, seen, has_human=has_human), path, variant)
        return path

    return make


@pytest.fixture(scope="module", params=["fused", "portable"])
def model(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of the module's `checkpoint`, a model folder of either form that the function can serve."""
    out = tmp_path_factory.mktemp("models") / request.param
    export(checkpoint, out, portable=request.param == "portable", sizes=())
    return out


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model in 8 bits, its weights in a file of their own, as M2FP's are; not to be
    changed."""
    apart = tmp_path_factory.mktemp("apart")
    graph = widen_weights(onnx.load(str(function.NANO_FLOAT / "model.onnx")))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    data = onnx_builder.save(graph, weights, apart / "model.onnx")
    described = json.loads((function.NANO_FLOAT / manifest.MANIFEST_NAME).read_text())
    described["files"] = [manifest.file_entry(path) for path in (apart / "model.onnx", data)]
    manifest.write(described, apart / manifest.MANIFEST_NAME)
    folder = tmp_path_factory.mktemp("quantized")
    (folder / "photos").mkdir()
    photos.write(folder / "photos" / "a.png", (640, 480), 0)
    quantize_folder.quantize_folder(apart, [folder / "photos"], folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def without_avx512(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our function, as Lambda's x86_64 processors run it, for `function.answer`."""
    if platform.machine() != "x86_64":
        pytest.skip("only processors of x86_64 have AVX-512")
    out = tmp_path_factory.mktemp("without-avx512")
    script = function.ROOT / "scripts" / "hide_avx512.py"
    subprocess.run([sys.executable, script, function.built(), "--out", out], check=True)
    return out / function.built().name
