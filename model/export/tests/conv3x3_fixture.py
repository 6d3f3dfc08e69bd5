"""Writes what the Rust operator is tested against: a convolution with bias and Relu, one without
either, their input and PyTorch's outputs in float64.

`python -m tests.conv3x3_fixture` in model/export, after a change of the operator's definition.
"""

import json

import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from m2fp_export.deform_attn import DOMAIN, VERSION
from m2fp_export.graph_parts import CONV3X3
from tests.deform_attn_fixture import FOLDER, numbers

SHAPE, FILTERS = (1, 6, 9, 14), 5
"""Neither the sides nor the channels fill the tiles and panels that they are computed in."""


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, generator=generator)
    weight = torch.randn(FILTERS, SHAPE[1], 3, 3, generator=generator)
    bias = torch.randn(FILTERS, generator=generator)
    tensors = {"x": x, "weight": weight, "bias": bias}
    fixture = {name: [list(tensor.shape), numbers(tensor)] for name, tensor in tensors.items()}
    exact = [tensor.double() for tensor in (x, weight, bias)]
    outputs = {
        "whole": F.conv2d(*exact, padding=1).relu(),
        "plain": F.conv2d(*exact[:2], padding=1),
    }
    fixture |= {name: numbers(output.float()) for name, output in outputs.items()}
    (FOLDER / "conv3x3.json").write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    nodes = [
        helper.make_node(CONV3X3, inputs, [name], domain=DOMAIN, relu=int(name == "whole"))
        for name, inputs in (("whole", ["x", "weight", "bias"]), ("plain", ["x", "weight"]))
    ]
    graph = helper.make_graph(
        nodes,
        "conv3x3",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, tensor.shape)
            for name, tensor in tensors.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, output.shape)
            for name, output in outputs.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, FOLDER / "conv3x3.onnx")


if __name__ == "__main__":
    main()
