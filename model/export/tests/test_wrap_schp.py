"""SCHP as a model folder: what `m2fp parse` writes against PyTorch and SCHP's post-processing."""

import json
from pathlib import Path

import numpy as np
import pytest

import schp
from m2fp_export import wrap, wrap_source
from m2fp_export.__main__ import main
from m2fp_export.variants import LIP
from test_wrap import dense_onnx, parsed, scene

SIZES = schp.Sizes(layers=(3, 4, 6, 3), share=4)
"""Every module of the published network, at a quarter of its width."""
SIDES = (177, 160)
"""Of the square that the small network takes; 473 or 512 as published. The pooled map has 12 cells
a side, which the pyramid's regions divide as they do those of 473, or 10, which they do not divide,
as with 512."""
AGREED = 0.999


@pytest.fixture(scope="module")
def network() -> schp.Schp:
    return schp.network(3, SIZES)


@pytest.fixture(scope="module", params=SIDES)
def side(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def graph(network: schp.Schp, side: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return schp.export(network, tmp_path_factory.mktemp("schp") / "schp.onnx", side)


def command(graph: Path, side: int, out: Path, *more: str) -> list[str]:
    names = graph.with_name("classes.txt")
    names.write_text("\n".join(LIP.classes))
    given = ["--source", str(graph), "--classes", str(names), "--size", str(side), "--bgr"]
    return ["wrap", *given, "--out", str(out), "--licence", "MIT", *more]


@pytest.fixture(scope="module")
def model(graph: Path, side: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "schp"
    assert main(command(graph, side, out, "--output", "fusion", "--align-corners")) == 0
    return out


@pytest.mark.parametrize("shape", [(1, 1), (1, 1.4), (1.3, 1)])
def test_schp_is_its_own_pipeline(
    shape: tuple[float, float], network: schp.Schp, side: int, model: Path, tmp_path: Path
) -> None:
    """Photos whose short side is the network's own: the function does not resize them."""
    size = (round(shape[0] * side), round(shape[1] * side))
    photo = scene(tmp_path / "photo.png", size)
    expected = schp.labels(network, photo, side)
    shares = np.bincount(expected.ravel(), minlength=SIZES.classes) / expected.size
    assert (shares > 0.02).sum() >= 5, "a map that says something"
    labels, report = parsed(model, tmp_path / "photo.png")
    assert (labels == expected).mean() >= AGREED
    assert report["persons"] == []


def test_the_published_size_is_its_own_pipeline(tmp_path: Path) -> None:
    """ResNet-101, every layer as wide as published, and 512×512."""
    side = 512
    network = schp.network(3)
    graph = schp.export(network, tmp_path / "schp.onnx", side)
    model = tmp_path / "model"
    assert main(command(graph, side, model, "--output", "fusion", "--align-corners")) == 0
    for size in ((side, side), (717, side)):
        photo = scene(tmp_path / "photo.png", size)
        expected = schp.labels(network, photo, side)
        shares = np.bincount(expected.ravel()) / expected.size
        assert (shares > 0.02).sum() >= 4, "a map that says something"
        labels, _ = parsed(model, tmp_path / "photo.png")
        assert (labels == expected).mean() >= AGREED, size


def test_the_answer_is_said(
    graph: Path, side: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(graph, side, tmp_path / "model")) == 1
    said = capsys.readouterr().err
    assert "say with --output which is the answer: parsing, fusion, edge" in said
    assert main(command(graph, side, tmp_path / "model", "--output", "edge")) == 1
    assert "edge has 2 channels, and 20 classes are named" in capsys.readouterr().err


def test_corners_are_aligned_where_it_is_said(
    graph: Path, side: int, model: Path, tmp_path: Path
) -> None:
    """The two ways to enlarge differ by more than what `AGREED` allows."""
    assert main(command(graph, side, tmp_path / "half-pixel", "--output", "fusion")) == 0
    scene(tmp_path / "photo.png", (side, side))
    aligned, _ = parsed(model, tmp_path / "photo.png")
    half_pixel, _ = parsed(tmp_path / "half-pixel", tmp_path / "photo.png")
    assert (aligned == half_pixel).mean() < AGREED


def test_aligned_corners_in_a_photos_own_shape(tmp_path: Path) -> None:
    """The function would enlarge the answer without them, so the graph does it, to every pixel."""
    path = dense_onnx(tmp_path / "net.onnx", stride=4)
    names = tmp_path / "classes.txt"
    names.write_text("Red\nGreen\nBlue")
    more = ("--align-corners", "--keep-shape")
    given = ["--source", str(path), "--classes", str(names), "--size", "64", *more]
    assert main(["wrap", *given, "--out", str(tmp_path / "model"), "--licence", "MIT"]) == 0
    manifest = json.loads((tmp_path / "model" / "model.json").read_text())
    assert manifest["outputs"]["stride"] == 1
    photo = scene(tmp_path / "photo.png", (90, 64))
    source = wrap_source.from_onnx(
        path,
        wrap_source.read_classes(names),
        wrap_source.Preprocessing((64, 64), stretch=False),
        align_corners=True,
    )
    labels, _ = parsed(tmp_path / "model", tmp_path / "photo.png")
    assert (labels == wrap.own_labels(source, np.asarray(photo))).mean() >= AGREED
