"""Dense parsers as model folders: what `m2fp parse` writes against their own pipelines."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

import function
from m2fp_export import wrap, wrap_source
from m2fp_export.__main__ import main

SIDE = 128
"""Of the square that the processor stretches photos to; 512 as published."""
AGREED = {
    (SIDE, SIDE): 0.999,
    (SIDE, 200): 0.999,
    (171, SIDE): 0.999,
    (300, 300): 0.99,
    (96, 96): 0.98,
}
"""Share of the labels that must be the pipeline's own, by the photo's width and height. A photo
that the function resizes has its logits interpolated twice, first to the working size and then
to the photo's, and the pipeline interpolates once: that alone moves 0.5 % and 1.7 % of the
labels of this network, whose map of 32×32 cells is full of edges."""
CLASSES = (
    *("Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress"),
    *("Belt", "Left-shoe", "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm"),
    *("Right-arm", "Bag", "Scarf"),
)
M2FP = os.environ.get("M2FP", str(function.ROOT / "target" / "release" / "m2fp"))


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SegFormer-B2's depths at half its width, weights of a seed, wide enough to differ."""
    folder = tmp_path_factory.mktemp("segformer")
    names = dict(enumerate(CLASSES))
    config = SegformerConfig(
        depths=[3, 4, 6, 3],
        hidden_sizes=[32, 64, 160, 256],
        decoder_hidden_size=256,
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    torch.manual_seed(1)
    network = SegformerForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.6 / weight[0].numel() ** 0.5)
    network.save_pretrained(folder)
    SegformerImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segformer(hugging_face: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "segformer"
    command = ["wrap", "--source", str(hugging_face), "--out", str(out), "--licence", "MIT"]
    assert main(command) == 0
    return out


def scene(path: Path, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Edges and gradients of (width, height) pixels."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    levels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(int)
    levels[size[1] // 4 : size[1] // 2, size[0] // 3 : size[0] // 2] = (200, 40, 90)
    levels += generator.integers(-8, 9, levels.shape)
    photo = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    photo.save(path)
    return photo


def parsed(model: Path, photo: Path) -> tuple[np.ndarray, dict]:
    """The label map and the report that the function writes."""
    options = ["--model", str(model), "--output", "mask,json"]
    done = function.run([M2FP, "parse"], photo, *options)
    assert done.returncode == 0, done.stderr
    with Image.open(f"{photo}.mask.png") as mask:
        return np.asarray(mask), json.loads(Path(f"{photo}.json").read_text())


@pytest.mark.parametrize("size", AGREED)
def test_segformer_is_its_own_pipeline(
    size: tuple[int, int], hugging_face: Path, segformer: Path, tmp_path: Path
) -> None:
    photo = scene(tmp_path / "photo.png", size)
    processor = SegformerImageProcessor.from_pretrained(hugging_face)
    network = SegformerForSemanticSegmentation.from_pretrained(hugging_face).eval()
    with torch.no_grad():
        answer = network(**processor(photo, return_tensors="pt"))
    (expected,) = processor.post_process_semantic_segmentation(answer, [size[::-1]])
    labels, report = parsed(segformer, tmp_path / "photo.png")
    assert len(np.unique(expected)) >= 3, "a map that says something"
    assert (labels == expected.numpy()).mean() >= AGREED[size]
    assert report["persons"] == []
    named = {entry["id"]: entry["name"] for entry in report["classes"]}
    assert named == {int(index): CLASSES[index] for index in np.unique(labels)}


def test_the_manifest_says_what_was_told(segformer: Path) -> None:
    manifest = json.loads((segformer / "model.json").read_text())
    assert (manifest["licence"], manifest["name"]) == ("MIT", "segformer")
    assert manifest["person_id"] is None and manifest["label_map"] == "semantic"
    assert [entry["name"] for entry in manifest["classes"]] == list(CLASSES)
    assert manifest["classes"][1]["color"] == [128, 0, 0]
    assert manifest["flip_pairs"] == [[9, 10], [12, 13], [14, 15]]
    assert manifest["provenance"]["weights"].startswith("model.safetensors, sha256 ")


def test_scores_are_the_lead_over_the_next_class(segformer: Path, tmp_path: Path) -> None:
    """A mask's logit is positive for the greatest class alone, and its lead."""
    photo = scene(tmp_path / "photo.png", (SIDE, SIDE))
    image = np.asarray(photo).transpose(2, 0, 1)[None]
    session = wrap_source.open_session(segformer / "model.onnx")
    classes, masks = session.run(["pred_logits", "pred_masks"], {"image": image})
    assert classes.shape == (1, 18, 19) and masks.shape == (1, 18, SIDE, SIDE)
    shares = torch.from_numpy(classes[0]).softmax(1)[:, :18].numpy()
    assert np.allclose(shares, np.eye(18), atol=1e-5)
    # Between cells two classes may be level; at most one leads anywhere.
    assert ((masks[0] > 0).sum(0) <= 1).all()


def dense_onnx(
    path: Path, bgr: bool = False, side: int | str = "s", opset: int = 17, stride: int = 1
) -> Path:
    """Three classes, each as bright as a channel: red, green and blue as the network has them."""
    weight = np.eye(3, dtype=np.float32)[[2, 1, 0] if bgr else [0, 1, 2]].reshape(3, 3, 1, 1)
    nodes = [helper.make_node("Conv", ["input", "weight"], ["logits"], strides=[stride] * 2)]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, None, None])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("Red #ff0000\nGreen #00ff00\n\nBlue\n")
    return path


def of_onnx(path: Path, names: Path, out: Path, *more: str) -> list[str]:
    given = ["--source", str(path), "--classes", str(names), "--size", "64"]
    return ["wrap", *given, "--out", str(out), "--licence", "Apache-2.0", *more]


@pytest.mark.parametrize("options", [(), ("--bgr",), ("--keep-shape",), ("--bgr", "--keep-shape")])
def test_an_onnx_file(options: tuple[str, ...], names: Path, tmp_path: Path) -> None:
    """The brightest channel is the label, whatever order the network takes them in."""
    network = dense_onnx(tmp_path / "net.onnx", bgr="--bgr" in options, opset=13)
    same = ("--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25")
    assert main(of_onnx(network, names, tmp_path / "model", *same, *options)) == 0
    photo = np.asarray(scene(tmp_path / "photo.png", (90, 64)))
    labels, report = parsed(tmp_path / "model", tmp_path / "photo.png")
    clear = np.sort(photo, 2)[..., 2].astype(int) - np.sort(photo, 2)[..., 1] > 60
    assert clear.mean() > 0.1
    # Stretching blurs across edges; the blots are wide.
    assert (labels == photo.argmax(2))[clear].mean() > 0.97
    colors = [tuple(entry["color"]) for entry in report["classes"]]
    assert colors == [(255, 0, 0), (0, 255, 0), (0, 128, 0)]


def test_normalisation_is_of_the_channel_it_names(names: Path, tmp_path: Path) -> None:
    network = dense_onnx(tmp_path / "net.onnx")
    more = ("--mean", "0", "0.5", "0", "--std", "1", "1", "0.5")
    assert main(of_onnx(network, names, tmp_path / "model", *more)) == 0
    session = wrap_source.open_session(tmp_path / "model" / "model.onnx")
    image = np.full((1, 3, 64, 64), 102, np.uint8)
    (masks,) = session.run(["pred_masks"], {"image": image})
    logits = np.array([0.4, 0.4 - 0.5, 0.4 / 0.5])
    expected = 2 * logits - (0.8 + 0.4)
    assert np.allclose(masks[0, :, 32, 32], expected, atol=1e-5)


def test_stretching_is_pillows(names: Path, tmp_path: Path) -> None:
    """Through a network that answers with its input."""
    source = wrap_source.from_onnx(
        dense_onnx(tmp_path / "net.onnx"),
        wrap_source.read_classes(names),
        wrap_source.Preprocessing((64, 48), mean=(0, 0, 0), std=(1, 1, 1)),
    )
    wrap.write_graph(source, tmp_path / "wrapped.onnx")
    model = onnx.load(str(tmp_path / "wrapped.onnx"))
    model.graph.output.append(helper.make_empty_tensor_value_info("network/logits"))
    onnx.save(model, str(tmp_path / "seen.onnx"))
    session = wrap_source.open_session(tmp_path / "seen.onnx")
    for size in ((48, 64), (97, 130), (200, 64), (31, 50)):
        photo = scene(tmp_path / "photo.png", size)
        image = np.asarray(photo).transpose(2, 0, 1)[None]
        (seen,) = session.run(["network/logits"], {"image": image})
        levels = np.rint(seen[0].transpose(1, 2, 0) * 255).astype(int)
        pillows = np.asarray(photo.resize((48, 64), Image.Resampling.BILINEAR)).astype(int)
        assert (levels == pillows).all(), size


REFUSED = [
    ({"size": {"height": 128}}, "`size` has neither"),
    ({"size": {"height": 8, "width": 128}}, "whole numbers from 32"),
    ({"do_reduce_labels": True}, "`do_reduce_labels` leaves out the first label"),
    ({"do_center_crop": True}, "`do_center_crop` crops"),
    ({"resample": 3}, "`resample` is not 2"),
    ({"rescale_factor": 1}, "`rescale_factor` is not 1/255"),
    ({"image_std": [1, 0, 1]}, "`image_std` is not above 0"),
    ({"image_mean": [1, 2]}, "`image_mean` is not three numbers"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_processor_that_does_something_else(
    change: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = {"size": {"height": SIDE, "width": SIDE}}
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "a", "1": "b"}}))
    (folder / "preprocessor_config.json").write_text(json.dumps({**sound, **change}))
    command = ["wrap", "--source", str(folder), "--out", str(tmp_path / "model")]
    assert main([*command, "--licence", "MIT"]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def _write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


BROKEN = [
    (_write("config.json", "["), "config.json: it cannot be read"),
    (_write("config.json", "{}"), "it has no `id2label`"),
    (_write("config.json", '{"id2label": {"0": "a", "2": "b"}}'), "are not 0, 1, 2"),
    (_write("config.json", '{"id2label": {"0": "a"}}'), "it names 1 classes"),
    (_write("pytorch_model.bin", "code"), "it has no model.safetensors"),
    (_write("model.safetensors", "none"), "transformers cannot load it"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN)
def test_a_broken_hugging_face_folder(
    change: Callable[[Path], object],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    labels = {"model_type": "segformer", "id2label": {"0": "a", "1": "b"}}
    (folder / "config.json").write_text(json.dumps(labels))
    (folder / "preprocessor_config.json").write_text('{"size": 64}')
    change(folder)
    command = ["wrap", "--source", str(folder), "--out", str(tmp_path / "model")]
    assert main([*command, "--licence", "MIT"]) == 1
    assert said in capsys.readouterr().err


def test_onnx_files_that_are_no_dense_parser(
    names: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    free, fixed = dense_onnx(tmp_path / "a.onnx"), dense_onnx(tmp_path / "b.onnx", side=96)
    two = tmp_path / "two.txt"
    two.write_text("a\nb\n")
    text = tmp_path / "c.onnx"
    text.write_text("hello")
    for command, said in (
        (of_onnx(text, names, out), "ONNX Runtime does not take it"),
        (of_onnx(free, two, out), "3 channels, and 2 classes are named"),
        (of_onnx(fixed, names, out), "its input is 96×96 (height×width): say so with --size"),
        (of_onnx(free, names, out, "--output", "x"), "no such output [1, C, h, w]"),
        (of_onnx(tmp_path / "d.onnx", names, out), "there is no such file or folder"),
        ([*of_onnx(free, names, out)[:3], "--out", str(out), "--licence", "MIT"], "--classes"),
    ):
        assert main(command) == 1
        assert said in capsys.readouterr().err
    fixed_command = of_onnx(fixed, names, out, "--keep-shape")
    fixed_command[fixed_command.index("64")] = "96x96"
    assert main(fixed_command) == 1
    assert "it cannot keep a photo's shape" in capsys.readouterr().err
    assert not out.exists()


def test_the_licence_is_asked_for(names: Path, tmp_path: Path) -> None:
    command = of_onnx(dense_onnx(tmp_path / "a.onnx"), names, tmp_path / "model")
    with pytest.raises(SystemExit):
        main(command[: command.index("--licence")])
    assert not (tmp_path / "model").exists()
