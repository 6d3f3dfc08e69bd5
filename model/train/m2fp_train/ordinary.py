"""Ordinary photos in which people are outlined, and COCO's measures of what is found there.

Layout of the folder: `photos/NAME.jpg`, and `people.json`: of each photo the masks of its people
and the regions of crowds that nobody told apart, as COCO's RLE.
"""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from m2fp_train.instances import FoundPerson

Rle = dict[str, Any]
PERSON_CATEGORY = 1
AREAS = {"all": 0, "large": 3}
"""Place of a range of areas in COCO's tables; large people have more than 96 x 96 pixels."""


@dataclass(frozen=True)
class OrdinaryPhoto:
    """people and crowds: COCO RLE of the size of the photo. licence: its number in COCO."""

    path: Path
    people: list[Rle]
    crowds: list[Rle]
    licence: int

    def image(self) -> np.ndarray:
        """uint8 RGB [H, W, 3]."""
        with Image.open(self.path) as photo:
            return np.asarray(photo.convert("RGB"))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        with Image.open(self.path) as photo:
            return photo.height, photo.width

    @property
    def shows_nobody(self) -> bool:
        return not self.people and not self.crowds


def read_ordinary(folder: Path) -> list[OrdinaryPhoto]:
    """All photos of a folder, in the order of `people.json`."""
    return [
        OrdinaryPhoto(
            folder / "photos" / entry["file"], entry["people"], entry["crowd"], entry["licence"]
        )
        for entry in json.loads((folder / "people.json").read_text())
    ]


def anywhere(masks: Sequence[Rle], shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W]: where any of the masks is."""
    if not masks:
        return np.zeros(shape, bool)
    return coco_mask.decode(coco_mask.merge(masks)).astype(bool)


@dataclass(frozen=True)
class PersonPrecision:
    """COCO's average precision of people's masks, by pycocotools; NaN where there is nobody.

    ap50: at IoU 0.5. ap: mean over IoU 0.50 to 0.95. large: of people above 96 x 96 pixels alone.
    """

    ap50: float
    ap: float
    large_ap50: float
    large_ap: float


def person_precision(
    photos: Sequence[OrdinaryPhoto], found: Sequence[Sequence[FoundPerson]]
) -> PersonPrecision:
    """Of what was `found` in each photo, at its size. Who is found in a crowd does not count."""
    images, annotations, results = [], [], []
    for number, (photo, persons) in enumerate(zip(photos, found, strict=True), start=1):
        height, width = photo.shape
        images.append({"id": number, "height": height, "width": width})
        for crowd, masks in enumerate((photo.people, photo.crowds)):
            for rle in masks:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": PERSON_CATEGORY,
                        "iscrowd": crowd,
                        "segmentation": rle,
                        "area": float(coco_mask.area(rle)),
                        "bbox": coco_mask.toBbox(rle).tolist(),
                    }
                )
        for person in persons:
            rle = coco_mask.encode(np.asfortranarray(person.mask, np.uint8))
            results.append(
                {
                    "image_id": number,
                    "category_id": PERSON_CATEGORY,
                    "score": person.score,
                    "segmentation": rle,
                }
            )
    if not any(photo.people for photo in photos):
        return PersonPrecision(*[float("nan")] * 4)
    if not results:
        return PersonPrecision(0.0, 0.0, 0.0, 0.0)
    # pycocotools tells its progress on the standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": PERSON_CATEGORY, "name": "person"}],
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "segm")
        judge.evaluate()
        judge.accumulate()
    table = judge.eval["precision"]  # [IoU, recall, category, area, detections]
    figures = []
    for area in AREAS.values():
        values = table[:, :, 0, area, -1]
        values = np.where(values < 0, np.nan, values)  # -1: nobody of such an area
        figures += [float(values[0].mean()), float(values.mean())]
    return PersonPrecision(*figures)


@dataclass
class PeoplePixels:
    """Pixels of people, whosever, counted over photos; a crowd's pixels are left out."""

    intersection: int = 0
    union: int = 0

    def add(self, found: np.ndarray, photo: OrdinaryPhoto) -> None:
        """found: bool [H, W], where anybody was found."""
        judged = ~anywhere(photo.crowds, found.shape)
        true = anywhere(photo.people, found.shape) & judged
        found = found & judged
        self.intersection += np.count_nonzero(found & true)
        self.union += np.count_nonzero(found | true)

    @property
    def iou(self) -> float:
        return self.intersection / self.union if self.union else float("nan")
