"""Writes the query parser as ONNX and proves that ONNX Runtime computes the same."""

import heapq
import tempfile
import warnings
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import Message
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from torch import Tensor, nn

from m2fp_train.queries import QueryParser

OPSET = 17
INPUT_NAME = "image"
OUTPUT_NAMES = ("pred_logits", "pred_masks")
VERIFIED_SIZES = (
    (576, 324),
    (384, 576),
    (683, 384),
    (384, 800),
    (512, 384),
    (32, 32),
    (47, 33),
    (800, 8),
    (1, 1),
    (5, 321),
)
"""(width, height) in pixels: ordinary, exact multiples of the divisor, tiny, odd and elongated."""
SMALLEST_HALVED = 256
"""Numbers of a tensor from which it is stored as float16; biases are too few to matter."""
SMALLEST_IN_BYTES = 100_000
"""Numbers of a convolution's weights from which they are stored as bytes: those of the deepest
layers."""
SMALL = ".small"
"""What is added to the names of weights that are stored smaller."""
TINY = np.float32(1e-12)
ABSOLUTE_TOLERANCE = 3e-3
RELATIVE_TOLERANCE = 1e-4
"""On logits: both sides compute in float32 and differ only in the order of sums, by up to 0.002 on
some processors."""


def write_graph(parser: QueryParser, path: Path) -> None:
    """Write `parser` to `path`, weights included; height and width stay free."""
    example = torch.zeros(1, 3, 333, 417, dtype=torch.uint8)
    write_module(parser, example, path, OUTPUT_NAMES, {1: {2: "mask_height", 3: "mask_width"}})
    trim_kernels(path)
    onnx.checker.check_model(str(path), full_check=True)


def write_module(
    module: nn.Module,
    example: Tensor,
    path: Path,
    outputs: Sequence[str],
    free: dict[int, dict[int, str]],
) -> None:
    """Write a module that takes images, whose height and width stay free, and by name the axes that
    are `free` of an output."""
    with warnings.catch_warnings():
        # PyTorch 1.13 says that it infers no shape of constants (ONNX Runtime does), and 2.x that
        # this exporter will give way to another, which 1.13 does not have.
        warnings.filterwarnings("ignore", message="The shape inference of prim::Constant")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # It would fold the widths of a padding, and says that it does not: ONNX Runtime does.
        warnings.filterwarnings("ignore", message="Constant folding - Only steps=1")
        torch.onnx.export(
            module,
            (example,),
            str(path),
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=list(outputs),
            dynamic_axes={
                INPUT_NAME: {2: "height", 3: "width"},
                **{outputs[number]: axes for number, axes in free.items()},
            },
        )


def trim_kernels(path: Path) -> None:
    """Leave out the rows and columns of zeros that convolutions' kernels begin with, and as many of
    the zeros that their images are padded with there. PyTorch pads alike on opposite sides."""
    model = onnx.load(str(path))
    of_kernel: dict[str, list[dict[str, MutableSequence[int]]]] = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            attributes = {attribute.name: attribute.ints for attribute in node.attribute}
            of_kernel.setdefault(node.input[1], []).append(attributes)
    for kernel in model.graph.initializer:
        convolutions = of_kernel.get(kernel.name)
        if convolutions is None:
            continue
        values = onnx.numpy_helper.to_array(kernel)
        for way in (0, 1):
            rows = values.swapaxes(0, 2 + way)
            padded = min(attributes["pads"][way] for attributes in convolutions)
            zeros = next(place for place, row in enumerate(rows) if row.any() or place == padded)
            values = rows[zeros:].swapaxes(0, 2 + way)
            for attributes in convolutions:
                attributes["pads"][way] -= zeros
                attributes["kernel_shape"][way] -= zeros
        kernel.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), kernel.name))
    onnx.save(model, str(path))


