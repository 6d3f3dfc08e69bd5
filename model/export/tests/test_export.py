"""Model folders: what is in them, and that no half of one is left behind."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import shrunken
from m2fp_export import export as exporting
from m2fp_export import verify as verifying
from m2fp_export.__main__ import main
from m2fp_export.configuration import Description
from m2fp_export.errors import InputError, VerificationError
from m2fp_export.manifest import About, build, flipping, quantized
from m2fp_export.model import M2FP
from m2fp_export.random_checkpoint import random_network, write_folder
from m2fp_export.variants import LIP, PASCAL_PERSON_PART, VARIANTS, flip_pairs, voc_color
from m2fp_export.verify import verify

KEYS = [
    *("schema", "name", "version", "description", "licence", "files", "input", "outputs"),
    *("classes", "background_id", "person_id", "label_map", "flip_pairs", "thresholds", "memory"),
    *("time", "provenance", "accuracy"),
]
NANO = Path(__file__).parents[2] / "nano-float" / "model.json"


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "small"
    errors, _ = exporting.export(folder, out, sizes=((40, 30),))
    assert errors is not None and 0 < errors.ours <= errors.allowed()
    return out


def test_a_folder_has_graph_weights_and_manifest_only(model: Path) -> None:
    names = sorted(path.name for path in model.iterdir())
    assert names == ["model.json", "model.onnx", "model.onnx.data"]
    assert list(model.parent.iterdir()) == [model]


def test_the_manifest_has_the_keys_that_the_packaged_one_has(model: Path) -> None:
    def keys(value: object) -> object:
        return {k: keys(v) for k, v in value.items()} if isinstance(value, dict) else None

    ours = json.loads((model / "model.json").read_text())
    nano = json.loads(NANO.read_text())
    # Only a measurement gives these.
    del nano["memory"]["load_peak_mb"], nano["time"]["processor"], nano["other_times"]
    # ModelScope's sizes are kept as they are.
    del nano["input"]["size"]["max_shrink"]
    assert list(ours) == list(nano) == KEYS
    for key in set(KEYS) - {"provenance", "accuracy"}:
        assert keys(ours[key]) == keys(nano[key]), key


def test_in_8_bits_a_model_has_been_measured_on_no_processor() -> None:
    nano = json.loads(NANO.read_text())
    nano |= {"other_times": [nano["time"]], "optimized": {"processor": "avx2"}}
    changed = quantized(nano, [], {"scheme": "static"})
    assert not {"other_times", "optimized"} & set(changed) and "processor" not in changed["time"]
    assert changed["time"]["threads"] == nano["time"]["threads"]
    assert "processor" in nano["time"], "the float model's stay"


def test_manifest(model: Path) -> None:
    manifest = json.loads((model / "model.json").read_text())
    assert manifest["name"] == "m2fp-r50-pascal-person-part"
    assert manifest["licence"] == "CC-BY-NC-4.0"
    assert [entry["path"] for entry in manifest["files"]] == ["model.onnx", "model.onnx.data"]
    for entry in manifest["files"]:
        data = (model / entry["path"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["outputs"]["queries"] == 10
    assert manifest["classes"][7] == {"id": 7, "name": "Human", "color": [128, 128, 128]}
    assert (manifest["background_id"], manifest["person_id"]) == (0, 7)
    assert manifest["label_map"] == "paste"
    assert manifest["flip_pairs"] == []
    assert manifest["thresholds"]["paste_score"] == 0.3
    assert "pytorch_model.pt, sha256 " in manifest["provenance"]["weights"]


def test_the_manifest_of_a_single_person_model(tmp_path: Path) -> None:
    sizes = replace(shrunken.SIZES, classes=20)
    write_folder(random_network(sizes, seed=0, has_human=False), tmp_path / "in", LIP)
    exporting.export(tmp_path / "in", tmp_path / "out", sizes=())
    written = (tmp_path / "out/model.json").read_text()
    manifest = json.loads(written)
    assert manifest["name"] == "m2fp-r50-lip"
    assert manifest["description"].endswith("20 classes of lip, one person.")
    assert manifest["input"]["size"] == {
        "letterbox": {"width": 384, "height": 512, "fill": 128},
        "divisor": 32,
    }
    assert (manifest["label_map"], manifest["person_id"]) == ("semantic", None)
    assert manifest["classes"][10] == {"id": 10, "name": "Jumpsuits", "color": [64, 128, 0]}
    assert manifest["flip_pairs"] == [[14, 15], [16, 17], [18, 19]]
    assert '  "flip_pairs": [[14, 15], [16, 17], [18, 19]],\n' in written
    described = Description.of_variant(LIP, sizes.blocks)
    about = About("m2fp-r50-lip", "1.0.0", "CC-BY-NC-4.0", manifest["provenance"]["weights"], False)
    files = [tmp_path / "out" / entry["path"] for entry in manifest["files"]]
    again = build(files, described, about)
    for key in set(KEYS) - {"outputs", "thresholds"}:
        assert again[key] == manifest[key], key


def test_left_and_right_are_told_by_their_names() -> None:
    assert flip_pairs(VARIANTS["cihp"].classes) == [[14, 15], [16, 17], [18, 19]]
    assert flip_pairs(VARIANTS["pascal-person-part"].classes) == []
    of_mhp = flip_pairs(VARIANTS["mhp-v2"].classes)
    assert len(of_mhp) == 8 and [30, 31] in of_mhp
    names = ("rest", "upper left arm", "RightFoot", "LeftFoot", "upper right arm", "cleft")
    assert flip_pairs(names) == [[1, 4], [3, 2]]
    assert flip_pairs(("rest", "Left-arm")) is None
    assert flipping(("rest", "Left-arm")) == {}


def test_nothing_is_written_for_a_checkpoint_that_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = (folder / "pytorch_model.pt").read_bytes()
    bad = tmp_path / "in" / "bad.pth"
    bad.parent.mkdir()
    bad.write_bytes(weights[:-100])
    with pytest.raises(InputError):
        exporting.export(bad, tmp_path / "out" / "model", variant="cihp")
    assert not (tmp_path / "out").exists()


def test_a_folder_stays_as_it_was_where_verification_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    exporting.export(folder, out, sizes=())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(verifying, "MULTIPLE", 0)
    with pytest.raises(VerificationError, match="nothing was replaced"):
        exporting.export(folder, out, name="other", sizes=((40, 30),), tolerance=0.0)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_the_same_checkpoint_gives_the_same_bytes(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    exporting.export(folder, tmp_path / "again", sizes=())
    for path in model.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    arguments = ["export", "--checkpoint", str(folder), "--out", str(out), "--portable"]
    assert main([*arguments, "--no-verify", "--name", "mine", "--licence", "MIT"]) == 0
    manifest = json.loads((out / "model.json").read_text())
    assert (manifest["name"], manifest["licence"]) == ("mine", "MIT")
    assert "standard operators" in manifest["provenance"]["graph"]
    assert main(["export", "--checkpoint", str(tmp_path / "none"), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"m2fp_export: {tmp_path / 'none'}: there is no such file or folder\n"


def test_verify_command(network: M2FP, tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "in", tmp_path / "out"
    write_folder(network, checkpoint, PASCAL_PERSON_PART)
    exporting.export(checkpoint, out, sizes=())
    arguments = ["verify", "--checkpoint", str(checkpoint), "--model", str(out)]
    assert main(arguments) == 0
    assert main([*arguments[:-1], str(tmp_path)]) == 1


@pytest.mark.parametrize(
    ("file", "spoil", "fault"),
    [
        ("model.onnx", lambda data: data[:-1], "sha256"),
        ("model.onnx.data", lambda data: b"\xff" + data[1:], "sha256"),
        ("model.json", lambda data: data[:50], "it is no manifest"),
        ("model.json", lambda _: b"[]", "it is no manifest"),
        ("model.json", lambda _: b'{"files": []}', "it is no manifest"),
        ("model.json", lambda _: b'{"files": [{"path": "x.onnx", "sha256": ""}]}', "no x.onnx"),
    ],
)
def test_a_folder_that_is_not_what_its_manifest_says(
    folder: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    spoil: Callable[[bytes], bytes],
    fault: str,
) -> None:
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).write_bytes(spoil((tmp_path / file).read_bytes()))
    assert main(["verify", "--checkpoint", str(folder), "--model", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"m2fp_export: {tmp_path}") and fault in said and said.count("\n") == 1


def test_a_manifest_of_another_graph_is_refused_by_shape(
    folder: Path, network: M2FP, tmp_path: Path
) -> None:
    exporting.export(folder, tmp_path / "model", sizes=(), portable=True)
    larger = random_network(replace(network.sizes, queries=12), seed=0)
    with pytest.raises(VerificationError, match=r"has the shape \(1, 10, 9\), not \(1, 12, 9\)"):
        verify(larger, tmp_path / "model/model.onnx", ((40, 30),))


def test_a_file_is_not_replaced_by_a_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.write_text("mine")
    with pytest.raises(InputError, match="it is a file"):
        exporting.export(folder, out, sizes=())
    assert out.read_text() == "mine"


def test_class_lists() -> None:
    assert {name: len(v.classes) for name, v in VARIANTS.items()} == {
        "cihp": 21,
        "mhp-v2": 60,
        "pascal-person-part": 8,
        "lip": 20,
    }
    for variant in VARIANTS.values():
        assert variant.classes[0] == "Background"
        human = variant.classes.index("Human") if "Human" in variant.classes else None
        assert variant.person_id == human
        assert len(set(variant.classes)) == len(variant.classes)
    nano = json.loads(NANO.read_text())["classes"]
    assert tuple(entry["name"] for entry in nano) == VARIANTS["cihp"].classes
    assert [tuple(entry["color"]) for entry in nano] == [voc_color(i) for i in range(21)]
