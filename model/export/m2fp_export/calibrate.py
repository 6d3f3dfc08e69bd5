"""Finds the range of every tensor that is to be stored in 8 bits, by running photos.

Each run answers, beside the network's outputs, with the least and the greatest value of every such
tensor and with a sample of it, taken inside the graph: whole activations of a photo are gigabytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from m2fp_export.quantize import Range
from m2fp_export.verify import open_session

Array = NDArray[Any]

SAMPLE = 2**15
"""About so many values of a tensor are looked at for each photo."""
CANDIDATES = np.linspace(0.3, 1.0, 36)
"""Shares of the full range that are tried."""


@dataclass(frozen=True)
class Calibration:
    """ranges: of each tensor; values: how many it has, a photo's mean; photos: how many."""

    ranges: dict[str, Range]
    values: dict[str, float]
    photos: int


def calibrate(
    graph: Path, input_name: str, names: list[str], photos: Iterable[NDArray[np.uint8]]
) -> Calibration:
    """Looks at the tensors `names` (`Topology.observed`) while photos [1, 3, H, W] are run.

    The graph's folder is where an instrumented copy is put, and removed.
    """
    model = onnx.load(str(graph), load_external_data=False)
    _observe(model, names)
    path = graph.with_name("observed.onnx")
    onnx.save(model, str(path))
    try:
        session = open_session(path)
        seen = [_Seen() for _ in names]
        outputs = [
            f"{name}/{what}" for name in names for what in ("least", "greatest", "sample", "size")
        ]
        count = 0
        for photo in photos:
            count += 1
            answers = iter(session.run(outputs, {input_name: photo}))
            for one in seen:
                one.add(*(next(answers) for _ in range(4)))
    finally:
        path.unlink()
    pairs = list(zip(names, seen, strict=True))
    return Calibration(
        {name: one.range() for name, one in pairs},
        {name: one.values / count for name, one in pairs},
        count,
    )


class _Seen:
    """Of one tensor, over all photos."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.values = 0
        self.samples: list[NDArray[np.float32]] = []

    def add(self, low: Array, high: Array, sample: Array, size: Array) -> None:
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.samples.append(sample)
        self.values += int(size[0])

    def range(self) -> Range:
        return best_range(np.concatenate(self.samples), self.low, self.high)


def best_range(sample: NDArray[np.float32], low: float, high: float) -> Range:
    """Of ranges within low to high, the one whose bytes differ least from `sample`, in squares.

    A rare large value costs a step for all others: it may be better clamped.
    """
    best, least = Range(low, high), np.inf
    for share in CANDIDATES[::-1]:
        tried = Range(low * share, high * share)
        error = float(np.square(rounded(sample, tried) - sample, dtype=np.float64).mean())
        if error < least:
            best, least = tried, error
    return best


def rounded(values: NDArray[np.float32], range_: Range) -> NDArray[np.float32]:
    """What is left of `values` after 8 bits."""
    zero = np.float32(range_.zero_point)
    steps = np.clip(np.rint(values / range_.scale) + zero, 0, 255)
    return (steps - zero) * range_.scale


def _observe(model: onnx.ModelProto, names: list[str]) -> None:
    """Add the least, the greatest and a sample of each tensor to the model's outputs."""
    graph = model.graph

    def constant(name: str, *values: int) -> str:
        array = np.array(values, np.int64)
        graph.initializer.append(numpy_helper.from_array(array, f"observe/{name}"))
        return f"observe/{name}"

    first, last, flat = constant("first", 0), constant("last", 2**62), constant("flat", -1)
    count, two, one = constant("count", 2 * SAMPLE), constant("two", 2), constant("one", 1)
    for name in names:
        row, part, even, step = (f"{name}/observe{index}" for index in range(4))
        size = f"{name}/size"
        sample = f"{name}/sample"
        # An odd step does not keep to one column of a map, whose width is even.
        added = [
            ("Reshape", [name, flat], row, {}),
            ("Shape", [row], size, {}),
            ("Div", [size, count], part, {}),
            ("Mul", [part, two], even, {}),
            ("Add", [even, one], step, {}),
            ("Slice", [row, first, last, first, step], sample, {}),
            ("ReduceMin", [name], f"{name}/least", {"keepdims": 0}),
            ("ReduceMax", [name], f"{name}/greatest", {"keepdims": 0}),
        ]
        for op_type, inputs, output, attributes in added:
            graph.node.append(
                helper.make_node(op_type, inputs, [output], name=output, **attributes)
            )
        for what in ("least", "greatest", "sample", "size"):
            graph.output.append(helper.make_empty_tensor_value_info(f"{name}/{what}"))
    # Sorted by need: an observer right behind its tensor lets that tensor go early.
    _sort(graph)


def _sort(graph: onnx.GraphProto) -> None:
    at = {name: index for index, node in enumerate(graph.node) for name in node.output}
    places: list[tuple[int, int]] = []
    for index, node in enumerate(graph.node):
        own = index
        if (
            node.name.endswith(("/sample", "/least", "/greatest", "/size"))
            or "/observe" in node.name
        ):
            own = max((places[at[name]][0] for name in node.input if name in at), default=index)
        places.append((own, index))
    ordered = [graph.node[index] for _, index in sorted(places)]
    del graph.node[:]
    graph.node.extend(ordered)
