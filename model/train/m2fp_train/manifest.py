"""The manifest `model.json`: the only place where the Rust code learns a model's facts."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m2fp_train.classes import (
    BACKGROUND_ID,
    CLASS_NAMES,
    MIRRORED_PAIRS,
    PERSON_ID,
    voc_color,
)
from m2fp_train.geometry import SizeRule
from m2fp_train.onnx_graph import INPUT_NAME, OUTPUT_NAMES
from m2fp_train.queries import NUM_QUERIES

SCHEMA = 1
MANIFEST_NAME = "model.json"
THRESHOLDS = {
    "top_k": 100,
    "part_score": 0.1,
    "person_score": 0.5,
    "paste_score": 0.5,
    "nms_iou": 0.7,
}
"""ModelScope's values for `image-human-parsing`, and the IoU from which two persons are one. A
person's score is another thing here, a chance (`confidence`), on composed scenes; in ordinary
photos people are fainter."""
MEMORY = {"load_mb": 64, "base_mb": 8, "bytes_per_pixel": 200}
TIME = {
    "load_ms": 60,
    "base_ms": 10,
    "ns_per_pixel": 500,
    "post_ns_per_pixel": 20,
    "threads": 2,
}
"""More than a small network takes, until `m2fp calibrate` writes what was measured."""


@dataclass(frozen=True)
class About:
    """What a person decides about a model: its name and where it comes from."""

    name: str
    version: str
    description: str
    licence: str
    provenance: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "About":
        return cls(**json.loads(path.read_text()))


def build(graph: Path, about: About, size: SizeRule, stride: int) -> dict[str, Any]:
    """The manifest of the model whose only file is `graph`, and which is shown photos by `size`.

    stride: photo pixels per mask pixel, in each direction.
    """
    data = graph.read_bytes()
    return {
        "schema": SCHEMA,
        "name": about.name,
        "version": about.version,
        "description": about.description,
        "licence": about.licence,
        "files": [
            {
                "path": graph.name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "bytes": len(data),
            }
        ],
        "input": {"name": INPUT_NAME, "dtype": "uint8", "size": asdict(size)},
        "outputs": {
            "class_logits": OUTPUT_NAMES[0],
            "mask_logits": OUTPUT_NAMES[1],
            "queries": NUM_QUERIES,
            "stride": stride,
        },
        "classes": [
            {"id": class_id, "name": name, "color": list(voc_color(class_id))}
            for class_id, name in enumerate(CLASS_NAMES)
        ],
        "background_id": BACKGROUND_ID,
        "person_id": PERSON_ID,
        "label_map": "semantic",
        "flip_pairs": [list(pair) for pair in MIRRORED_PAIRS],
        "thresholds": THRESHOLDS,
        "memory": MEMORY,
        "time": TIME,
        "provenance": about.provenance,
        "accuracy": None,
    }


def write_accuracy(accuracy: dict[str, Any], folder: Path) -> None:
    """Put measured figures into the manifest of a model folder."""
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    write(manifest | {"accuracy": accuracy}, folder)


def write(manifest: dict[str, Any], folder: Path) -> None:
    """Write the manifest into `folder`, one class per line, and the pairs of classes on one."""
    text = json.dumps(manifest, indent=2)
    for entry in manifest["classes"]:
        text = text.replace(_indented(entry, 2), json.dumps(entry))
    pairs = manifest["flip_pairs"]
    text = text.replace(_indented(pairs, 1), json.dumps(pairs))
    (folder / MANIFEST_NAME).write_text(text + "\n")


def _indented(value: object, depth: int) -> str:
    return json.dumps(value, indent=2).replace("\n", "\n" + "  " * depth)
