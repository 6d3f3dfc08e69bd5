"""Person AP: COCO's, by pycocotools."""

import contextlib
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from m2fp_evaluate.truth import Mask, Person

Rle = dict[str, Any]

FIGURES = {
    "person_AP": 0,
    "person_AP50": 1,
    "person_AP75": 2,
    "person_AP_small": 3,
    "person_AP_medium": 4,
    "person_AP_large": 5,
}
"""Places in COCOeval's list of figures."""
UNDEFINED = -1
"""What COCOeval says where there is nobody to find."""


@dataclass
class WholePersonScores:
    """images: their ids. annotations and answers: as COCO has them."""

    category: int = 1
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, content: dict[str, Any]) -> "WholePersonScores":
        """With a COCO file's annotations; its images are those that answers are added to."""
        return cls(content["categories"][0]["id"], annotations=content["annotations"])

    def add(self, image: int, size: tuple[int, int], found: list[tuple[float, Rle]]) -> None:
        """Count a photo of (height, width) whose people are annotated."""
        self.images.append({"id": image, "height": size[0], "width": size[1]})
        for score, rle in found:
            entry = {"image_id": image, "category_id": self.category, "score": score}
            self.answers.append({**entry, "segmentation": rle})

    def add_true(self, image: int, persons: list[Person]) -> None:
        for person in persons:
            rle = encode(person.mask)
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image,
                    "category_id": self.category,
                    "iscrowd": 0,
                    "segmentation": rle,
                    "area": float(coco_mask.area(rle)),
                    "bbox": [float(side) for side in coco_mask.toBbox(rle)],
                }
            )

    def figures(self) -> dict[str, float]:
        shown = {image["id"] for image in self.images}
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": self.images,
            "annotations": [entry for entry in self.annotations if entry["image_id"] in shown],
            "categories": [{"id": self.category, "name": "person"}],
        }
        # It reports on standard output what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            if not truth.dataset["annotations"]:
                return dict.fromkeys(FIGURES, float("nan"))
            if not self.answers:
                return dict.fromkeys(FIGURES, 0.0)
            evaluation = COCOeval(truth, truth.loadRes(self.answers), "segm")
            evaluation.params.imgIds = sorted(shown)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        values = {name: float(evaluation.stats[place]) for name, place in FIGURES.items()}
        return {k: float("nan") if v == UNDEFINED else v for k, v in values.items()}


def encode(mask: Mask) -> Rle:
    """COCO RLE of bool [H, W], with text that JSON can hold."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
