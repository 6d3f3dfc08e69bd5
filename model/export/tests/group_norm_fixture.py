"""Writes what the Rust operator is tested against: a node for floats, one for bytes, their input
and PyTorch's outputs.

`python -m tests.group_norm_fixture` in model/export, after a change of the operator's definition.
"""

import json

import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from m2fp_export.deform_attn import DOMAIN, VERSION
from m2fp_export.graph_parts import EPSILON, GROUP_NORM
from tests.deform_attn_fixture import FOLDER, numbers

GROUPS, SHAPE = 3, (1, 6, 5, 7)
UNIT, ORIGIN = 0.03, 100


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, SHAPE, generator=generator)
    x = UNIT * (stored - ORIGIN)
    scale, bias = (torch.randn(SHAPE[1], generator=generator) for _ in range(2))
    normed = F.group_norm(x, GROUPS, scale, bias, EPSILON)
    tensors = {"x": x, "bytes": stored, "scale": scale, "bias": bias}
    fixture = {name: [list(tensor.shape), numbers(tensor)] for name, tensor in tensors.items()}
    fixture["normed"] = numbers(normed)
    (FOLDER / "group_norm.json").write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    nodes = [
        helper.make_node(
            GROUP_NORM,
            [name, "scale", "bias"],
            [f"{name}/normed"],
            domain=DOMAIN,
            groups=GROUPS,
            epsilon=epsilon,
            relu=relu,
        )
        for name, epsilon, relu in (("x", EPSILON, 1), ("bytes", EPSILON / UNIT**2, 0))
    ]
    kinds = {"bytes": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "group_norm",
        [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), tensor.shape)
            for name, tensor in tensors.items()
        ],
        [
            helper.make_tensor_value_info(f"{name}/normed", TensorProto.FLOAT, [None] * 4)
            for name in ("x", "bytes")
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, FOLDER / "group_norm.onnx")


if __name__ == "__main__":
    main()
