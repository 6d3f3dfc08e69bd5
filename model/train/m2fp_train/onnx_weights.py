"""The weights of layers, read out of ONNX graphs, and put into networks of the same layers."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

_AGAIN = re.compile(r"_\d+$")
"""What PyTorch adds to a layer's name where another has it already."""
_WITH_SUM = "/MatMulAddFusion"
"""What ONNX Runtime adds to a product's name when it becomes one operator with a sum."""


def convolutions(path: Path) -> dict[str, list[np.ndarray]]:
    """float32 weights, and biases where there are some, of each convolution by its node's name.

    In the order of the graph, in which weights may be stored as `onnx_graph.store_small` does.
    """
    return {name: tensors for name, kind, tensors in _weighted(path) if kind == "Conv"}


def layers(path: Path) -> dict[str, list[list[np.ndarray]]]:
    """float32 weights of the convolutions and linear layers of an exported network.

    By the layer's name in the network; a name that several layers of it have, such as those of two
    networks in one, has the weights of each in the order of the graph. A convolution's bias follows
    its weights; a linear layer's weights stand alone, as [out, in].
    """
    found: dict[str, list[list[np.ndarray]]] = {}
    for name, kind, tensors in _weighted(path):
        weights = [tensors[0].T.copy(), *tensors[1:]] if kind == "MatMul" else tensors
        found.setdefault(_layer(name), []).append(weights)
    return found


def biases(path: Path) -> dict[str, np.ndarray]:
    """float32 biases that the graph names as the network does, such as those of linear layers."""
    suffix, prefix = ".bias", "network."
    return {
        name.removesuffix(suffix).removeprefix(prefix): value.astype(np.float32)
        for name, value in _values(onnx.load(str(path)).graph).items()
        if name.endswith(suffix)
    }


def make_idle(modules: Iterable[nn.Module]) -> None:
    """Let the normalisations among `modules` change nothing in evaluation mode."""
    for module in modules:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)


def assign_convolution(
    modules: dict[str, nn.Module],
    name: str,
    tensors: list[np.ndarray],
    may_have_grown: bool = False,
) -> None:
    """Copy weights and bias of an exported convolution, into which its normalisation was taken,
    into that of `modules`, whose normalisation is idle.

    Where it may have grown since, the last input channels, which the exported one did not have yet,
    get the weight 0. Raises ValueError where the shapes differ otherwise.
    """
    conv = modules[name]
    weight, bias = (torch.from_numpy(tensor) for tensor in tensors)
    further = conv.weight.shape[1] - weight.shape[1]
    grown_right = further == 0 or (may_have_grown and further > 0)
    if not grown_right or (weight.shape[0], *weight.shape[2:]) != (
        conv.weight.shape[0],
        *conv.weight.shape[2:],
    ):
        raise ValueError(f"the convolution {name} has another shape")
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, : weight.shape[1]].copy_(weight)
        (_norm_after(modules, name) if conv.bias is None else conv).bias.copy_(bias)


def _norm_after(modules: dict[str, nn.Module], name: str) -> nn.BatchNorm2d:
    """The normalisation of what a convolution without biases gives."""
    parent, _, last = name.rpartition(".")
    follower = str(int(last) + 1) if last.isdigit() else f"{last}_norm"
    return modules[f"{parent}.{follower}"]


def _layer(node: str) -> str:
    """PyTorch names a node `/network/refine8/refine8.0/depthwise_1/Conv`: `refine8.0.depthwise`."""
    steps = [_AGAIN.sub("", step) for step in node.split("/")[1:-1] if step != "network"]
    whole = (
        step
        for step, inner in zip(steps, [*steps[1:], ""], strict=False)
        if not inner.startswith(f"{step}.")
    )
    return ".".join(whole)


def _weighted(path: Path) -> list[tuple[str, str, list[np.ndarray]]]:
    """Name, operator, and float32 weights of each node that has some, in the order of the graph.

    ONNX Runtime makes one operator of a product and a sum; here they are a product, as before.
    """
    graph = onnx.load(str(path)).graph
    values = _values(graph)
    weighted = []
    for node in graph.node:
        known = [values[name].astype(np.float32) for name in node.input if name in values]
        name = node.name or node.output[0]
        if node.op_type in ("Conv", "MatMul") and known:
            weighted.append((name, node.op_type, known))
        elif node.op_type == "Gemm" and name.endswith(_WITH_SUM):
            weighted.append((name.removesuffix(_WITH_SUM), "MatMul", known[:1]))
    return weighted


def _values(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Stored tensors, and those that `onnx_graph.store_small` stores smaller than they are."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        known = [values[name] for name in node.input if name in values]
        if node.op_type == "Cast" and len(known) == 1:
            values[node.output[0]] = known[0].astype(np.float32)
        elif node.op_type == "Identity" and known:  # PyTorch stores what is equal once
            values[node.output[0]] = known[0]
        elif node.op_type == "DequantizeLinear" and len(known) == 2:
            scale = known[1].reshape(-1, *[1] * (known[0].ndim - 1))
            values[node.output[0]] = known[0].astype(np.float32) * scale
    return values
