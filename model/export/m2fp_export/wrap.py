"""Makes a model folder out of a dense parser, in the query form that the function serves.

One constant query for each class. With l the network's logits and b the sum of its two best at a
cell, a class's mask logit is 2·l − b: the same number is taken from every class, so that the
greatest stays the greatest wherever logits are interpolated, as the network's own pipeline does it;
and the best class's is its lead over the next, whose sigmoid is its probability among the two.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from m2fp_export import manifest
from m2fp_export.errors import InputError, VerificationError
from m2fp_export.onnx_builder import GraphBuilder, save
from m2fp_export.onnx_graph import GRAPH_NAME, INPUT_NAME, OUTPUT_NAMES
from m2fp_export.variants import BACKGROUND_ID
from m2fp_export.wrap_source import (
    LARGEST_SIDE,
    Preprocessing,
    Source,
    check_opset,
    open_session,
    run,
)

DIVISOR = 32
"""Photos that keep their shape are padded to multiples of it, where the network needs no other."""
OWN_CLASS_LOGIT = 8.0
"""Of a query's own class; every other class, and "no object", has its negative."""
ELONGATION = 4
"""The long side is at most so many short sides: longer photos are run smaller."""
SMALLEST_SHARE = 2
"""A short side below this part of the network's own is not useful."""
PREFIX = "network/"
ONE = 1 << 22
"""Pillow's fixed point: a share of 1."""
LABELS_DIFFER = 1e-3
"""Greatest share of labels that differ between the graph and the network on Pillow's pixels."""
BYTES_PER_PIXEL, NS_PER_PIXEL = 4000, 8000
"""Of a network as large as SegFormer-B2, rounded up, until `m2fp calibrate` measures them."""


@dataclass(frozen=True)
class About:
    """What the exporter is told about a model."""

    name: str
    version: str
    licence: str