def store_small(path: Path) -> None:
    """Store the large weights of a graph as float16, the largest as bytes with a scale for each
    channel that they make. A session turns them back when it loads them.

    What is computed in stays float32.
    """
    model = onnx.load(str(path))
    graph = model.graph
    turned_back, scales = [], []
    for weights in graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < SMALLEST_HALVED:
            continue
        name, stored = weights.name, f"{weights.name}{SMALL}"
        if values.ndim == 4 and values.size >= SMALLEST_IN_BYTES:
            scale = np.abs(values).max((1, 2, 3)) / 127
            steps = np.maximum(scale, TINY).reshape(-1, 1, 1, 1)
            small = np.rint(values / steps).astype(np.int8)
            scales.append(onnx.numpy_helper.from_array(scale, f"{name}.scale"))
            # One operator, so that a session that loads them holds no floats in between.
            turned_back.append(
                onnx.helper.make_node("DequantizeLinear", [stored, f"{name}.scale"], [name], axis=0)
            )
        else:
            small = values.astype(np.float16)
            turned_back.append(
                onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT)
            )
        weights.CopyFrom(onnx.numpy_helper.from_array(small, stored))
    graph.initializer.extend(scales)
    _replace(graph.node, [*turned_back, *graph.node])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def simplify(path: Path) -> None:
    """Do to a graph, once, what a session would do at every load and on every processor alike, and
    name the sizes of all its tensors.

    Constants are folded, and what is computed twice is computed once. Sizes that depend on height
    and width get a name each, the same for the same size. Without names a session takes no two
    of them to be the same: it searches for long, and no tensor takes another's room in memory.
    With them, sides that never differ are known, and what is computed of these is a constant.
    Weights stay as `store_small` stores them. Raises AssertionError where anything else is
    computed.
    """
    before = onnx.load(str(path))
    model = _named_sizes(_folded(before))
    order = [name for node in model.graph.node for name in node.output]
    while _write_known_sizes(model):
        model = _named_sizes(_folded(model))
    # Folding once more put nodes in another order, in which more tensors live at once.
    _put_in_order(model.graph, order)
    onnx.checker.check_model(model, full_check=True)
    # Sizes that cannot be told apart are taken for the same; where they were not, a session fails.
    _compare(*(_computed_by(graph.SerializeToString()) for graph in (before, model)))
    onnx.save(model, str(path))


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """What ONNX Runtime makes of it without changing what any processor computes.

    Meanwhile small weights count as inputs, or they would be folded into large ones.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    restoring = [node for node in graph.node if _restores(node, stored)]
    small = {name: stored[name] for node in restoring for name in node.input}
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    _replace(inner.graph.node, [node for node in graph.node if not _restores(node, stored)])
    _replace(inner.graph.initializer, [stored[name] for name in stored if name not in small])
    inputs = len(graph.input)
    inner.graph.input.extend(
        onnx.helper.make_tensor_value_info(
            node.output[0], onnx.TensorProto.FLOAT, small[node.input[0]].dims
        )
        for node in restoring
    )
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder, "model.onnx"))
        onnxruntime.InferenceSession(
            inner.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        folded = onnx.load(options.optimized_model_filepath)
    _replace(folded.graph.input, folded.graph.input[:inputs])
    _replace(folded.graph.node, [*restoring, *folded.graph.node])
    folded.graph.initializer.extend(small.values())
    # It names all domains that it knows.
    used = {node.domain for node in folded.graph.node}
    _replace(folded.opset_import, [opset for opset in folded.opset_import if opset.domain in used])
    return folded


def _restores(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> bool:
    """Whether it makes floats of what `store_small` stored."""
    inputs = list(node.input)
    return bool(inputs) and inputs[0].endswith(SMALL) and all(name in stored for name in inputs)


def _named_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the shapes of all tensors; those of inputs and outputs stay as they are.

    The names of sizes are short, because they are compared.
    """
    # What is known of shapes already is not computed anew.
    del model.graph.value_info[:]
    named = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    names: dict[str, str] = {}
    for value in named.graph.value_info:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = names.setdefault(size.dim_param, f"s{len(names)}")
    _replace(named.graph.output, model.graph.output)
    return named


def _put_in_order(graph: onnx.GraphProto, order: list[str]) -> None:
    """Put nodes in the order of their outputs, as far as each comes after what it needs. One whose
    output is not in it comes right after that."""
    places = {name: float(place) for place, name in enumerate(order)}
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    needed = [{makers[name] for name in node.input if name in makers} for node in graph.node]
    users: list[list[int]] = [[] for _ in graph.node]
    for index, makers_of in enumerate(needed):
        place = max((places[graph.node[maker].output[0]] for maker in makers_of), default=-1.0)
        for name in graph.node[index].output:
            places.setdefault(name, place + 0.5)
        for maker in makers_of:
            users[maker].append(index)
    missing = [len(makers_of) for makers_of in needed]
    ready = [(places[node.output[0]], i) for i, node in enumerate(graph.node) if not missing[i]]
    heapq.heapify(ready)
    nodes = []
    while ready:
        _, index = heapq.heappop(ready)
        nodes.append(graph.node[index])
        for user in users[index]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (places[graph.node[user].output[0]], user))
    _replace(graph.node, nodes)


