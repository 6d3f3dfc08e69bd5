"""The weights of convolutions, read out of ONNX graphs."""

from pathlib import Path

import numpy as np
import onnx


def convolutions(path: Path) -> dict[str, list[np.ndarray]]:
    """float32 weights, and biases where there are some, of each convolution by its node's name.

    In the order of the graph, in which weights may be stored as `onnx_graph.store_small` does.
    """
    graph = onnx.load(str(path)).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        known = [values[name] for name in node.input if name in values]
        if node.op_type == "Cast" and len(known) == 1:
            values[node.output[0]] = known[0].astype(np.float32)
        elif node.op_type == "Mul" and len(known) == 2:
            values[node.output[0]] = known[0] * known[1]
        elif node.op_type == "Conv":
            found[node.name or node.output[0]] = [tensor.astype(np.float32) for tensor in known]
    return found
