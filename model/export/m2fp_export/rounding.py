"""Rounds weights so that what they compute changes least, rather than they themselves.

Weights are rounded one after the other, and those that are not rounded yet make up for the error
of one that is, as far as the inputs go together (Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ:
Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023). What is
left in the mean of an output is taken off its bias (Nagel, van Baalen, Blankevoort, Welling,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from m2fp_export.quantize import (
    WEIGHT_LIMIT,
    Rounding,
    Topology,
    channel_axis,
    quantized_weight,
)
from m2fp_export.verify import open_session

PLACES = 2048
"""Places of a photo, at most, where an operator's inputs are looked at."""
HELD = 2**27
"""Values of inputs that are held at once: photos are run again for the others."""
UNSURE = 1e-9
"""Share of a mean square that its sum may be wrong by."""
DAMPING = 0.01
"""Share of the mean variance that every input's own gets on top: what was never seen to go together
must not be relied on."""

Array = NDArray[Any]


@dataclass
class Moments:
    """Of the inputs of an output value, K of them in each of G groups, over all places seen.

    Those of the channels of a depthwise convolution are groups; else there is one.
    """

    count: int = 0
    sums: Array = field(default_factory=lambda: np.zeros(1))
    products: Array = field(default_factory=lambda: np.zeros(1))

    def add(self, inputs: NDArray[np.float32]) -> None:
        """inputs: [G, K, places]."""
        exact = inputs.astype(np.float64)
        self.count += inputs.shape[2]
        self.sums = self.sums + exact.sum(2)
        self.products = self.products + exact @ exact.transpose(0, 2, 1)

    @property
    def mean(self) -> Array:
        """[G, K]."""
        return self.sums / self.count

    def second(self, about_mean: bool) -> Array:
        """[G, K, K], the mean of products of two inputs, or of their ways from their means."""
        mean, second = self.mean, self.products / self.count
        taken = mean[:, :, None] * mean[:, None, :] if about_mean else 0.0
        # An input that never changes has a variance of 0, which sums of squares may miss.
        squares = np.einsum("gkk->gk", second)[..., None] * np.eye(mean.shape[1])
        return second - taken + UNSURE * squares


def round_weights(
    graph: Path,
    input_name: str,
    photos: Sequence[Callable[[], NDArray[Any]]],
    values: Mapping[str, float],
) -> Rounding:
    """Of all operators that could compute in 8 bits, but for convolutions that are not of pictures.

    photos: each reads one [1, 3, H, W], every time that it is called. values: how many values a
    tensor has (`Calibration.values`). The graph's folder is where an instrumented copy is put, and
    removed. Raises KeyError where `values` lacks a tensor.
    """
    topology = Topology(onnx.load(str(graph)))
    rounding = Rounding()
    for nodes in _passes(topology, values):
        moments = _seen(graph, input_name, nodes, photos)
        for name in dict.fromkeys(node.input[1] for node in nodes):
            readers = [node for node in nodes if node.input[1] == name]
            _round(topology, readers, [moments[node.name] for node in readers], rounding)
    return rounding


def _passes(topology: Topology, values: Mapping[str, float]) -> Iterator[list[onnx.NodeProto]]:
    """The operators in as many lists as are needed for one's inputs to be held at once; those that
    share a weight are in the same."""
    by_weight: dict[str, list[onnx.NodeProto]] = {}
    for node in topology.candidates():
        if node.op_type == "Conv" and len(topology.tensors[node.input[1]].dims) != 4:
            continue
        by_weight.setdefault(node.input[1], []).append(node)
    nodes: list[onnx.NodeProto] = []
    held = 0.0
    for readers in by_weight.values():
        more = sum(_values(topology, node.input[0], values) for node in readers)
        if nodes and held + more > HELD:
            yield nodes
            nodes, held = [], 0.0
        nodes = [*nodes, *readers]
        held += more
    if nodes:
        yield nodes


def _values(topology: Topology, name: str, values: Mapping[str, float]) -> float:
    """Of a tensor; of what it is a view of, where it was not looked at itself."""
    for view in topology.views(name):
        if view in values:
            return values[view]
    raise KeyError(name)


