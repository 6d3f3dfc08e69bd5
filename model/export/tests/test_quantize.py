"""8 bits: what is stored, what it costs, what is told of it, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image

import function
from m2fp_export import compare, photos, quantize_folder
from m2fp_export import export as exporting
from m2fp_export.__main__ import main
from m2fp_export.calibrate import best_range, calibrate, rounded
from m2fp_export.graph_parts import EPSILON, GROUP_NORM
from m2fp_export.graph_pixel_decoder import STRIPES
from m2fp_export.label_map import label_map
from m2fp_export.quantize import (
    Range,
    Topology,
    narrow_weights,
    quantize,
    quantized_weight,
    widen_weights,
)
from m2fp_export.verify import is_fused, open_session, session_options

NANO_FLOAT = function.NANO_FLOAT
INT16 = 32767


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos: smooth noise, as small as is allowed."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for index, size in enumerate(((8, 6), (6, 8), (7, 7))):
        noise = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        smooth = Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC)
        smooth.save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def small_rule(monkeypatch_module: pytest.MonkeyPatch) -> None:
    from m2fp_export import manifest

    rule = {"min_side": 96, "max_side": 160, "divisor": 32, "smallest_side": 32}
    monkeypatch_module.setattr(manifest, "SIZE_RULE", rule)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:  # noqa: ANN401
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def made(
    folder: Path,
    pictures: Path,
    small_rule: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A directory with `float`, and `portable` and `fused` in 8 bits, of the shrunken network."""
    root = tmp_path_factory.mktemp("eight")
    exporting.export(folder, root / "float", portable=True, sizes=())
    with pytest.MonkeyPatch.context() as patch:
        # Harms are those of the portable form: once is enough for both.
        patch.setattr(quantize_folder, "_groups", _once(quantize_folder._groups))
        for name, portable in (("portable", True), ("fused", False)):
            exporting.export(
                folder, root / name, portable=portable, sizes=(), calibration=[pictures]
            )
    return root


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    results: list[Any] = []

    def answer(*arguments: object) -> object:
        if not results:
            results.append(function(*arguments))
        return results[0]

    return answer


def _stored(path: Path) -> dict[str, NDArray[Any]]:
    model = onnx.load(str(path))
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_weights_have_a_scale_for_each_channel_and_7_bits(made: Path) -> None:
    original, stored = _stored(made / "float/model.onnx"), _stored(made / "fused/model.onnx")
    names = [name for name in stored if stored[name].dtype == np.int8 and name.endswith("/bytes")]
    assert len(names) > 50
    for name in names:
        stem = name.removesuffix("/bytes")
        weight, scale = original[stem], stored[f"{stem}/scale"]
        axis = 0 if weight.ndim == 4 else 1
        assert scale.shape == (weight.shape[axis],)
        assert stored[name].min() >= -64 and stored[name].max() <= 63
        others = tuple(other for other in range(weight.ndim) if other != axis)
        largest = np.abs(weight).max(others)
        assert np.allclose(scale, np.maximum(largest, 1e-8) / 63), name
        # Rounded by what they are given, but still the weights that they were.
        restored = np.moveaxis(stored[name], axis, -1) * scale
        assert np.corrcoef(restored.ravel(), np.moveaxis(weight, axis, -1).ravel())[0, 1] > 0.9, (
            name
        )


def test_persons_who_change_are_harm_though_no_label_does() -> None:
    manifest = {"person_id": 1, "outputs": {"class_logits": "c", "mask_logits": "m"}}
    judge = compare.Judge.__new__(compare.Judge)
    judge.manifest = manifest
    # Of three queries one is half a person, one a third, and one nobody; masks of two pixels.
    chances = np.log([[[1, 2, 1], [1, 1, 1], [1e6, 1e-6, 1]]]).astype(np.float32)
    masks = np.log([[[[3.0, 1 / 3]], [[1.0, 9.0]], [[9.0, 9.0]]]]).astype(np.float32)
    seen = judge._persons([chances, masks])
    assert seen == pytest.approx(np.array([[0.5 * 0.75, 0.9 / 3]]), abs=1e-5)
    less = seen - [[0.075, 0]]
    changed = compare._difference([seen, seen], [less, seen])
    assert changed == pytest.approx(0.075 / (2 * seen.sum()))
    labels = [np.zeros((1, 2), np.uint8)]
    answers = [[chances, masks]]
    found = compare.compared(answers, answers, labels, labels, changed)
    assert found.agreement == 1 and found.harm == changed
    manifest["person_id"] = None
    assert judge._persons([chances, masks]).size == 0


