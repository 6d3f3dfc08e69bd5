"""Makes 8-bit model folders: calibrates, finds what must stay float, writes, compares, reports."""

import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from m2fp_export import manifest as manifests
from m2fp_export import onnx_builder, photos
from m2fp_export.calibrate import Calibration, calibrate
from m2fp_export.compare import RUINOUS, Group, Judge, affordable, one_grey_level, shares, split
from m2fp_export.errors import InputError
from m2fp_export.onnx_graph import GRAPH_NAME
from m2fp_export.quantize import Rounding, Topology, narrow_weights, quantize, widen_weights
from m2fp_export.rounding import round_weights
from m2fp_export.verify import is_fused, open_session

logger = logging.getLogger("m2fp_export")

CALIBRATED = 64
COMPARED = 16
JUDGED = 4
"""Photos at most: for ranges and the report, as many of each folder, evenly spaced by name; for
each group's harm, those of the report that show most classes together, or the first of them where
harm decides nothing."""
REPORT_NAME = "quantization.json"
SCHEME = "static; activations uint8 per tensor, weights int8 of 7 bits per channel"
MADE_FOR = "x86-64 with VNNI or with AVX2 alone: two products fit 16 bits, nothing saturates"


@dataclass(frozen=True)
class Quantized:
    """files: the graph, and its weights if they are not in it. quantization: for the manifest.
    report: for people."""

    files: list[Path]
    quantization: dict[str, Any]
    report: dict[str, Any]

    def write_report(self, folder: Path) -> Path:
        path = folder / REPORT_NAME
        text = json.dumps(self.report, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path


@dataclass(frozen=True)
class Making:
    """What a graph in 8 bits is made with. in_one_file: its weights lie in it, those that are left
    in float as halves; else in a file beside it."""

    calibration: Calibration
    rounding: Rounding
    in_one_file: bool

    def write(self, model: onnx.ModelProto, nodes: Iterable[str], path: Path) -> list[Path]:
        """The files of `model` with the operators named `nodes` in 8 bits."""
        made = quantize(model, self.calibration.ranges, nodes, self.rounding)
        if self.in_one_file:
            narrow_weights(made)
            onnx.save(made, str(path))
            return [path]
        weights: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer
        }
        return [path, onnx_builder.save(made, weights, path)]


def quantize_graph(
    graph: Path, runnable: Path, manifest: dict[str, Any], photos_in: list[list[Path]], out: Path
) -> Quantized:
    """Write `graph` in 8 bits to the folder `out`, in as many files as it has.

    runnable: the same graph, or its portable twin, whose tensors have the same names. Everything is
    measured on it, in 8 bits too, on photos of all folders alike.
    """
    rule, name = manifest["input"]["size"], manifest["input"]["name"]
    dtype = manifest["input"]["dtype"]
    topology = Topology(onnx.load(str(graph), load_external_data=False))
    readers = [partial(_image, path, rule, dtype) for path in _spaced(photos_in, CALIBRATED)]
    logger.info("measuring ranges on %d photos, some seconds each", len(readers))
    calibration = calibrate(runnable, name, topology.observed(), (read() for read in readers))
    logger.info("rounding weights by what they are given on them")
    rounding = round_weights(runnable, name, readers, calibration.values)
    model = onnx.load(str(runnable))
    compared_on = [photos.read(path, rule) for path in _spaced(photos_in, COMPARED)]
    judge = Judge(open_session(runnable), manifest, compared_on)
    making = Making(calibration, rounding, len(manifest["files"]) == 1)
    in_bytes, in_float = split(_groups(model, making, judge))
    nodes = {node for group in in_bytes for node in group.nodes}
    files = making.write(onnx.load(str(graph)), nodes, out / GRAPH_NAME)
    with TemporaryDirectory() as folder:
        twin, *_ = making.write(model, nodes, Path(folder) / GRAPH_NAME)
        logger.info("comparing 8 bits with float on %d photos", len(judge.photos))
        compared = judge.compare(open_session(twin, prepack=True))
    noise = judge.compare(open_session(runnable), one_grey_level)
    quantization = {
        "scheme": SCHEME,
        "made_for": MADE_FOR,
        "calibration_photos": calibration.photos,
    }
    report = {
        **quantization,
        "compared_photos": len(judge.photos),
        "against_float": compared.as_json(manifest["classes"]),
        "float_with_a_grey_level_of_noise": noise.as_json(manifest["classes"]),
        "float": [_described(group) for group in in_float],
        "eight_bits": [_described(group) for group in in_bytes],
        "never": _never(topology),
    }
    return Quantized(files, quantization, report)