def _write_known_sizes(model: onnx.ModelProto) -> int:
    """Make constants of sides that are read off a shape and are always the same, and of new shapes
    of which one side at most is free. Returns how many.
    """
    graph = model.graph
    shapes = {value.name: _sides(value) for value in (*graph.input, *graph.value_info)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    read_off = {node.output[0]: node.input[0] for node in graph.node if _reads_shape(node)}
    known = []
    for node in graph.node:
        of = read_off.get(node.input[0]) if node.op_type == "Gather" else None
        if of in shapes and node.input[1] in constants:
            places = onnx.numpy_helper.to_array(constants[node.input[1]])
            sides = [shapes[of][place] for place in places.ravel()]
            if all(isinstance(side, int) for side in sides):
                sides = np.array(sides, np.int64).reshape(places.shape)
                known.append(onnx.numpy_helper.from_array(sides, node.output[0]))
        elif node.op_type == "Reshape" and node.input[1] not in constants:
            sides = [side if isinstance(side, int) else -1 for side in shapes[node.output[0]]]
            if sides.count(-1) <= 1:
                name = f"{node.output[0]}.shape"
                known.append(onnx.numpy_helper.from_array(np.array(sides, np.int64), name))
                node.input[1] = name
    graph.initializer.extend(known)
    made = {tensor.name for tensor in known}
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if made.isdisjoint(node.output) and not used.isdisjoint(node.output):
            used.update(node.input)
            kept.append(node)
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    return len(known)


def _sides(value: onnx.ValueInfoProto) -> list[int | str]:
    """The sides of a tensor; by name, where they are free."""
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def _reads_shape(node: onnx.NodeProto) -> bool:
    """Whether it gives the whole shape of its input."""
    return node.op_type == "Shape" and all(
        attribute.name == "start" and attribute.i == 0 for attribute in node.attribute
    )


def _replace(field: MutableSequence[Message], messages: Iterable[Message]) -> None:
    messages = list(messages)
    del field[:]
    field.extend(messages)


def open_session(graph: Path | bytes, threads: int = 2) -> onnxruntime.InferenceSession:
    """A session as the Lambda function opens it: CPU only, no arena, no memory patterns.

    graph: its file, or itself in bytes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Floats are made of bytes at load, once.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    given = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def verify_graph(
    parser: QueryParser, path: Path, sizes: tuple[tuple[int, int], ...] = VERIFIED_SIZES
) -> float:
    """Largest absolute difference between PyTorch and ONNX Runtime over `sizes` of noise.

    Raises AssertionError where an output's shape differs or a value is out of tolerance.
    """

    def computed(image: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [output.numpy() for output in parser(torch.from_numpy(image))]

    return _compare(computed, _computed_by(path), sizes)


Computation = Callable[[np.ndarray], list[np.ndarray]]
"""From an image to the outputs, in the order of `OUTPUT_NAMES`."""


def _computed_by(graph: Path | bytes) -> Computation:
    session = open_session(graph)
    return lambda image: session.run(list(OUTPUT_NAMES), {INPUT_NAME: image})


def _compare(
    expected: Computation,
    actual: Computation,
    sizes: tuple[tuple[int, int], ...] = VERIFIED_SIZES,
) -> float:
    """Largest absolute difference over `sizes` of noise; AssertionError out of tolerance."""
    generator = np.random.default_rng(0)
    largest = 0.0
    for width, height in sizes:
        image = generator.integers(0, 256, (1, 3, height, width), dtype=np.uint8)
        outputs = zip(OUTPUT_NAMES, actual(image), expected(image), strict=True)
        for name, theirs, ours in outputs:
            np.testing.assert_allclose(
                theirs,
                ours,
                rtol=RELATIVE_TOLERANCE,
                atol=ABSOLUTE_TOLERANCE,
                err_msg=f"{name} at {width}x{height}",
            )
            largest = max(largest, float(np.abs(theirs - ours).max()))
    return largest
