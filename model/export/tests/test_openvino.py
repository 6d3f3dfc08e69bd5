"""The portable graph is for any runtime: OpenVINO's answers against ONNX Runtime's."""

from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch

from answers import LOGITS_TOLERANCE, assert_same_logits
from m2fp_export import export as exporting
from m2fp_export.model import M2FP
from m2fp_export.onnx_graph import GRAPH_NAME, OUTPUT_NAMES
from m2fp_export.verify import Judge

SIZES = ((320, 240), (97, 131), (1, 1))
"""Width and height, of one compiled model: nothing in it depends on the size."""


@pytest.fixture(scope="module")
def graph(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "portable"
    exporting.export(folder, out, portable=True, sizes=())
    return out / GRAPH_NAME


@pytest.fixture(scope="module")
def compiled(graph: Path) -> openvino.CompiledModel:
    # Its default is bfloat16 where the processor has it.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    return openvino.Core().compile_model(str(graph), "CPU", settings)


@pytest.mark.parametrize("size", SIZES)
def test_openvino_answers_as_onnx_runtime(
    size: tuple[int, int], network: M2FP, graph: Path, compiled: openvino.CompiledModel
) -> None:
    width, height = size
    pixels = np.random.default_rng(width).integers(0, 256, (1, 3, height, width), np.uint8)
    answer = compiled([pixels])
    found = [answer[name] for name in OUTPUT_NAMES]
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    expected = session.run(list(OUTPUT_NAMES), {"image": pixels})
    judge = Judge(network)
    image = torch.from_numpy(pixels).float()
    assert_same_logits(found, expected, LOGITS_TOLERANCE, lambda *both: judge.errors(image, *both))