def quantize_folder(model: Path, calibration: list[Path], out: Path) -> dict[str, Any]:
    """A model folder `out` like `model`, in 8 bits; returns the report, which lies in it.

    calibration: folders of photos.

    `out` changes only when all is written. Raises InputError.
    """
    manifest_path = model / manifests.MANIFEST_NAME
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        graph = model / manifest["files"][0]["path"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(manifest_path, f"it is no manifest ({error})") from error
    if "quantization" in manifest:
        raise InputError(model, "it is in 8 bits already")
    if not graph.is_file():
        raise InputError(model, f"it has no {graph.name}")
    if is_fused(graph):
        raise InputError(
            model, "its attention runs only in the function; quantise with `export --quantize int8`"
        )
    photos_in = [photos.find(folder) for folder in calibration]
    if out.resolve() == model.resolve():
        raise InputError(out, "a model cannot replace itself; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
        work = Path(beside) / "work"
        made = Path(beside) / "made"
        made.mkdir()
        shutil.copytree(model, work)  # instrumented copies lie beside the graph
        onnx.save(widen_weights(onnx.load(str(graph))), str(work / graph.name))
        quantized = quantize_graph(work / graph.name, work / graph.name, manifest, photos_in, made)
        description = made / manifests.MANIFEST_NAME
        changed = manifests.quantized(manifest, quantized.files, quantized.quantization)
        manifests.write(changed, description)
        manifests.replace(out, [*quantized.files, quantized.write_report(made), description])
    return quantized.report


def _spaced(photos_in: list[list[Path]], count: int) -> list[Path]:
    """As many of each list, `count` in all at most."""
    each = max(1, count // len(photos_in))
    return [
        paths[index * len(paths) // each] if len(paths) > each else paths[index]
        for paths in photos_in
        for index in range(min(each, len(paths)))
    ]


def _image(path: Path, rule: dict[str, Any], dtype: str) -> NDArray[Any]:
    return photos.read(path, rule).astype(dtype)


def _groups(model: onnx.ModelProto, making: Making, judge: Judge) -> list[Group]:
    """All operators that could compute in 8 bits, and the harm of each group alone."""
    topology = Topology(model)
    members: dict[str, list[onnx.NodeProto]] = {}
    for node in topology.candidates():
        members.setdefault(_place(node), []).append(node)
    values = making.calibration.values
    products = shares({n.name: _products(n, topology, values) for n in topology.candidates()})
    weights = shares({n.name: _size(n, topology) for n in topology.candidates()})
    few = judge.most_telling(JUDGED)
    one = few.most_telling(1)
    groups = []
    logger.info("judging %d groups of operators", len(members))
    with TemporaryDirectory() as folder:
        for place, nodes in members.items():
            names = tuple(node.name for node in nodes)
            path, *_ = making.write(model, names, Path(folder) / GRAPH_NAME)
            cost = [sum(share[name] for name in names) for share in (products, weights)]
            # What cannot stay float anyhow is only asked for answers that are numbers.
            judging = few if affordable(*cost) else one
            harm = judging.compare(open_session(path, prepack=True)).harm
            logger.info("%s alone in 8 bits changes %.2f%% of labels or persons", place, 100 * harm)
            groups.append(Group(place, names, *cost, harm))
    return groups


def _place(node: onnx.NodeProto) -> str:
    """The layer of an operator, by its weight's name or else its own, without counters."""
    name = node.name
    if node.input[1].endswith(".weight"):
        name = node.input[1].removesuffix(".weight")
    parts = [part for part in re.split(r"[./]", name) if part and not part.isdigit()]
    return ".".join(part if part.startswith("res") else re.sub(r"\d+$", "", part) for part in parts)


def _size(node: onnx.NodeProto, topology: Topology) -> float:
    return float(np.prod(topology.tensors[node.input[1]].dims))


def _products(node: onnx.NodeProto, topology: Topology, values: Mapping[str, float]) -> float:
    """Multiplications of a photo: the weights of an output value, times the output's values."""
    dims = topology.tensors[node.input[1]].dims
    own = np.prod(dims[1:]) if node.op_type == "Conv" else _inner(node, dims)
    return float(own * values[topology.settled(node)])


def _inner(node: onnx.NodeProto, dims: Iterable[int]) -> int:
    first, second = dims
    return second if any(a.name == "transB" and a.i for a in node.attribute) else first


def _described(group: Group) -> dict[str, Any]:
    return {
        "operators": group.name,
        "count": len(group.nodes),
        "products": round(group.products, 4),
        "weights": round(group.weights, 4),
        "changed_alone": round(group.harm, 5),
    }


def _never(topology: Topology) -> dict[str, int]:
    """Operators with weights or products that have no 8-bit form here, by kind."""
    chosen = {id(node) for node in topology.candidates()}
    kinds = ("Conv", "Gemm", "MatMul", "Softmax", "LayerNormalization", "InstanceNormalization")
    kinds = (*kinds, "GroupNorm", "DeformAttn", "GridSample", "Resize")
    left = [node.op_type for node in topology.nodes if id(node) not in chosen]
    return {kind: left.count(kind) for kind in kinds if kind in left}


def lines(report: dict[str, Any]) -> list[str]:
    """What is printed of a report."""
    against, noise = report["against_float"], report["float_with_a_grey_level_of_noise"]
    told = [
        f"8 bits against float, {report['compared_photos']} photos: "
        f"{against['label_agreement']:.2%} of labels agree (worst photo "
        f"{against['worst_label_agreement']:.2%}), mean IoU {against['mean_iou']:.3f}, "
        f"logit error {', '.join(f'{error:.3f}' for error in against['logit_error'])}",
        f"the float model against itself with a grey level of noise: "
        f"{noise['label_agreement']:.2%} agree",
    ]
    told += [f"  {name}: IoU {iou:.3f}" for name, iou in against["iou"].items()]
    for group in report["float"]:
        harm = f"would change {group['changed_alone']:.2%} of labels or persons"
        if group["changed_alone"] >= RUINOUS:
            harm = "makes answers that are not numbers"
        told.append(f"float: {group['operators']} ({group['count']}): in 8 bits it alone {harm}")
    return told
