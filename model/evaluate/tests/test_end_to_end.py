"""With the command line as built (`make build`) and the packaged model."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import made
import plain
from m2fp_evaluate import class_names
from m2fp_evaluate.__main__ import main

ROOT = Path(__file__).parents[3]
M2FP = Path(os.environ.get("M2FP", ROOT / "target" / "release" / "m2fp"))
PHOTO = ROOT / "src" / "http" / "page" / "sample.jpg"
"""People that the packaged model finds."""
SHRUNK = (160, 90)


def test_real_outputs_give_the_plain_readings_figures(tmp_path: Path) -> None:
    """The truth is made up and the outputs are real: their figures must be the plain reading's of
    the same files."""
    count = len(class_names.CIHP)
    scenes = made.scenes(0, 2, count)
    base = tmp_path / "data" / "Validation"
    made.write_instances(base, scenes)
    with Image.open(PHOTO) as photo:
        small = photo.convert("RGB").resize(SHRUNK)
    for number, scene in enumerate(scenes):
        small.rotate(180 * number).save(base / "Images" / f"{scene.name}.jpg")
        for folder in ("Category_ids", "Human_ids", "Instance_ids"):
            path = base / folder / f"{scene.name}.png"
            with Image.open(path) as labels:
                enlarged = labels.resize(SHRUNK, Image.Resampling.NEAREST)
            enlarged.save(path)
    out = tmp_path / "out"
    common = ["--model", str(ROOT / "model" / "nano"), "--m2fp", str(M2FP), "--out", str(out)]
    assert main(["--data", f"cihp:{tmp_path / 'data'}", *common]) == 0
    figures = json.loads((out / "figures.json").read_text())["figures"]

    pairs, whole, regions, persons = [], [], [], []
    for scene in scenes:
        labels, humans = (
            np.asarray(Image.open(base / kind / f"{scene.name}.png"))
            for kind in ("Category_ids", "Human_ids")
        )
        found, owners = (
            np.asarray(Image.open(out / f"{scene.name}.jpg.{kind}.png"))
            for kind in ("mask", "instances")
        )
        report = json.loads((out / f"{scene.name}.jpg.json").read_text())
        masks = [(p["score"], coco_mask.decode(p["rle"])) for p in report["persons"]]
        sure = {entry["id"]: entry["score"] for entry in report["classes"] if entry["score"]}
        people = [np.where(humans == n, labels, 0) for n in np.unique(humans) if n]
        pairs.append((labels, found))
        whole.append(([(humans == n).astype(int) for n in np.unique(humans) if n], masks))
        true = [(int(c), p == c) for p in people for c in np.unique(p) if c]
        own = [np.where(owners == n, found, 0) for n in range(1, len(masks) + 1)]
        cut = [
            (score * sure.get(int(c), 1.0), int(c), mine == c)
            for (score, _), mine in zip(masks, own, strict=True)
            for c in np.unique(mine)
            if c
        ]
        regions.append((true, cut))
        parsed = []
        for number, ((score, _), mine) in enumerate(zip(masks, own, strict=True), 1):
            known = [sure[int(c)] for c in np.unique(mine) if c and int(c) in sure]
            if (owners == number).any():
                parsed.append((score * sum(known) / len(known) if known else score, mine))
        persons.append((people, parsed))
    assert sum(len(masks) for _, masks in whole) >= 2, "somebody is found"
    assert figures["mIoU"] == pytest.approx(plain.average(plain.ious(pairs, count)))
    assert figures["mIoU"] > 0
    assert figures["person_AP50"] == pytest.approx(plain.coco_person_ap(whole, 0.5))
    precisions, correct = plain.parsed_persons(persons, count)
    assert figures["APp_vol"] == pytest.approx(plain.average(precisions))
    assert figures["PCP_50"] == pytest.approx(correct[4])
    assert figures["APr_vol"] == pytest.approx(plain.average(plain.parts(regions, count)))