def wrap(source: Source, out: Path, about: About) -> float:
    """The share of labels that differ from the network's own where it was verified.

    `out` changes only when all is written and verified. Raises InputError or VerificationError.
    """
    if out.exists() and not out.is_dir():
        raise InputError(out, "it is a file; a model is a folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as partial:
        graph = Path(partial) / GRAPH_NAME
        stride = 1 if _enlarges(source) else _stride(source)
        files = [graph, write_graph(source, graph)]
        differ = verify(source, graph, stride)
        description = Path(partial) / manifest.MANIFEST_NAME
        manifest.write(build_manifest(source, files, about, stride), description)
        manifest.replace(out, [*files, description])
    return differ


def _enlarges(source: Source) -> bool:
    """Whether the graph itself enlarges the answer: the function does it for a photo that keeps
    its shape, but not with corners aligned."""
    return source.preprocessing.stretch or source.align_corners


def _stride(source: Source) -> int:
    """Pixels a cell of the network's answer, which must be whole and the same both ways."""
    height, width = _padded(source.preprocessing.size)
    answer = run(source, np.zeros((1, 3, height, width), np.float32))
    stride = height // answer.shape[2]
    if (stride * answer.shape[2], stride * answer.shape[3]) != (height, width) or DIVISOR % stride:
        fault = f"a photo of {width}×{height} gives {answer.shape[3]}×{answer.shape[2]} cells"
        raise InputError(source.graph, f"{fault}: it cannot keep a photo's shape")
    return stride


def _padded(size: tuple[int, int]) -> tuple[int, int]:
    return (-(-size[0] // DIVISOR) * DIVISOR, -(-size[1] // DIVISOR) * DIVISOR)


def write_graph(source: Source, path: Path) -> Path:
    """Write the graph to `path`; returns the file of its weights."""
    model = onnx.compose.add_prefix(check_opset(source.graph), PREFIX)
    before, after = GraphBuilder(), GraphBuilder()
    image = _prepare(before, source.preprocessing, PREFIX + source.input_name)
    _answer(after, source, PREFIX + source.output_name)
    weights = {x.name: numpy_helper.to_array(x) for x in model.graph.initializer}
    nodes = [*before.nodes, *model.graph.node, *after.nodes]
    _refuse_branches(source.graph, nodes)
    made = helper.make_graph(nodes, "m2fp", [image], _outputs(source))
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    wrapped = helper.make_model(
        made,
        producer_name="m2fp_export",
        ir_version=max(8, model.ir_version),
        opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()],
        functions=model.functions,
    )
    return save(wrapped, {**weights, **before.weights, **after.weights}, path)


def _refuse_branches(path: Path, nodes: list[onnx.NodeProto]) -> None:
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    for node in nodes:
        if any(attribute.type in kinds for attribute in node.attribute):
            fault = f"its node {node.op_type} holds a graph of its own; simplify it first"
            raise InputError(path, fault)


def _outputs(source: Source) -> list[onnx.ValueInfoProto]:
    count = len(source.classes)
    masks = [1, count, "mask_height", "mask_width"]
    return [
        helper.make_tensor_value_info(OUTPUT_NAMES[0], TensorProto.FLOAT, [1, count, count + 1]),
        helper.make_tensor_value_info(OUTPUT_NAMES[1], TensorProto.FLOAT, masks),
    ]


def _prepare(graph: GraphBuilder, how: Preprocessing, output: str) -> onnx.ValueInfoProto:
    """uint8 [1, 3, H, W] to what the network takes, under the name `output`."""
    with graph.scope("prepare"):
        x = graph.node("Cast", INPUT_NAME, to=TensorProto.FLOAT)
        if how.stretch:
            x = _stretched(graph, x, how.size)
        if how.bgr:
            x = graph.node("Gather", x, graph.ints(2, 1, 0), axis=1)
        order = slice(None, None, -1) if how.bgr else slice(None)
        mean = graph.floats(*(255 * value for value in how.mean[order]), shape=(3, 1, 1))
        std = graph.floats(*(255 * value for value in how.std[order]), shape=(3, 1, 1))
        centred = graph.node("Sub", x, mean)
        if how.stretch:
            graph.node("Div", centred, std, output=output)
        else:
            normal = graph.node("Div", centred, std)
            size = graph.node("Shape", INPUT_NAME, start=2)
            # Mod takes the divisor's sign, so this is what is missing to the next multiple.
            lacking = graph.node("Mod", graph.node("Neg", size), graph.ints(DIVISOR))
            pads = graph.node("Concat", graph.ints(0, 0, 0, 0, 0, 0), lacking, axis=0)
            graph.node("Pad", normal, pads, graph.scalar(0.0), output=output)
    return helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [1, 3, "height", "width"])


def _stretched(graph: GraphBuilder, x: str, size: tuple[int, int]) -> str:
    """As Pillow resizes, bilinearly: a triangle as wide as what is shrunk, columns before rows, in
    fixed point. Doubles hold its whole numbers, so that the pixels are Pillow's own."""
    x = graph.node("Cast", x, to=TensorProto.DOUBLE)
    columns = _filter(graph, x, 3, size[1])
    x = _levels(graph, graph.node("MatMul", x, columns))
    rows = graph.node("Transpose", _filter(graph, x, 2, size[0]), perm=[1, 0])
    x = _levels(graph, graph.node("MatMul", rows, x))
    return graph.node("Cast", x, to=TensorProto.FLOAT)


def _filter(graph: GraphBuilder, x: str, axis: int, count: int) -> str:
    """[side of x along axis, count]: shares of each old pixel in each new one, in units of ONE."""
    half, one = _double(graph, 0.5), _double(graph, 1.0)
    side = graph.node("Shape", x, start=axis, end=axis + 1)
    old = graph.node("Range", graph.scalar_int(0), graph.node("Squeeze", side), graph.scalar_int(1))
    old = graph.node("Add", graph.node("Cast", old, to=TensorProto.DOUBLE), half)
    old = graph.node("Unsqueeze", old, graph.ints(1))
    sides = graph.node("Cast", side, to=TensorProto.DOUBLE)
    scale = graph.node("Div", sides, _double(graph, float(count)))
    name = f"prepare/centres{axis}"
    # `weight` would make floats of them.
    graph.weights[name] = np.arange(count, dtype=np.float64)[None] + 0.5
    apart = graph.node("Abs", graph.node("Sub", old, graph.node("Mul", name, scale)))
    width = graph.node("Max", scale, one)
    near = graph.node("Sub", one, graph.node("Div", apart, width))
    near = graph.node("Max", near, _double(graph, 0.0))
    share = graph.node("Div", near, graph.node("ReduceSum", near, graph.ints(0), keepdims=1))
    return graph.node("Floor", graph.node("Add", graph.node("Mul", share, _one(graph)), half))


def _levels(graph: GraphBuilder, x: str) -> str:
    """Grey levels of sums in units of ONE, rounded half up; shares add up to 1, or nearly."""
    level = graph.node("Div", x, _one(graph))
    level = graph.node("Floor", graph.node("Add", level, _double(graph, 0.5)))
    return graph.node("Min", level, _double(graph, 255.0))


def _double(graph: GraphBuilder, value: float) -> str:
    name = f"constant/double_{value}"
    graph.weights.setdefault(name, np.array(value, np.float64))
    return name


def _one(graph: GraphBuilder) -> str:
    return _double(graph, float(ONE))


def _answer(graph: GraphBuilder, source: Source, logits: str) -> None:
    with graph.scope("answer"):
        count = len(source.classes)
        own = (2 * np.eye(count, count + 1) - 1)[None] * OWN_CLASS_LOGIT
        graph.node("Identity", graph.weight("answer/classes", own), output=OUTPUT_NAMES[0])
        both = graph.node("ReduceSum", _two_best(graph, logits), graph.ints(1), keepdims=1)
        doubled = graph.node("Mul", logits, graph.scalar(2.0))
        if not _enlarges(source):
            graph.node("Sub", doubled, both, output=OUTPUT_NAMES[1])
            return
        masks = graph.node("Sub", doubled, both)
        front = graph.node("Shape", masks, end=2)
        seen = INPUT_NAME if source.preprocessing.stretch else PREFIX + source.input_name
        size = graph.node("Concat", front, graph.node("Shape", seen, start=2), axis=0)
        graph.node(
            "Resize",
            *(masks, "", "", size),
            output=OUTPUT_NAMES[1],
            mode="linear",
            coordinate_transformation_mode="align_corners"
            if source.align_corners
            else "half_pixel",
        )


def _two_best(graph: GraphBuilder, logits: str) -> str:
    """[1, 2, h, w]: the greatest two logits of each cell."""
    outputs = ("answer/best", "answer/best_ids")
    graph.nodes.append(
        helper.make_node("TopK", [logits, graph.ints(2)], outputs, name="answer/TopK", axis=1)
    )
    return outputs[0]


def verify(source: Source, graph: Path, stride: int) -> float:
    """Greatest share of labels that differ from the network's own on Pillow's pixels.

    Raises VerificationError above LABELS_DIFFER.
    """
    session = open_session(graph)
    generator = np.random.default_rng(0)
    height, width = source.preprocessing.size
    worst = 0.0
    for size in ((height, width), (height, width + width // 3), (height + height // 2, width)):
        photo = _scene(generator, size)
        classes, masks = session.run(list(OUTPUT_NAMES), {INPUT_NAME: _planes(photo)})
        stretch = source.preprocessing.stretch
        cells = size if stretch else tuple(side // stride for side in _padded(size))
        expected_shape = (1, len(source.classes), *cells)
        if masks.shape != expected_shape or not np.isfinite(classes).all():
            raise VerificationError(f"masks are {masks.shape} and not {expected_shape}")
        expected = own_labels(source, photo)
        found = _resized(masks, tuple(stride * side for side in cells))
        found = found[:, : size[0], : size[1]].argmax(0)
        worst = max(worst, float((found != expected).mean()))
    if worst > LABELS_DIFFER:
        raise VerificationError(f"{worst:.2%} of the labels are not the network's own")
    return worst


def own_labels(source: Source, photo: np.ndarray) -> np.ndarray:
    """Class ids [H, W] of uint8 [H, W, 3], as the network's own pipeline has them."""
    how = source.preprocessing
    height, width = photo.shape[:2]
    if how.stretch:
        resized = Image.fromarray(photo).resize(how.size[::-1], Image.Resampling.BILINEAR)
        photo = np.asarray(resized)
    image = (_planes(photo).astype(np.float64) / 255 - _column(how.mean)) / _column(how.std)
    if how.bgr:
        image = image[:, ::-1]
    if how.stretch:
        logits = run(source, np.ascontiguousarray(image, np.float32))
        return _resized(logits, (height, width), source.align_corners).argmax(0)
    padded = _padded((height, width))
    lacking = ((0, 0), (0, 0), (0, padded[0] - height), (0, padded[1] - width))
    logits = run(source, np.pad(image, lacking).astype(np.float32))
    return _resized(logits, padded, source.align_corners)[:, :height, :width].argmax(0)


def _resized(logits: np.ndarray, size: tuple[int, ...], align_corners: bool = False) -> np.ndarray:
    cells = torch.from_numpy(logits)
    return F.interpolate(cells, size, mode="bilinear", align_corners=align_corners)[0].numpy()


def _column(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float64).reshape(3, 1, 1)


def _planes(photo: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photo.transpose(2, 0, 1)[None])


def _scene(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Blots of colour under a little noise: pure noise says nothing of edges."""
    coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth).astype(int) + generator.integers(-8, 9, (*size, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def build_manifest(source: Source, files: list[Path], about: About, stride: int) -> dict[str, Any]:
    how = source.preprocessing
    weights_mb = sum(file.stat().st_size for file in files) / 2**20
    # Neither side is shrunk below what the network sees of it.
    side = max(how.size) if how.stretch else min(how.size)
    count = len(source.classes)
    shape = f"stretched to {how.size[1]}×{how.size[0]}" if how.stretch else "in its own shape"
    with source.weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "schema": manifest.SCHEMA,
        "name": about.name,
        "version": about.version,
        "description": f"A dense parser of {count} classes, which sees a photo {shape}; "
        "it does not tell people apart.",
        "licence": about.licence,
        "files": [manifest.file_entry(path) for path in files],
        "input": {
            "name": INPUT_NAME,
            "dtype": "uint8",
            "size": {
                "min_side": side,
                "max_side": min(ELONGATION * side, LARGEST_SIDE),
                "divisor": 1 if how.stretch else DIVISOR,
                "smallest_side": side // SMALLEST_SHARE,
            },
        },
        "outputs": {
            "class_logits": OUTPUT_NAMES[0],
            "mask_logits": OUTPUT_NAMES[1],
            "queries": count,
            "stride": stride,
        },
        "classes": [
            {"id": index, "name": entry.name, "color": list(entry.color)}
            for index, entry in enumerate(source.classes)
        ],
        "background_id": BACKGROUND_ID,
        "person_id": None,
        "label_map": "semantic",
        **manifest.flipping([entry.name for entry in source.classes]),
        "thresholds": {
            "top_k": count,
            "part_score": manifest.PART_SCORE,
            "person_score": manifest.PERSON_SCORE,
            "paste_score": 0.5,
            "nms_iou": manifest.NMS_IOU,
        },
        "memory": {
            "load_mb": math.ceil(weights_mb) + manifest.SESSION_MB,
            "base_mb": manifest.BASE_MB,
            "bytes_per_pixel": BYTES_PER_PIXEL,
        },
        "time": {
            "load_ms": manifest.LOAD_MS,
            "base_ms": manifest.BASE_MS,
            "ns_per_pixel": NS_PER_PIXEL,
            "post_ns_per_pixel": manifest.POST_NS_PER_PIXEL,
            "threads": manifest.THREADS,
        },
        "provenance": {
            "weights": f"{source.weights.name}, sha256 {digest}",
            "code": "model/export",
            "graph": "float32, wrapped in constant class queries",
        },
        "accuracy": {"note": "not measured by the exporter"},
    }
