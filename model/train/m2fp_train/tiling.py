"""Measures what tiles bring: `m2fp parse --mode tiled` against `--mode auto` on composed scenes.

`python -m m2fp_train.tiling --m2fp target/release/m2fp`. Scenes and labels are made from photos
that the model was not to be trained on (`ccp.VALIDATION_DIGIT`). A third run sees the whole photo
at the tiles' own size, with a copy of the model whose size rule allows it: what differs from it is
what the seams cost.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from m2fp_train.augment import Rng
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import BACKGROUND_ID, IGNORE, PERSON_ID
from m2fp_train.compose import ComposedScene, compose, random_background
from m2fp_train.evaluate import PixelScores
from m2fp_train.instances import FoundPerson
from m2fp_train.program import Program
from m2fp_train.scene import Box

BUCKETS = (60, 120, 240, 480, 960, 1500)
"""Heights of people in photo pixels; neighbours bound a bucket."""
PEOPLE_PER_BUCKET = (6, 5, 4, 2, 1)
"""How many people of each bucket are tried to place in a scene."""
MARGIN = 0.1
"""What is judged around a person, in heights: what is labelled beside it is wrong."""
SCENE_SIZE = (3000, 2000)
FOUND_IOU = 0.5
"""IoU of the masks from which a person counts as found."""


@dataclass
class Tally(PixelScores):
    """Pixels counted over people, and how many of the people are among the persons."""

    people: int = 0
    found: int = 0

    def add_person(self, found: np.ndarray, true: np.ndarray) -> None:
        """Count the labels of pixels that can be judged around one person."""
        self.people += 1
        self.count_parts(found, true)
        self.count(PERSON_ID, found != BACKGROUND_ID, true != BACKGROUND_ID)

    @property
    def foreground_iou(self) -> float:
        """Of people against background, by the labels."""
        return self.person_iou


def bucket_of(height: int) -> int:
    """Which bucket a height falls in."""
    return int(np.searchsorted(BUCKETS, height, side="right")) - 1


def scene_heights(rng: Rng) -> list[int]:
    """Heights of the people of one scene, evenly in their logarithm within each bucket."""
    heights: list[int] = []
    for (low, high), count in zip(pairwise(BUCKETS), PEOPLE_PER_BUCKET, strict=True):
        drawn = np.exp(rng.uniform(np.log(low), np.log(high), count))
        heights += [min(int(height), high - 1) for height in drawn]
    return heights


def count_people(tallies: list[Tally], scene: ComposedScene, labels: np.ndarray) -> None:
    """Count each person's own pixels and the background around it."""
    for number, person in enumerate(scene.people, start=1):
        area = _around(person.box, round(person.height * MARGIN), labels.shape)
        owner, true = scene.scene.numbers[area], scene.scene.parts[area]
        judged = ((owner == number) | (owner == 0)) & (true != IGNORE)
        tally = tallies[bucket_of(person.height)]
        tally.add_person(labels[area][judged], true[judged])


def count_found(tallies: list[Tally], scene: ComposedScene, persons: Sequence[FoundPerson]) -> int:
    """Count the people who are among the persons, each once, as average precision does.

    Returns how many persons are nobody, or somebody a second time.
    """
    numbers, size = scene.scene.numbers, len(scene.people) + 1
    areas = np.bincount(numbers[numbers != IGNORE], minlength=size)
    missing, wrong = set(range(1, size)), 0
    for person in sorted(persons, key=lambda person: -person.score):
        owners = numbers[person.mask & (numbers != IGNORE)]
        common = np.bincount(owners, minlength=size)
        ious = common / np.maximum(areas + owners.size - common, 1)
        best = max(missing, key=lambda number: ious[number], default=0)
        if best and ious[best] >= FOUND_IOU:
            missing.remove(best)
            tallies[bucket_of(scene.people[best - 1].height)].found += 1
        else:
            wrong += 1
    return wrong


def _around(box: Box, margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    left, top, right, bottom = box
    rows = slice(max(0, top - margin), min(shape[0], bottom + margin))
    return rows, slice(max(0, left - margin), min(shape[1], right + margin))


def twice_the_size(model: Path, folder: Path) -> Path:
    """A copy of a model folder that sees photos whole at twice the native size."""
    manifest = json.loads((model / "model.json").read_text())
    size = manifest["input"]["size"]
    size["min_side"], size["max_side"] = 2 * size["min_side"], 2 * size["max_side"]
    (folder / "model.json").write_text(json.dumps(manifest))
    for file in manifest["files"]:
        (folder / file["path"]).symlink_to((model / file["path"]).resolve())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="m2fp_train.tiling", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--m2fp", type=Path, default=Path("target/release/m2fp"))
    parser.add_argument("--model", type=Path, default=Path("model/nano"))
    parser.add_argument("--nobody", default="34501842524_3c858b3080_k.jpg", help="background")
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = ClothingCoParsing(arguments.data / "ccp")
    people = [data.load(number) for number in data.validation]
    with Image.open(arguments.data / "photos" / arguments.nobody) as photo:
        background = np.asarray(photo.convert("RGB"))

    runs = {"auto": [], "tiled": [], "whole at the tiles' size": []}
    tallies = {run: [Tally() for _ in BUCKETS[1:]] for run in runs}
    wrong = dict.fromkeys(runs, 0)
    agreements: list[float] = []
    with tempfile.TemporaryDirectory() as twice:
        own = Program(arguments.m2fp, arguments.model)
        large = Program(arguments.m2fp, twice_the_size(arguments.model, Path(twice)))
        for index in range(arguments.scenes):
            rng = np.random.default_rng((arguments.seed, index))
            scene = compose(
                rng, random_background(rng, background, SCENE_SIZE), people, scene_heights(rng)
            )
            labels = {}
            for run, (program, mode) in {
                "auto": (own, "auto"),
                "tiled": (own, "tiled"),
                "whole at the tiles' size": (large, "auto"),
            }.items():
                (parsed,) = program.parse([scene.scene.image], "--mode", mode)
                labels[run] = parsed.labels
                runs[run].append(parsed.report)
                count_people(tallies[run], scene, labels[run])
                wrong[run] += count_found(tallies[run], scene, parsed.persons)
            agreements.append(float((labels["tiled"] == labels["whole at the tiles' size"]).mean()))

    for run, reports in runs.items():
        plan = reports[0]["plan"]
        seconds = np.median([report["timings_ms"]["total"] for report in reports]) / 1e3
        peak = max(report["memory"]["peak_rss_mb"] for report in reports)
        size = f"{plan['working_width']}x{plan['working_height']} in {plan['tiles']}"
        memory = f"{peak} MB of {plan['predicted_peak_mb']} predicted"
        print(f"{run}: {size}, {seconds:.2f} s, {memory}, {wrong[run]} persons who are nobody")
    header = " | ".join(f"{run}: mIoU, people IoU, found" for run in runs)
    print(f"| height, px | people | {header} |")
    print("|---|---|" + "---|" * len(runs))
    for bucket, (low, high) in enumerate(pairwise(BUCKETS)):
        own = [tallies[run][bucket] for run in runs]
        cells = " | ".join(
            f"{tally.mean_iou:.3f}, {tally.foreground_iou:.3f}, {tally.found}" for tally in own
        )
        print(f"| {low}-{high} | {own[0].people} | {cells} |")
    print(f"same label, tiled and whole at the tiles' size: {np.mean(agreements):.4%} of pixels")


if __name__ == "__main__":
    main()
