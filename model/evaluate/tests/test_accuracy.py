"""The table of what each way to run a model costs, with the command line as built."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2fp_evaluate import accuracy
from m2fp_evaluate.__main__ import main as evaluate

ROOT = Path(__file__).parents[3]
M2FP = Path(os.environ.get("M2FP", ROOT / "target" / "release" / "m2fp"))
NANO, NANO_FLOAT = ROOT / "model" / "nano", ROOT / "model" / "nano-float"
PHOTO = ROOT / "src" / "http" / "page" / "sample.jpg"
SIZE = (1280, 720)
"""Width and height; at its native size the packaged model sees 626×352 of them."""
ROWS = ["native size", "half the size", "tiles", "flip", "JPEG of quality 50"]
MARGIN_MB = 16
"""What every plan leaves free for what no constant predicts (`MARGIN_BYTES`), such as pages of the
program's own files, of which systems bring in more or fewer at once."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photo in the form of the packaged models' data, with labels that are made up."""
    folder = tmp_path_factory.mktemp("ccp")
    for name in ("photos", "cihp20"):
        (folder / name).mkdir()
    for name in ("0003", "0004"):
        with Image.open(PHOTO) as photo:
            photo.convert("RGB").resize(SIZE).save(folder / "photos" / f"{name}.jpg", quality=95)
        labels = np.zeros(SIZE[::-1], np.uint8)
        labels[200:600, 500:800], labels[600:, :] = 5, 255
        Image.fromarray(labels).save(folder / "cihp20" / f"{name}.png")
    return folder


def test_each_row_is_the_run_that_it_is_named_after(data: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "out", tmp_path / "table.md"
    common = ["--data", f"ccp:{data}", "--model", str(NANO), "--m2fp", str(M2FP)]
    assert accuracy.main([*common, "--out", str(out), "--write", str(table)]) == 0
    text = table.read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["run", "ccp: mIoU", "peak memory (predicted), MB", "time"]
    assert [row[0] for row in rows[1:]] == ROWS
    assert "`nano` " in text and "`ccp` 1." in text

    assert evaluate([*common, "--out", str(tmp_path / "plain")]) == 0
    plain = json.loads((tmp_path / "plain" / "figures.json").read_text())["figures"]["mIoU"]
    assert rows[1][1] == f"{100 * plain:.2f}" and rows[1][3] == "1.00"
    for row in rows[2:]:
        value, difference = re.fullmatch(r"([\d.]+) \(([+−][\d.]+)\)", row[1]).groups()
        told = float(difference.replace("−", "-"))
        assert float(value) - 100 * plain == pytest.approx(told, abs=0.011)
    for row in rows[1:]:
        peak, predicted = map(int, re.fullmatch(r"(\d+) \((\d+)\)", row[2]).groups())
        assert 0 < peak <= predicted + MARGIN_MB, row

    plans = {}
    for name in ROWS:
        (report,) = (out / f"ccp-{name.replace(' ', '-')}").glob("0003.jpg.json")
        plans[name] = json.loads(report.read_text())["plan"]
    ways = {name: (plan["mode"], plan["flip"]) for name, plan in plans.items()}
    assert ways == {
        **dict.fromkeys(ROWS, ("auto", False)),
        "tiles": ("tiled", False),
        "flip": ("auto", True),
    }
    widths = [plans[name]["working_width"] for name in ROWS]
    assert widths == [626, 320, 1252, 626, 626]
    with Image.open(out / "photos" / "ccp-50" / "0003.jpg") as again:
        tables = again.quantization
    with Image.open(data / "photos" / "0003.jpg") as photo:
        photo.save(tmp_path / "50.jpg", quality=50)
    with Image.open(tmp_path / "50.jpg") as expected:
        assert tables == expected.quantization


def test_a_model_is_run_in_the_ways_that_it_can_be(tmp_path: Path) -> None:
    manifest = json.loads((NANO / "model.json").read_text())
    manifest["input"]["size"] = {"letterbox": {"width": 384, "height": 512, "fill": 128}}
    del manifest["flip_pairs"]
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    names = [way.name for way in accuracy.ways(tmp_path, NANO, tmp_path / "out")]
    floats = [way.name for way in accuracy.ways(tmp_path, NANO_FLOAT, tmp_path / "out")]
    assert names == ["native size", "8 bits", "JPEG of quality 50"]
    assert floats == ["native size", "float32", "JPEG of quality 50"]


def test_a_data_set_without_classes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("annotations", "val2017"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val2017" / "1.jpg")
    content = {
        "categories": [{"id": 1, "name": "person"}],
        "images": [{"id": 1, "file_name": "1.jpg", "width": 8, "height": 8}],
        "annotations": [],
    }
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content))
    assert accuracy.main(["--data", f"coco:{tmp_path}", "--model", str(NANO)]) == 2
    assert "coco has no classes" in capsys.readouterr().err
