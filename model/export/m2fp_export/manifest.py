"""The manifest `model.json`: the only place where the Rust code learns a model's facts."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2fp_export.architecture import DIVISOR, STRIDE
from m2fp_export.configuration import Description
from m2fp_export.errors import InputError
from m2fp_export.onnx_graph import INPUT_NAME, OUTPUT_NAMES
from m2fp_export.variants import BACKGROUND_ID, flip_pairs, voc_color

SCHEMA = 1
MANIFEST_NAME = "model.json"
LICENCE = "CC-BY-NC-4.0"
"""Of the published weights: no commercial use."""
SIZE_RULE = {"min_side": 640, "max_side": 1333, "divisor": DIVISOR, "smallest_side": 256}
"""Of ModelScope's pipeline. Below a short side of 256 a person of usual height is a few mask pixels
wide, and hands and feet are gone."""
CANVAS_FILL = 128
"""ModelScope's `pad_value` around a photo of one person."""
TOP_K = 100
PART_SCORE = 0.1
PERSON_SCORE = 0.1
NMS_IOU = 0.7
"""ModelScope's values for `image-human-parsing`, and the IoU from which two persons are one."""

SESSION_MB = 52
"""Of a loaded session and the runtime's library, beside the weights. Float weights are mapped;
8-bit ones are packed once, and what was mapped is not needed again."""
BASE_MB = 2
BYTES_PER_PIXEL = 195
PORTABLE_BYTES_PER_PIXEL = 340
BASE_MS = 100
NS_PER_PIXEL = 4000
LOAD_MS = 500
POST_NS_PER_PIXEL = 100
THREADS = 2
"""Measured at 1138×640 with ONNX Runtime 1.31, and rounded up: what a model is taken to need until
`m2fp calibrate` measures it."""


@dataclass(frozen=True)
class About:
    """What the exporter is told about a model."""

    name: str
    version: str
    licence: str
    checkpoint: str
    portable: bool


def default_name(described: Description) -> str:
    return f"m2fp-r{described.depth}-{described.name}"


def _size_rule(described: Description) -> dict[str, Any]:
    if described.canvas is None:
        return SIZE_RULE
    width, height = described.canvas
    canvas = {"width": width, "height": height, "fill": CANVAS_FILL}
    return {"letterbox": canvas, "divisor": DIVISOR}


def build(files: list[Path], described: Description, about: About) -> dict[str, Any]:
    """The manifest of a model folder with these files, the graph first."""
    weights_mb = sum(file.stat().st_size for file in files) / 2**20
    people = "several people" if described.canvas is None else "one person"
    attention = "standard operators" if about.portable else "m2fp::DeformAttn"
    return {
        "schema": SCHEMA,
        "name": about.name,
        "version": about.version,
        "description": f"M2FP (arXiv 2301.00394), ResNet-{described.depth}: "
        f"{len(described.classes)} classes of {described.name}, {people}.",
        "licence": about.licence,
        "files": [file_entry(path) for path in files],
        "input": {"name": INPUT_NAME, "dtype": "uint8", "size": _size_rule(described)},
        "outputs": {
            "class_logits": OUTPUT_NAMES[0],
            "mask_logits": OUTPUT_NAMES[1],
            "queries": described.sizes.queries,
            "stride": STRIDE,
        },
        "classes": [
            {"id": class_id, "name": name, "color": list(voc_color(class_id))}
            for class_id, name in enumerate(described.classes)
        ],
        "background_id": BACKGROUND_ID,
        "person_id": described.person_id,
        "label_map": described.label_map,
        **flipping(described.classes),
        "thresholds": {
            "top_k": TOP_K,
            "part_score": PART_SCORE,
            "person_score": PERSON_SCORE,
            "paste_score": described.paste_score,
            "nms_iou": NMS_IOU,
        },
        "memory": {
            "load_mb": math.ceil(weights_mb) + SESSION_MB,
            "base_mb": BASE_MB,
            "bytes_per_pixel": PORTABLE_BYTES_PER_PIXEL if about.portable else BYTES_PER_PIXEL,
        },
        "time": {
            "load_ms": LOAD_MS,
            "base_ms": BASE_MS,
            "ns_per_pixel": NS_PER_PIXEL,
            "post_ns_per_pixel": POST_NS_PER_PIXEL,
            "threads": THREADS,
        },
        "provenance": {
            "weights": about.checkpoint,
            "code": "model/export",
            "graph": f"float32, deformable attention as {attention}",
        },
        "accuracy": {"note": "not measured by the exporter"},
    }


def flipping(classes: Sequence[str]) -> dict[str, Any]:
    """`flip_pairs` of a manifest; absent where it is not known what a class turns into."""
    pairs = flip_pairs(classes)
    return {} if pairs is None else {"flip_pairs": pairs}


def quantized(
    manifest: dict[str, Any], files: list[Path], quantization: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of the same model in 8 bits, with these files, measured on no processor yet."""
    changed = {**manifest, "files": [file_entry(path) for path in files]}
    for of_the_other in ("other_times", "optimized"):
        changed.pop(of_the_other, None)
    changed["time"] = {key: of for key, of in manifest["time"].items() if key != "processor"}
    changed["quantization"] = quantization
    graph = manifest["provenance"].get("graph")
    if graph:
        changed["provenance"] = {
            **manifest["provenance"],
            "graph": graph.replace("float32", "8 bits (see quantization.json)"),
        }
    weights_mb = sum(file.stat().st_size for file in files) / 2**20
    changed["memory"] = {**manifest["memory"], "load_mb": math.ceil(weights_mb) + SESSION_MB}
    return changed


def replace(folder: Path, files: list[Path]) -> None:
    """Move files into `folder`, the manifest last: a folder is whole or is none."""
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for file in files:
        file.replace(folder / file.name)


def file_entry(path: Path) -> dict[str, Any]:
    """A file as the manifest names it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path.name, "sha256": digest, "bytes": path.stat().st_size}


def check_files(folder: Path) -> Path:
    """The graph of a model folder whose files are those that its manifest names, or InputError."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise InputError(folder, f"it has no {MANIFEST_NAME}")
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["files"]
        expected = [(folder / entry["path"], entry["sha256"]) for entry in named]
        graph = expected[0][0]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(path, f"it is no manifest ({type(error).__name__}: {error})") from error
    for file, digest in expected:
        if not file.is_file():
            raise InputError(folder, f"it has no {file.name}")
        if file_entry(file)["sha256"] != digest:
            raise InputError(file, f"its sha256 is not the one that {MANIFEST_NAME} names")
    return graph


def write(manifest: dict[str, Any], path: Path) -> None:
    """Write the manifest, one class to a line, and the pairs of classes on one."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    for entry in manifest["classes"]:
        indented = json.dumps(entry, indent=2, ensure_ascii=False).replace("\n", "\n    ")
        text = text.replace(indented, json.dumps(entry, ensure_ascii=False))
    pairs = manifest.get("flip_pairs", [])
    text = text.replace(json.dumps(pairs, indent=2).replace("\n", "\n  "), json.dumps(pairs))
    path.write_text(text + "\n", encoding="utf-8")
