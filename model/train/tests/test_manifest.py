"""The manifest as it is built, and the one that the package ships."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from m2fp_train import manifest
from m2fp_train.__main__ import ABOUT
from m2fp_train.classes import voc_color
from m2fp_train.geometry import NANO_SIZE
from m2fp_train.onnx_graph import open_session

PACKAGED, EXACT = (Path(__file__).parents[2] / name for name in ("nano", "nano-float"))
KEYS = [
    *("schema", "name", "version", "description", "licence", "files", "input", "outputs"),
    *("classes", "background_id", "person_id", "label_map", "flip_pairs", "thresholds", "memory"),
    *("time", "provenance", "accuracy"),
]


def test_what_is_built_is_what_is_written(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph")
    built = manifest.build(graph, manifest.About.read(ABOUT), NANO_SIZE, stride=4)
    manifest.write(built, tmp_path)
    text = (tmp_path / "model.json").read_text()
    assert json.loads(text) == built
    assert list(built) == KEYS
    assert built["files"] == [
        {"path": "model.onnx", "sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5}
    ]
    assert '    {"id": 20, "name": "Human", "color": [0, 64, 128]}\n' in text
    assert '  "flip_pairs": [[14, 15], [16, 17], [18, 19]],\n' in text


@pytest.fixture(scope="module")
def packaged() -> dict:
    return json.loads((PACKAGED / "model.json").read_text())


def test_packaged_keys(packaged: dict) -> None:
    # What `m2fp calibrate` measured on other kinds of processors, in the form of `time`, and what
    # `m2fp_export quantize` did.
    assert [key for key in packaged if key not in ("other_times", "quantization")] == KEYS
    for other_time in packaged["other_times"]:
        assert list(other_time) == list(packaged["time"])
    assert {key: sorted(packaged[key]) for key in ("memory", "time", "accuracy", "provenance")} == {
        "memory": ["base_mb", "bytes_per_pixel", "load_mb", "load_peak_mb"],
        "time": ["base_ms", "load_ms", "ns_per_pixel", "post_ns_per_pixel", "processor", "threads"],
        "accuracy": [
            *("false_area", "measured_on", "miou"),
            *("ordinary_ap", "ordinary_ap50", "ordinary_people_iou"),
            *("part_ap50", "patchwork", "person_ap", "person_ap50", "person_iou"),
        ],
        "provenance": ["code", "notes", "trained_on"],
    }


def test_the_packaged_model_is_that_beside_it_in_8_bits(packaged: dict) -> None:
    exact = json.loads((EXACT / "model.json").read_text())
    assert "quantization" in packaged and "quantization" not in exact
    measured = ("files", "memory", "time", "other_times", "accuracy", "quantization")
    same = [key for key in packaged if key not in measured]
    assert {key: packaged[key] for key in same} == {key: exact[key] for key in same}


@pytest.mark.parametrize("folder", [PACKAGED, EXACT])
def test_packaged_files_are_those_listed(folder: Path) -> None:
    for entry in json.loads((folder / "model.json").read_text())["files"]:
        data = (folder / entry["path"]).read_bytes()
        assert len(data) == entry["bytes"]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]


def test_the_packaged_graph_makes_its_largest_maps_first(tmp_path: Path) -> None:
    """Multipose's, at stride 2: what the others had made by then would take 10 MB more."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "run")
    session = onnxruntime.InferenceSession(
        str(PACKAGED / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"image": np.zeros((1, 3, 64, 96), np.uint8)})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [
        event["name"]
        for event in sorted(events, key=lambda event: event["ts"])
        if event["cat"] == "Node"
    ]
    networks = ("/network/blocks.1/", "/network/backbone/", "/network/bodypix/")
    first = [
        next(place for place, name in enumerate(ran) if name.startswith(network))
        for network in networks
    ]
    assert first[0] == min(first)


def test_packaged_classes(packaged: dict) -> None:
    classes = packaged["classes"]
    assert [entry["id"] for entry in classes] == list(range(21))
    assert [tuple(entry["color"]) for entry in classes] == [voc_color(i) for i in range(21)]
    assert classes[packaged["background_id"]]["name"] == "Background"
    assert classes[packaged["person_id"]]["name"] == "Human"
    for left, right in packaged["flip_pairs"]:
        name = classes[left]["name"]
        assert name.startswith("Left-")
        assert classes[right]["name"] == name.replace("Left", "Right")


def test_packaged_graph_has_the_shapes_that_the_manifest_says(packaged: dict) -> None:
    session = open_session(PACKAGED / packaged["files"][0]["path"])
    assert [entry.name for entry in session.get_inputs()] == [packaged["input"]["name"]]
    outputs = packaged["outputs"]
    logits, masks = session.get_outputs()
    assert (logits.name, masks.name) == (outputs["class_logits"], outputs["mask_logits"])
    queries, classes = logits.shape[1:]
    assert (queries, classes) == (outputs["queries"], len(packaged["classes"]) + 1)


def test_the_model_card_gives_the_accuracy_of_the_manifest(packaged: dict) -> None:
    card = (PACKAGED / "MODEL_CARD.md").read_text()
    for name, key in (("mIoU", "miou"), ("person IoU", "person_iou"), ("AP50", "person_ap50")):
        assert f"{name} {packaged['accuracy'][key]:.2f}" in card
