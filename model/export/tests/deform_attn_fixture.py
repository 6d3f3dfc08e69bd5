"""Writes what the Rust operator is tested against: one node, its inputs, and PyTorch's output.

`python -m tests.deform_attn_fixture` in model/export, after a change of the operator's definition.
"""

import json
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from m2fp_export.deform_attn import DOMAIN, OP_TYPE, VERSION, attend

FOLDER = Path(__file__).parents[3] / "tests" / "data"
SHAPES = [(1, 2), (2, 3), (3, 5)]
HEADS, CHANNELS, POINTS = 2, 32, 4


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = sum(height * width for height, width in SHAPES)
    value = torch.randn(1, pixels, HEADS, CHANNELS, generator=generator)
    # Wide enough that some points fall outside their level.
    offsets = 3 * torch.randn(1, pixels, HEADS, len(SHAPES), POINTS, 2, generator=generator)
    logits = 2 * torch.randn(1, pixels, HEADS, len(SHAPES), POINTS, generator=generator)
    output = attend(value, offsets, logits, SHAPES)
    inputs = {"value": value, "offsets": offsets, "logits": logits, "shapes": torch.tensor(SHAPES)}
    fixture = {name: [list(tensor.shape), numbers(tensor)] for name, tensor in inputs.items()}
    fixture["output"] = numbers(output)
    (FOLDER / "deform_attn.json").write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    node = helper.make_node(OP_TYPE, list(inputs), ["output"], domain=DOMAIN)
    kinds = [TensorProto.FLOAT] * 3 + [TensorProto.INT64]
    graph = helper.make_graph(
        [node],
        "deform_attn",
        [
            helper.make_tensor_value_info(name, kind, [None] * tensor.dim())
            for (name, tensor), kind in zip(inputs.items(), kinds, strict=True)
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * 3)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, FOLDER / "deform_attn.onnx")


def numbers(tensor: Tensor) -> list[float]:
    return [
        float(f"{number:.8g}") if tensor.is_floating_point() else number
        for number in tensor.flatten().tolist()
    ]


if __name__ == "__main__":
    main()
