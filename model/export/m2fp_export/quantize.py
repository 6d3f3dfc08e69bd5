"""Turns a float graph into one that computes in 8 bits: QuantizeLinear and DequantizeLinear around
the operators chosen, in the patterns that ONNX Runtime fuses.

Activations are unsigned, with a scale and a zero point for each tensor. Weights are signed, without
zero point, with a scale for each output channel, and of 7 bits: see `WEIGHT_LIMIT`. Which way each
is rounded, `rounding` says.

A convolution's result is always stored in 8 bits (with its Relu inside), so are sums, joins and
views of such results, and what only operators in 8 bits read, through views or not; a linear layer
answers in float, unless the next operator is one, too. `m2fp::GroupNorm` reads such bytes itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from m2fp_export.graph_parts import GROUP_NORM

LEVELS = 255
"""Steps between the least and the greatest value of an unsigned byte."""
WEIGHT_LIMIT = 64
"""Weights are -64 to 63. Where a processor has no VNNI, ONNX Runtime adds two products of an
activation and a weight in 16 bits, saturating (vpmaddubsw); 2·255·64 = 32640 still fits."""
BIAS_LIMIT = 2**30
"""Of a bias in 32 bits: the other half is left to the sum of products."""
SMALLEST_HALVED = 256
"""Numbers of a tensor from which `narrow_weights` stores it in halves."""

SUMS = ("Conv", "Gemm", "MatMul")
"""What is worth 8 bits: operators with weights."""
JOINS = ("Add", "Concat")
"""Computed in 8 bits where an input is, and what comes out is read in 8 bits."""
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Identity", "MaxPool")
"""They select or move values: what goes in and what comes out share scale and zero point."""
CLAMPS = ("Relu", "Clip")
"""Folded into the operator before: the range of its unsigned bytes does the same."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Range:
    """The values of a tensor that unsigned bytes stand for; what lies outside is clamped."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        return np.float32(max(high - low, 1e-8) / LEVELS)

    @property
    def zero_point(self) -> np.uint8:
        return np.uint8(np.clip(np.rint(-min(self.low, 0.0) / self.scale), 0, LEVELS))


@dataclass(frozen=True)
class Rounding:
    """How weights are rounded (see `rounding`). weights: by name, bytes of the same shape and the
    scale of each output channel. shifts: by an operator's name, what its bias gains by that."""

    weights: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]] = field(default_factory=dict)
    shifts: dict[str, NDArray[np.float32]] = field(default_factory=dict)


NEAREST = Rounding()
"""Each weight to the nearest step."""


