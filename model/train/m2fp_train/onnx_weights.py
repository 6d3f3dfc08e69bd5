"""The weights of convolutions, read out of ONNX graphs."""

from pathlib import Path

import numpy as np
import onnx


def convolutions(path: Path) -> dict[str, list[np.ndarray]]:
    """float32 weights, and biases where there are some, of each convolution by its node's name.

    In the order of the graph, whose weights may be stored as halves that it casts.
    """
    graph = onnx.load(str(path)).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values |= {
        node.output[0]: values[node.input[0]]
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in values
    }
    return {
        node.name or node.output[0]: [values[name].astype(np.float32) for name in node.input[1:]]
        for node in graph.node
        if node.op_type == "Conv"
    }
