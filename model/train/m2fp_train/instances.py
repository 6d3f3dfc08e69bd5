"""People as the Lambda function finds them in the answers, and how well they are told apart.

Scores and suppression are those of `src/parsing`; average precision is that of PASCAL VOC 2010 (all
points of the curve), and over the thresholds of COCO.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from m2fp_train.classes import IGNORE, PERSON_ID
from m2fp_train.manifest import THRESHOLDS

COCO_THRESHOLDS = tuple(threshold / 100 for threshold in range(50, 100, 5))
"""IoU from which a person counts as found."""


@dataclass(frozen=True)
class FoundPerson:
    """score: probability times the mask's mean sigmoid. mask: bool [H, W]."""

    score: float
    mask: np.ndarray


def find_persons(class_logits: Tensor, masks: Tensor) -> list[FoundPerson]:
    """People, best first, after mask-NMS. class_logits [Q, 22], masks [Q, H, W] at photo size."""
    probability = class_logits.softmax(-1)[:, PERSON_ID]
    found = []
    for query in (probability > THRESHOLDS["person_score"]).nonzero()[:, 0]:
        inside = masks[query] > 0
        share = masks[query].sigmoid()[inside].sum() / (inside.sum() + 1e-6)
        found.append(FoundPerson(float(probability[query] * share), inside.numpy()))
    found.sort(key=lambda person: -person.score)
    kept: list[FoundPerson] = []
    for person in found:
        apart = all(iou(person.mask, other.mask) <= THRESHOLDS["nms_iou"] for other in kept)
        if person.score > THRESHOLDS["person_score"] and apart:
            kept.append(person)
    return kept


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


@dataclass
class InstanceScores:
    """What was found in several scenes: scores, and the IoU with each true person."""

    scores: list[float] = field(default_factory=list)
    ious: list[np.ndarray] = field(default_factory=list)
    """For each found person, its IoU with each of the true people of its scene."""
    scenes: list[int] = field(default_factory=list)
    people: int = 0
    count: int = 0

    def add(self, found: Sequence[FoundPerson], numbers: np.ndarray) -> None:
        """Count a scene with numbers uint8 [H, W].

        A person found mostly where nobody knows is left out.
        """
        known = numbers != IGNORE
        true = [numbers == number for number in np.setdiff1d(np.unique(numbers), (0, IGNORE))]
        for person in found:
            mask = person.mask & known
            if 2 * np.count_nonzero(mask) < np.count_nonzero(person.mask):
                continue
            self.scores.append(person.score)
            self.ious.append(np.array([iou(mask, other) for other in true]))
            self.scenes.append(self.count)
        self.people += len(true)
        self.count += 1

    def average_precision(self, threshold: float) -> float:
        """Area under precision, made monotonous, over recall. NaN where there is nobody to find."""
        if not self.people:
            return float("nan")
        taken: set[tuple[int, int]] = set()
        hits = []
        for index in np.argsort(-np.array(self.scores), kind="stable"):
            free = [
                (value, person)
                for person, value in enumerate(self.ious[index])
                if value >= threshold and (self.scenes[index], person) not in taken
            ]
            hits.append(bool(free))
            if free:
                taken.add((self.scenes[index], max(free)[1]))
        true_positives = np.cumsum(hits)
        precision = true_positives / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        return float(precision[np.array(hits, bool)].sum() / self.people)

    @property
    def ap50(self) -> float:
        return self.average_precision(COCO_THRESHOLDS[0])

    @property
    def ap(self) -> float:
        return float(np.mean([self.average_precision(at) for at in COCO_THRESHOLDS]))