class Topology:
    """Who makes and who reads which tensor of a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.tensors[node.output[0]] = node.attribute[0].t
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
        self.results = {output.name for output in model.graph.output}

    def candidates(self) -> list[onnx.NodeProto]:
        """Operators that could compute in 8 bits, in the order of the graph."""
        return [node for node in self.nodes if self._is_candidate(node)]

    def _is_candidate(self, node: onnx.NodeProto) -> bool:
        if node.domain or node.op_type not in SUMS or node.input[1] not in self.tensors:
            return False
        weight = self.tensors[node.input[1]]
        if weight.data_type != onnx.TensorProto.FLOAT or node.input[0] in self.tensors:
            return False
        if len(node.input) > 2 and node.input[2] not in self.tensors:
            return False
        if node.op_type == "Gemm":
            values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            plain = (values.get("alpha", 1.0), values.get("beta", 1.0), values.get("transA", 0))
            return plain == (1.0, 1.0, 0)
        return node.op_type == "Conv" or len(weight.dims) == 2

    def settled(self, node: onnx.NodeProto) -> str:
        """The result of `node`, after clamps that follow it and that nothing else precedes."""
        name = node.output[0]
        while name not in self.results and len(self.readers[name]) == 1:
            after = self.readers[name][0]
            if after.op_type not in CLAMPS:
                break
            name = after.output[0]
        return name

    def source(self, name: str) -> str:
        """The tensor that `name` is a view of, or itself."""
        *_, last = self.views(name)
        return last

    def views(self, name: str) -> Iterator[str]:
        """`name`, the tensor it is a view of, and so on."""
        yield name
        while name in self.producer and self.producer[name].op_type in VIEWS:
            name = self.producer[name].input[0]
            yield name

    def observed(self) -> list[str]:
        """The tensors whose ranges a quantised graph may need."""
        names: dict[str, None] = {}
        for node in self.candidates():
            names[self.source(node.input[0])] = None
            names[self.settled(node)] = None
        for node in self.nodes:
            if node.op_type in JOINS:
                settled = self.settled(node)
                kinds = (*SUMS, *VIEWS, *JOINS, GROUP_NORM)
                if any(reader.op_type in kinds for reader in self.readers[settled]):
                    names[settled] = None
        floats = self._floats()
        return [name for name in names if name in floats]

    def _floats(self) -> set[str]:
        """Tensors that are float: results of candidates, and what they are computed with."""
        known: set[str] = set()
        for node in self.candidates():
            known |= {self.source(node.input[0]), self.settled(node)}
        for node in self.nodes:
            if node.op_type in JOINS and any(
                self.source(name) in known or name in known for name in node.input
            ):
                known.add(self.settled(node))
        return known


def widen_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its weights in float32 that were stored as float16, or as bytes with scales, and
    turned back in the graph: an operator whose weight is computed is no candidate."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    narrow = (onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8)
    small = {name for name, tensor in stored.items() if tensor.data_type in narrow}
    widened: dict[str, Array] = {}
    kept = []
    for node in model.graph.node:
        turns_back = node.op_type in ("Cast", "DequantizeLinear") and node.input[0] in small
        if turns_back and all(name in stored for name in node.input):
            given = {name: numpy_helper.to_array(stored[name]) for name in node.input}
            (widened[node.output[0]],) = ReferenceEvaluator(node).run(None, given)
        else:
            kept.append(node)
    read = {name for node in kept for name in node.input}
    weights = [tensor for name, tensor in stored.items() if name in read]
    weights += [numpy_helper.from_array(values, name) for name, values in widened.items()]
    for kind, messages in ((model.graph.initializer, weights), (model.graph.node, kept)):
        del kind[:]
        kind.extend(messages)
    return model


def narrow_weights(model: onnx.ModelProto) -> None:
    """Store the float weights of a graph in halves, turned back when it is loaded.

    Scales stay as they are: those of channels that hardly say anything are too small for halves.
    """
    scales = {
        node.input[1]
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    turned_back = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        is_weight = values.dtype == np.float32 and tensor.name not in scales
        if is_weight and values.size >= SMALLEST_HALVED:
            name, stored = tensor.name, f"{tensor.name}/halves"
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
            to = onnx.TensorProto.FLOAT
            turned_back.append(helper.make_node("Cast", [stored], [name], name=name, to=to))
    nodes = [*turned_back, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    chosen: Iterable[str],
    rounding: Rounding = NEAREST,
) -> onnx.ModelProto:
    """`model` with the operators named `chosen` in 8 bits; float weights that are left are shared.

    Raises KeyError where a range is missing.
    """
    return _Quantizer(Topology(model), ranges, set(chosen), rounding).run(model)


class _Quantizer:
    def __init__(
        self,
        topology: Topology,
        ranges: Mapping[str, Range],
        chosen: set[str],
        rounding: Rounding,
    ) -> None:
        self.topology = topology
        self.ranges = ranges
        self.rounding = rounding
        self.chosen = {id(n) for n in topology.candidates() if n.name in chosen}
        self.joins: set[int] = set()
        self.bytes = self._stored_in_bytes()
        self.nodes: list[onnx.NodeProto] = []
        self.added: dict[str, onnx.TensorProto] = {}
        self.restored: dict[str, str] = {}

    def _stored_in_bytes(self) -> dict[str, Range]:
        """Tensors that exist in 8 bits only, with what their bytes mean."""
        stored: dict[str, Range] = {}
        for node in self.topology.nodes:
            if id(node) in self.chosen:
                result = self.topology.settled(node)
                if node.op_type == "Conv" or self._only_sums_read(result):
                    stored[result] = self.ranges[result]
            elif node.op_type in JOINS and self._joins_bytes(node, stored):
                result = self.topology.settled(node)
                if self._is_stored_in_bytes(node, stored) or self._is_read_in_bytes(result):
                    self.joins.add(id(node))
                    stored[result] = self.ranges[result]
                    self._share_range(node, stored)
            elif node.op_type in VIEWS:
                if node.input[0] in stored:
                    stored.update(dict.fromkeys(node.output, stored[node.input[0]]))
            else:
                for name in node.output:
                    if name in self.ranges and self._only_sums_read(name):
                        stored[name] = self.ranges[name]
            for name in self.topology.results:
                stored.pop(name, None)
        return stored

    def _joins_bytes(self, node: onnx.NodeProto, stored: Mapping[str, Range]) -> bool:
        """Whether an input is in bytes, and all others can be: one float shortcut must not make
        the sums of a whole stage float."""
        known = all(name in stored or name in self.ranges for name in node.input)
        return known and any(name in stored for name in node.input)

    def _is_stored_in_bytes(self, node: onnx.NodeProto, stored: Mapping[str, Range]) -> bool:
        """Whether a join without arithmetic has only bytes to join: as floats it would be a copy
        four times as large."""
        is_copy = node.op_type == "Concat" and self.topology.settled(node) in self.ranges
        return is_copy and all(name in stored for name in node.input)

    def _share_range(self, node: onnx.NodeProto, stored: dict[str, Range]) -> None:
        """What exists only to be joined has the joined range from the start: joining is copying."""
        if node.op_type != "Concat":
            return
        for name in node.input:
            alone = len(self.topology.readers[name]) == 1
            if alone and id(self.topology.producer.get(name)) in self.chosen:
                stored[name] = stored[self.topology.settled(node)]

    def _only_sums_read(self, name: str) -> bool:
        """Whether operators in 8 bits are all that reads its values, be it through views."""
        readers = [n for n in self.topology.readers[name] if n.op_type != "Shape"]
        return bool(readers) and all(self._reads_in_bytes(n, name) for n in readers)

    def _reads_in_bytes(self, reader: onnx.NodeProto, name: str) -> bool:
        if reader.input[0] != name or name in self.topology.results:
            return False
        is_view = reader.op_type in VIEWS and all(map(self._only_sums_read, reader.output))
        return is_view or id(reader) in self.chosen

    def _is_read_in_bytes(self, name: str) -> bool:
        for reader in self.topology.readers[name]:
            if id(reader) in self.chosen:
                return True
            if reader.op_type in VIEWS and self._is_read_in_bytes(reader.output[0]):
                return True
        return False

    def _range(self, name: str) -> Range:
        for view in self.topology.views(name):
            if view in self.ranges:
                return self.ranges[view]
        raise KeyError(name)

    def run(self, model: onnx.ModelProto) -> onnx.ModelProto:
        for node in self.topology.nodes:
            if id(node) in self.chosen:
                self._sum(node)
            else:
                self._other(node)
            for name in node.output:
                if name in self.bytes:
                    self._store(name, self.bytes[name])
        read = {name for node in self.nodes for name in node.input} | self.topology.results
        graph = helper.make_graph(
            [node for node in self.nodes if any(name in read for name in node.output)],
            model.graph.name,
            model.graph.input,
            model.graph.output,
            [
                tensor
                for tensor in (*model.graph.initializer, *self.added.values())
                if tensor.name in read
            ],
        )
        return helper.make_model(
            graph,
            producer_name=model.producer_name,
            ir_version=model.ir_version,
            opset_imports=model.opset_import,
        )

    def _sum(self, node: onnx.NodeProto) -> None:
        """Node with restored input, weight and bias: ONNX Runtime makes one integer operator."""
        x = node.input[0]
        if x not in self.restored:
            self._store(x, self._range(x))
        range_ = self.bytes.get(x) or self._range(x)
        weight, scales = self._weight(node.input[1], channel_axis(node))
        inputs = [self.restored[x], weight]
        shift = self.rounding.shifts.get(node.name)
        if len(node.input) > 2:
            bias = numpy_helper.to_array(self.topology.tensors[node.input[2]])
            bias = bias if shift is None else bias + shift
            inputs.append(self._bias(node.input[2], bias, scales * range_.scale))
        elif shift is not None:
            inputs.append(self._bias(f"{node.name}/bias", shift, scales * range_.scale))
        self.nodes.append(_with_inputs(node, inputs))

    def _other(self, node: onnx.NodeProto) -> None:
        inputs = []
        for name in node.input:
            if name not in self.bytes and id(node) in self.joins:
                if name not in self.restored:
                    self._store(name, self.ranges[name])
                inputs.append(self.restored[name])
            elif name not in self.bytes:
                inputs.append(name)
            elif node.op_type == "Shape":  # of the bytes: nothing need be restored
                inputs.append(f"{name}/bytes")
            elif node.op_type == GROUP_NORM:
                inputs.append(f"{name}/bytes")
                node = _with_epsilon_in_unit(node, self.bytes[name].scale)
            else:
                inputs.append(self.restored[name])
        self.nodes.append(_with_inputs(node, inputs))

    def _store(self, name: str, range_: Range) -> None:
        scale = self._constant(f"{name}/scale", np.array(range_.scale))
        zero = self._constant(f"{name}/zero", np.array(range_.zero_point))
        stored, restored = f"{name}/bytes", f"{name}/restored"
        self._node("QuantizeLinear", [name, scale, zero], stored)
        self._node("DequantizeLinear", [stored, scale, zero], restored)
        self.restored[name] = restored

    def _weight(self, name: str, axis: int) -> tuple[str, Array]:
        restored = f"{name}/restored"
        scales_name, zeros_name = f"{name}/scale", f"{name}/zero"
        if restored not in self.restored:
            stored, scales = self.rounding.weights.get(name) or quantized_weight(
                numpy_helper.to_array(self.topology.tensors[name]), axis
            )
            self._constant(f"{name}/bytes", stored)
            self._constant(scales_name, scales)
            self._constant(zeros_name, np.zeros(len(scales), np.int8))
            self._node(
                "DequantizeLinear", [f"{name}/bytes", scales_name, zeros_name], restored, axis=axis
            )
            self.restored[restored] = name
        return restored, numpy_helper.to_array(self.added[scales_name])

    def _bias(self, name: str, bias: Array, scales: Array) -> str:
        """The bias in the unit of the integer sums. Scales differ where inputs differ."""
        stored = np.clip(np.rint(bias.ravel().astype(np.float64) / scales), -BIAS_LIMIT, BIAS_LIMIT)
        count = sum(1 for other in self.added if other.startswith(f"{name}/bytes"))
        suffix = f"_{count}" if count else ""
        names = [f"{name}/{part}{suffix}" for part in ("bytes", "scale", "zero", "restored")]
        self._constant(names[0], stored.astype(np.int32))
        self._constant(names[1], scales.astype(np.float32))
        self._constant(names[2], np.zeros(len(scales), np.int32))
        self._node("DequantizeLinear", names[:3], names[3], axis=0)
        return names[3]

    def _constant(self, name: str, value: Array) -> str:
        self.added[name] = numpy_helper.from_array(value, name)
        return name

    def _node(self, op_type: str, inputs: list[str], output: str, **attributes: int) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))


def quantized_weight(weight: Array, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Bytes of the same shape, the nearest, and the scale of each channel along `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others)
    scales = (np.maximum(largest, 1e-8) / (WEIGHT_LIMIT - 1)).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    stored = np.rint(weight / scales.reshape(shape))
    return np.clip(stored, -WEIGHT_LIMIT, WEIGHT_LIMIT - 1).astype(np.int8), scales


def channel_axis(node: onnx.NodeProto) -> int:
    """Along which axis of its weight an operator's output channels lie."""
    if node.op_type == "Conv":
        return 0
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else 1


def _with_epsilon_in_unit(node: onnx.NodeProto, unit: np.float32) -> onnx.NodeProto:
    """Epsilon is added to a variance, so it is in the unit's square."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    epsilon = next(a for a in copy.attribute if a.name == "epsilon")
    epsilon.f /= float(unit) ** 2
    return copy


def _with_inputs(node: onnx.NodeProto, inputs: list[str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = inputs
    return copy