def test_two_products_fit_16_bits(made: Path) -> None:
    """vpmaddubsw of AVX2 adds neighbours of the inner dimension; worst are activations of 255."""
    for name, weight in _stored(made / "fused/model.onnx").items():
        if weight.dtype == np.int8 and name.endswith("/bytes"):
            two = np.sort(np.abs(weight.astype(int)).ravel())[-2:]
            assert 255 * two.sum() <= INT16, name


def test_weights_lie_apart_at_pages_in_the_order_of_use(made: Path) -> None:
    model = onnx.load(str(made / "fused/model.onnx"), load_external_data=False)
    used = list(dict.fromkeys(name for node in model.graph.node for name in node.input))
    end = 0
    for tensor in sorted(model.graph.initializer, key=lambda t: used.index(t.name)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entry = {pair.key: pair.value for pair in tensor.external_data}
            offset = int(entry["offset"])
            assert offset % 4096 == 0 and offset >= end
            end = offset + int(entry["length"])
    assert end == (made / "fused/model.onnx.data").stat().st_size
    small = (made / "fused/model.onnx.data").stat().st_size
    assert small < 0.45 * (made / "float/model.onnx.data").stat().st_size


def test_both_forms_hold_the_same_weights(made: Path) -> None:
    assert is_fused(made / "fused/model.onnx") and not is_fused(made / "portable/model.onnx")
    data = [(made / name / "model.onnx.data").read_bytes() for name in ("fused", "portable")]
    assert data[0] == data[1]


def test_norms_read_bytes_with_epsilon_in_their_unit(made: Path) -> None:
    model = onnx.load(str(made / "fused/model.onnx"))
    stored = _stored(made / "fused/model.onnx")
    norms = [node for node in model.graph.node if node.op_type == GROUP_NORM]
    assert len(norms) == 5
    for node in norms:
        name = node.input[0].removesuffix("/bytes")
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        assert epsilon * float(stored[f"{name}/scale"]) ** 2 == pytest.approx(EPSILON)


def test_the_pyramid_is_cut_and_joined_as_bytes(made: Path) -> None:
    """What is cut keeps its unit, and so does what is joined: both only copy bytes."""
    model = onnx.load(str(made / "fused/model.onnx"))
    stored = _stored(made / "fused/model.onnx")
    producers = {name: node for node in model.graph.node for name in node.output}
    norms = [node for node in model.graph.node if node.op_type == GROUP_NORM]
    joined = producers[producers[norms[-1].input[0]].input[0]]
    assert joined.op_type == "Concat" and len(joined.input) == STRIPES
    result = stored[f"{joined.output[0]}/scale"]
    for name in joined.input:
        assert stored[f"{name.removesuffix('/restored')}/scale"] == result
    slices = [n for n in model.graph.node if n.op_type == "Slice" and "pyramid" in n.name]
    assert len(slices) == STRIPES
    for node in slices:
        whole = stored[node.input[0].removesuffix("/restored") + "/scale"]
        assert stored[f"{node.output[0]}/scale"] == whole


def test_onnx_runtime_computes_in_integers(made: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = session_options()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(made / "portable/model.onnx"), options)
    optimised = onnx.load(str(tmp_path / "optimised.onnx"), load_external_data=False)
    kinds = [node.op_type for node in optimised.graph.node]
    assert kinds.count("QLinearAdd") == 16  # of every bottleneck
    assert kinds.count("QLinearConv") >= 50 and kinds.count("QGemm") >= 12
    assert kinds.count("Conv") + kinds.count("FusedConv") <= 5


def test_what_stays_float_between_bytes_is_computed_in_floats(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime would give all weights of the layer one scale, and 100 x - 99.6 x were 0."""
    eye = np.eye(3, dtype=np.float32)
    weights = {
        "first": np.concatenate([eye, eye]),
        "middle": np.concatenate([100 * eye, -99.6 * eye], axis=1),
        "last": 2.5 * eye,
    }
    tensors = ["input", "first.out", "middle.out", "logits"]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [given, f"{name}.weight"], [made], name=name)
            for name, given, made in zip(weights, tensors[:-1], tensors[1:], strict=True)
        ],
        "three layers",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 3, None, None])],
        [
            numpy_helper.from_array(weight[..., None, None], f"{name}.weight")
            for name, weight in weights.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=8), str(tmp_path / "net.onnx")
    )
    (tmp_path / "classes.txt").write_text("Red\nGreen\nBlue\n")
    given = ["--source", str(tmp_path / "net.onnx"), "--classes", str(tmp_path / "classes.txt")]
    given += ["--size", "64", "--licence", "MIT", "--out", str(tmp_path / "float")]
    assert main(["wrap", *given]) == 0

    def split(groups: list[compare.Group]) -> tuple[list[compare.Group], list[compare.Group]]:
        kept = [group for group in groups if group.name == "network.middle"]
        return [group for group in groups if group not in kept], kept

    monkeypatch.setattr(quantize_folder, "split", split)
    report = quantize_folder.quantize_folder(tmp_path / "float", [pictures], tmp_path / "bytes")
    assert report == json.loads((tmp_path / "bytes/quantization.json").read_text())
    assert [group["operators"] for group in report["float"]] == ["network.middle"]
    assert report["against_float"]["logit_error"][1] < 0.05
    photo = photos.find(pictures)[0]
    theirs, ours = (
        function.answer(tmp_path / name, photo, tmp_path / f"{name}.out").mask_logits
        for name in ("float", "bytes")
    )
    assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)


def test_the_small_network_answers_nearly_the_same(made: Path, pictures: Path) -> None:
    rule = json.loads((made / "float/model.json").read_text())["input"]["size"]
    sessions = [open_session(made / name / "model.onnx") for name in ("float", "portable")]
    for path in photos.find(pictures):
        image = photos.read(path, rule)
        (classes, _), (ours, _) = (s.run(None, {"image": image}) for s in sessions)
        assert np.linalg.norm(ours - classes) <= 0.15 * np.linalg.norm(classes)


def test_the_figures_of_the_report(made: Path, pictures: Path) -> None:
    manifest = json.loads((made / "portable/model.json").read_text())
    told = json.loads((made / "portable/quantization.json").read_text())["against_float"]
    sessions = [open_session(made / name / "model.onnx") for name in ("float", "portable")]
    labels: list[list[NDArray[np.uint8]]] = [[], []]
    for path in photos.find(pictures):
        image = photos.read(path, manifest["input"]["size"])
        for session, maps in zip(sessions, labels, strict=True):
            answer = session.run(["pred_logits", "pred_masks"], {"image": image})
            maps.append(label_map(*answer, image.shape[2:], manifest).ravel())
    theirs, ours = (np.concatenate(maps) for maps in labels)
    assert told["label_agreement"] == pytest.approx(np.mean(theirs == ours), abs=0.01)
    for entry in manifest["classes"]:
        a, b = theirs == entry["id"], ours == entry["id"]
        assert ((a | b).sum() > 0) == (entry["name"] in told["iou"])
        if a.sum() > 1000:
            iou = (a & b).sum() / (a | b).sum()
            assert told["iou"][entry["name"]] == pytest.approx(iou, abs=0.03)


def test_the_manifest_says_what_was_done(made: Path) -> None:
    manifest = json.loads((made / "fused/model.json").read_text())
    assert set(manifest["quantization"]) == {"scheme", "made_for", "calibration_photos"}
    assert manifest["quantization"]["calibration_photos"] == 3
    assert manifest["provenance"]["graph"].startswith("8 bits")
    names = sorted(path.name for path in (made / "fused").iterdir())
    assert names == ["model.json", "model.onnx", "model.onnx.data", "quantization.json"]


def test_every_operator_with_weights_is_accounted_for(made: Path) -> None:
    report = json.loads((made / "fused/quantization.json").read_text())
    topology = Topology(onnx.load(str(made / "float/model.onnx"), load_external_data=False))
    told = sum(group["count"] for group in report["float"] + report["eight_bits"])
    assert told == len(topology.candidates())
    assert sum(g["products"] for g in report["float"]) <= compare.FLOAT_PRODUCTS + 1e-3


def test_what_stays_float_is_the_most_harmful_that_can_be_afforded() -> None:
    def group(name: str, products: float, harm: float) -> compare.Group:
        return compare.Group(name, (name,), products, 0.0, harm)

    groups = [
        group("harmless", 0.001, 0.001),
        group("dear", 0.5, 0.5),
        group("cheap", 0.01, 0.2),
        group("ruinous", 0.3, 1.0),
        group("one too many", 0.015, 0.1),
    ]
    in_bytes, in_float = compare.split(groups)
    assert [g.name for g in in_float] == ["ruinous"]  # its cost leaves nothing for others
    assert {g.name for g in in_bytes} == {"dear", "cheap", "one too many", "harmless"}
    _, in_float = compare.split([g for g in groups if g.name != "ruinous"])
    assert [g.name for g in in_float] == ["cheap"]


def test_harm_is_judged_on_photos_that_show_most_classes_together() -> None:
    shown = {"nobody": [0], "three": [0, 1, 2], "the same": [0, 2, 1], "other": [0, 3, 4]}
    judge = compare.Judge.__new__(compare.Judge)
    judge.photos, judge.answers = list(shown), list(range(4))
    judge.labels = [np.array([*labels, 0], np.uint8) for labels in shown.values()]
    judge.persons = list("abcd")
    few = judge.most_telling(3)
    assert few.persons == ["b", "d", "c"]
    assert few.photos == ["three", "other", "the same"] and few.answers == [1, 3, 2]
    assert [len(np.unique(labels)) for labels in few.labels] == [3, 3, 3]
    assert len(judge.photos) == 4 and len(judge.most_telling(9).photos) == 4


def test_bytes_of_a_range() -> None:
    for range_ in (Range(-1.0, 3.0), Range(0.5, 2.0), Range(-4.0, -1.0), Range(0.0, 0.0)):
        low, high = min(range_.low, 0.0), max(range_.high, 0.0)
        values = np.linspace(low, high, 1001, dtype=np.float32)
        assert np.abs(rounded(values, range_) - values).max() <= range_.scale * 1.001
        assert rounded(np.zeros(1, np.float32), range_)[0] == 0


def test_a_rare_large_value_is_clamped() -> None:
    values = np.random.default_rng(0).normal(size=20000).astype(np.float32)
    assert best_range(values, -5.0, 20.0).high < 20.0
    even = np.linspace(-1, 1, 1000, dtype=np.float32)
    assert best_range(even, -1.0, 1.0) == Range(-1.0, 1.0)


def test_a_channel_of_zeros() -> None:
    stored, scale = quantized_weight(np.array([[0.0, 0.0], [1.0, -2.0]], np.float32), 0)
    assert stored.tolist() == [[0, 0], [31, -63]] and (scale > 0).all()


def test_calibration_sees_what_the_tensors_hold(tmp_path: Path) -> None:
    """Of a graph that doubles its input; the instrumented copy is gone."""
    make = onnx.helper.make_node
    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), 2.0, np.float32), "w")
    graph = onnx.helper.make_graph(
        [make("Cast", ["image"], ["x"], to=1), make("Conv", ["x", "w"], ["y"], name="c")],
        "g",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 3, None, None])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, None, None])],
        [weight],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=opset)
    onnx.save(model, str(tmp_path / "m.onnx"))
    images = [np.full((1, 3, 4, 5), value, np.uint8) for value in (10, 30)]
    seen = calibrate(tmp_path / "m.onnx", "image", ["x", "y"], images)
    assert seen.values == {"x": 60, "y": 20} and seen.photos == 2
    assert 150 <= seen.ranges["y"].high <= 180 and seen.ranges["y"].low == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    eight = quantize(model, seen.ranges, [])
    assert [node.op_type for node in eight.graph.node] == ["Cast", "Conv"]


def test_sizes_are_the_functions_own() -> None:
    """The table of `geometry.rs`."""
    for photo, size in (
        ((1920, 1080), (1138, 640)),
        ((1080, 1920), (640, 1138)),
        ((512, 512), (640, 640)),
        ((4000, 1000), (1333, 333)),
        ((20000, 1), (1333, 1)),
    ):
        assert photos.working_size(photo, 640, 1333) == size


def test_weights_stored_as_halves_are_seen() -> None:
    half = numpy_helper.from_array(np.float16([[0.5, -0.25]]), "w.half")
    nodes = [
        onnx.helper.make_node("Cast", ["w.half"], ["w"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Cast", ["bytes"], ["x"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Gemm", ["x", "w"], ["y"]),
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], [half]))
    assert not Topology(model).candidates()
    topology = Topology(widen_weights(model))
    assert [node.op_type for node in topology.nodes] == ["Cast", "Gemm"]
    assert [node.op_type for node in topology.candidates()] == ["Gemm"]
    assert numpy_helper.to_array(topology.tensors["w"]).tolist() == [[0.5, -0.25]]


def test_weights_stored_as_bytes_are_seen() -> None:
    stored = numpy_helper.from_array(np.int8([[4, 8], [-2, 6]]), "w.small")
    scale = numpy_helper.from_array(np.float32([0.5, 0.25]), "w.scale")
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["w.small", "w.scale"], ["w"], axis=0),
        onnx.helper.make_node("DequantizeLinear", ["bytes", "w.scale"], ["x"], axis=0),
        onnx.helper.make_node("Gemm", ["x", "w"], ["y"]),
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], [stored, scale]))
    topology = Topology(widen_weights(model))
    assert [node.op_type for node in topology.nodes] == ["DequantizeLinear", "Gemm"]
    assert [node.op_type for node in topology.candidates()] == ["Gemm"]
    assert numpy_helper.to_array(topology.tensors["w"]).tolist() == [[2.0, 4.0], [-0.5, 1.5]]
    assert sorted(topology.tensors) == ["w", "w.scale"]


def test_weights_stored_as_halves_are_those_that_they_were() -> None:
    weight = np.arange(256, dtype=np.float32).reshape(16, 16) / 8
    tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(weight[0], "b")]
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [], [], tensors))
    narrow_weights(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert {name: str(value.dtype) for name, value in stored.items()} == {
        "w/halves": "float16",
        "b": "float32",
    }
    widened = Topology(widen_weights(model))
    assert [node.op_type for node in widened.nodes] == ["Gemm"]
    assert (numpy_helper.to_array(widened.tensors["w"]) == weight).all()


def test_the_packaged_model_is_one_file_whose_floats_are_halves() -> None:
    graph = onnx.load(str(function.NANO / "model.onnx")).graph
    scales = {n.input[1] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in graph.initializer:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        if tensor.name in scales:
            assert kind == "FLOAT", tensor.name
        elif np.prod(tensor.dims) >= 256:
            assert kind in ("INT8", "INT32", "FLOAT16"), tensor.name


def test_all_weights_of_the_packaged_model_are_seen() -> None:
    graph = onnx.load(str(NANO_FLOAT / "model.onnx"))
    seen = Topology(widen_weights(graph)).candidates()
    sums = sum(node.op_type == "Conv" for node in graph.graph.node)
    assert sum(node.op_type == "Conv" for node in seen) == sums


def test_the_packaged_model(quantized: Path, pictures: Path, tmp_path: Path) -> None:
    report = json.loads((quantized / "quantization.json").read_text())
    assert report["eight_bits"] and report["against_float"]["label_agreement"] > 0.9
    assert all(np.isfinite(report["against_float"]["logit_error"]))
    # It is stored small already: some of it as bytes, the rest as halves.
    graphs = [folder / "model.onnx" for folder in (quantized, NANO_FLOAT)]
    assert graphs[0].stat().st_size < graphs[1].stat().st_size
    # Nothing that was needed on the way is left beside it.
    assert sorted(path.name for path in quantized.parent.iterdir()) == ["model", "photos"]
    with pytest.raises(quantize_folder.InputError, match="in 8 bits already"):
        quantize_folder.quantize_folder(quantized, [pictures], tmp_path / "again")


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 1
    return capsys.readouterr().err


def test_bad_input(
    folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, broken, out = tmp_path / "empty", tmp_path / "broken", tmp_path / "out"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"no photo")
    start = ["quantize", "--model", str(NANO_FLOAT), "--out", str(out), "--calibrate"]
    assert "empty: it has no photo" in _refused([*start, str(empty)], capsys)
    assert "a.jpg: it cannot be read as a photo" in _refused([*start, str(broken)], capsys)
    assert "no such folder" in _refused([*start, str(tmp_path / "none")], capsys)
    export = ["export", "--checkpoint", str(folder), "--out", str(out)]
    alone = _refused([*export, "--quantize", "int8"], capsys)
    assert alone == "m2fp_export: --quantize int8 and --calibrate PHOTOS belong together\n"
    assert _refused([*export, "--calibrate", str(pictures)], capsys) == alone
    whole = [*export, "--no-verify", "--quantize", "int8", "--calibrate", str(broken)]
    assert "a.jpg: it cannot be read as a photo" in _refused(whole, capsys)
    assert sorted(tmp_path.iterdir()) == [broken, empty]


def test_a_fused_model_cannot_be_measured(folder: Path, pictures: Path, tmp_path: Path) -> None:
    exporting.export(folder, tmp_path / "fused", sizes=())
    with pytest.raises(quantize_folder.InputError, match="export --quantize"):
        quantize_folder.quantize_folder(tmp_path / "fused", [pictures], tmp_path / "out")
