"""Weights rounded by what they are given."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from m2fp_export import rounding
from m2fp_export.quantize import NEAREST, Range, Rounding, Topology, quantize, quantized_weight
from m2fp_export.verify import open_session

GENERATOR = np.random.default_rng(0)


def _second(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    return inputs @ inputs.transpose(0, 2, 1) / inputs.shape[2]


def _changed(
    weight: np.ndarray, steps: np.ndarray, scales: np.ndarray, second: np.ndarray
) -> float:
    """Mean square of what outputs change by."""
    change = steps * scales[..., None] - weight
    return float(np.einsum("gok,gkl,gol->", change, second, change))


def test_inputs_that_have_nothing_in_common_leave_the_nearest_steps() -> None:
    weight = GENERATOR.normal(size=(1, 8, 16))
    steps, scales = rounding.rounded_weight(weight, np.eye(16)[None])
    nearest, of_nearest = quantized_weight(weight[0], 0)
    assert (steps[0] == nearest).all() and np.allclose(scales[0], of_nearest)


@pytest.mark.parametrize("groups", [1, 6])
def test_inputs_that_go_together_make_up_for_each_other(groups: int) -> None:
    weight = GENERATOR.normal(size=(groups, 24 // groups, 9))
    common = GENERATOR.normal(size=(groups, 2, 500))
    mixed = GENERATOR.normal(size=(groups, 9, 2)) @ common
    second = _second(mixed + 0.1 * GENERATOR.normal(size=mixed.shape))
    steps, scales = rounding.rounded_weight(weight, second)
    assert steps.min() >= -64 and steps.max() <= 63
    nearest = np.rint(weight / scales[..., None])
    least = _changed(weight, nearest, scales, second)
    assert _changed(weight, steps, scales, second) < 0.4 * least


def _network(path: Path) -> onnx.ModelProto:
    """A stem of 3×3 in steps of two, a depthwise convolution, a dense one without a bias, and a
    linear layer over the columns; what each is given has a mean far from 0."""
    shapes = {
        "stem": (6, 3, 3, 3),
        "stem.bias": (6,),
        "deep": (6, 1, 3, 3),
        "deep.bias": (6,),
        "wide": (5, 6, 1, 1),
        "linear": (8, 4),
    }
    generator = np.random.default_rng(1)
    weights = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    nodes = [
        ("Conv", ["x", "stem", "stem.bias"], "a", {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Relu", ["a"], "b", {}),
        ("Conv", ["b", "deep", "deep.bias"], "c", {"group": 6, "pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], "d", {}),
        ("Conv", ["d", "wide"], "e", {}),
        ("MatMul", ["e", "linear"], "y", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, ins, [out], name=out, **how) for kind, ins, out, how in nodes],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_empty_tensor_value_info(name) for name in "acey"],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, str(path))
    return model


def _photo(seed: int) -> NDArray[np.float32]:
    smooth = np.random.default_rng(seed).normal(size=(1, 3, 4, 4)).repeat(4, 2).repeat(4, 3)
    return (1 + smooth + 0.1 * np.random.default_rng(seed).normal(size=smooth.shape)).astype("f")


def _with_weights(model: onnx.ModelProto, made: Rounding) -> onnx.ModelProto:
    """The network in floats, with the weights and biases that the rounding says."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    axes = {"linear": 1}
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.name in made.weights:
            stored, scales = made.weights[tensor.name]
            shape = [1] * value.ndim
            shape[axes.get(tensor.name, 0)] = -1
            value = stored * scales.reshape(shape)
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    for node in copy.graph.node:
        shift = made.shifts.get(node.name)
        if shift is None:
            continue
        name = f"{node.name}/shifted"
        bias = {t.name: t for t in copy.graph.initializer}.get([*node.input, ""][2])
        shift = shift if bias is None else shift + numpy_helper.to_array(bias)
        copy.graph.initializer.append(numpy_helper.from_array(shift, name))
        node.input[:] = [*node.input[:2], name]
    return copy


def test_outputs_of_every_kind_of_operator_keep_their_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _network(tmp_path / "model.onnx")
    photos = [lambda seed=seed: _photo(seed) for seed in range(8)]
    values = {"x": 768.0, "b": 384.0, "d": 384.0, "e": 320.0}
    monkeypatch.setattr(rounding, "HELD", 1000)
    passes = list(rounding._passes(Topology(model), values))
    assert [[node.name for node in nodes] for nodes in passes] == [["a"], ["c", "e"], ["y"]]
    made = rounding.round_weights(tmp_path / "model.onnx", "x", photos, values)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]
    assert set(made.weights) == {"stem", "deep", "wide", "linear"}
    assert set(made.shifts) == {"a", "c", "e"}, "a MatMul has no bias"
    exact = open_session(tmp_path / "model.onnx")

    def changes(other: Rounding, output: str) -> NDArray[np.float64]:
        """What each value of `output` changes by, [photos, ...]."""
        onnx.save(_with_weights(model, other), str(tmp_path / "other.onnx"))
        session = open_session(tmp_path / "other.onnx")
        return np.concatenate(
            [
                session.run([output], {"x": photo()})[0].astype(np.float64)
                - exact.run([output], {"x": photo()})[0]
                for photo in photos
            ]
        )

    tensors = Topology(model).tensors
    for weight, output in {"stem": "a", "deep": "c", "wide": "e", "linear": "y"}.items():
        nearest = quantized_weight(numpy_helper.to_array(tensors[weight]), weight == "linear")
        least = np.square(changes(Rounding({weight: nearest}), output)).mean()
        alone = {name: shift for name, shift in made.shifts.items() if name == output}
        change = changes(Rounding({weight: made.weights[weight]}, alone), output)
        assert np.square(change).mean() < 0.7 * least, weight
        if weight != "linear":
            assert np.allclose(change.mean((0, 2, 3)), 0, atol=1e-4), weight


def test_a_graph_in_8_bits_has_the_rounded_weights_and_biases(tmp_path: Path) -> None:
    model = _network(tmp_path / "model.onnx")
    ranges = {name: Range(-10.0, 10.0) for name in "xbdey"}
    shifts = {"e": np.arange(5, dtype=np.float32)}
    stored = np.full((5, 6, 1, 1), 7, np.int8)
    made = Rounding({"wide": (stored, np.full(5, 0.5, np.float32))}, shifts)
    in_bytes = quantize(model, ranges, ["e"], made)
    nodes = {node.output[0]: node for node in in_bytes.graph.node}
    tensors = {t.name: numpy_helper.to_array(t) for t in in_bytes.graph.initializer}
    assert (tensors["wide/bytes"] == stored).all()
    bias, scale, _ = (tensors[name] for name in nodes[nodes["e"].input[2]].input)
    assert np.allclose(bias * scale, shifts["e"], atol=float(scale.max()))

    in_bytes = quantize(model, ranges, ["e"], NEAREST)
    nodes = {node.output[0]: node for node in in_bytes.graph.node}
    tensors = {t.name: numpy_helper.to_array(t) for t in in_bytes.graph.initializer}
    nearest, _ = quantized_weight(numpy_helper.to_array(Topology(model).tensors["wide"]), 0)
    assert (tensors["wide/bytes"] == nearest).all() and len(nodes["e"].input) == 2