def _seen(
    graph: Path,
    input_name: str,
    nodes: list[onnx.NodeProto],
    photos: Sequence[Callable[[], NDArray[Any]]],
) -> dict[str, Moments]:
    """The moments of the inputs of `nodes`, by name of the operator."""
    names = list(dict.fromkeys(node.input[0] for node in nodes))
    model = onnx.load(str(graph), load_external_data=False)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    del model.graph.output[:]
    model.graph.output.extend(map(helper.make_empty_tensor_value_info, names))
    path = graph.with_name("observed.onnx")
    onnx.save(model, str(path))
    try:
        session = open_session(path)
        moments = {node.name: Moments() for node in nodes}
        generator = np.random.default_rng(0)
        for photo in photos:
            inputs = dict(zip(names, session.run(names, {input_name: photo()}), strict=True))
            for node in nodes:
                x = inputs[node.input[0]]
                moments[node.name].add(_inputs(node, x, shapes[node.input[1]], generator))
    finally:
        path.unlink()
    return moments


def _inputs(
    node: onnx.NodeProto, x: Array, shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.float32]:
    """[G, K, places]: what goes into an output value, at places chosen at random."""
    if node.op_type != "Conv":
        rows = x.reshape(-1, x.shape[-1])
        chosen = _chosen(len(rows), generator)
        return np.ascontiguousarray(rows[chosen].T[None])
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    top, left, bottom, right = given.get("pads", [0] * 4)
    (down, along), (far_down, far_along) = (
        given.get(name, [1, 1]) for name in ("strides", "dilations")
    )
    padded = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
    rows = (padded.shape[1] - (shape[2] - 1) * far_down - 1) // down + 1
    columns = (padded.shape[2] - (shape[3] - 1) * far_along - 1) // along + 1
    places = _chosen(rows * columns, generator)
    first_row, first_column = places // columns * down, places % columns * along
    taps = [
        padded[:, first_row + row * far_down, first_column + column * far_along]
        for row in range(shape[2])
        for column in range(shape[3])
    ]
    groups = given.get("group", 1)
    return np.stack(taps, 1).reshape(groups, -1, len(places))


def _chosen(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    if count <= PLACES:
        return np.arange(count)
    return np.sort(generator.choice(count, PLACES, replace=False))


def _round(
    topology: Topology, readers: list[onnx.NodeProto], moments: list[Moments], rounding: Rounding
) -> None:
    """One weight, and the biases of the operators that read it."""
    name = readers[0].input[1]
    weight = numpy_helper.to_array(topology.tensors[name])
    axis = channel_axis(readers[0])
    groups = len(moments[0].mean)
    rows = np.moveaxis(weight, axis, 0)
    shape = rows.shape
    rows = rows.reshape(groups, shape[0] // groups, -1).astype(np.float64)
    # ONNX Runtime has no bias for a MatMul, whose mean must be right by itself.
    has_bias = [node.op_type != "MatMul" for node in readers]
    second = np.sum([m.second(has) for m, has in zip(moments, has_bias, strict=True)], 0)
    stored, scales = rounded_weight(rows, second)
    rounding.weights[name] = (
        np.ascontiguousarray(np.moveaxis(stored.reshape(shape), 0, axis)).astype(np.int8),
        scales.reshape(-1).astype(np.float32),
    )
    change = stored * scales[..., None] - rows
    for node, has, one in zip(readers, has_bias, moments, strict=True):
        if has:
            shift = -np.einsum("gok,gk->go", change, one.mean)
            rounding.shifts[node.name] = shift.reshape(-1).astype(np.float32)


def rounded_weight(weight: Array, second: Array) -> tuple[Array, Array]:
    """Steps [G, O, K] and scales [G, O] of weights [G, O, K], whose inputs have second moments
    [G, K, K]."""
    groups, outputs, count = weight.shape
    _, scales = quantized_weight(weight.reshape(groups * outputs, count), 0)
    scales = scales.reshape(groups, outputs).astype(np.float64)
    variances = np.einsum("gkk->gk", second)
    damping = DAMPING * variances.mean(1) + 1e-12
    damped = second + damping[:, None, None] * np.eye(count)
    # Rows of the upper factor of the inverse: how those behind a weight make up for its error.
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    left = weight.copy()
    steps = np.empty_like(weight)
    for k in range(count):
        steps[:, :, k] = np.clip(np.rint(left[:, :, k] / scales), -WEIGHT_LIMIT, WEIGHT_LIMIT - 1)
        error = (left[:, :, k] - steps[:, :, k] * scales) / upper[:, None, k, k]
        left[:, :, k + 1 :] -= error[:, :, None] * upper[:, None, k, k + 1 :]
    return steps, scales
