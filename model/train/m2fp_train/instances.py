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

LEAST_SCORE = 0.02
"""Persons of a score above this count in average precision: a curve needs those on its tail."""

SMALLEST_STEP = 1e-6
NEWTON_STEPS = 20
RIDGE = 1.0
"""Pull of the scores towards what they were, in people found: few cannot turn them over."""


@dataclass(frozen=True)
class FoundPerson:
    """score: probability times the mask's mean sigmoid. mask: bool [H, W]."""

    score: float
    mask: np.ndarray


def find_persons(class_logits: Tensor, masks: Tensor, least: float) -> list[FoundPerson]:
    """People of a score above `least`, best first, after mask-NMS.

    class_logits [Q, 22], masks [Q, H, W] at photo size.
    """
    probability = class_logits.softmax(-1)[:, PERSON_ID]
    found = []
    for query in (probability > least).nonzero()[:, 0]:
        inside = masks[query] > 0
        share = masks[query].sigmoid()[inside].sum() / (inside.sum() + 1e-6)
        found.append(FoundPerson(float(probability[query] * share), inside.numpy()))
    found.sort(key=lambda person: -person.score)
    kept: list[FoundPerson] = []
    for person in found:
        apart = all(iou(person.mask, other.mask) <= THRESHOLDS["nms_iou"] for other in kept)
        if person.score > least and apart:
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

    def hits(self, threshold: float) -> np.ndarray:
        """bool [found], best first: whether it is a person whom no better one was, at this IoU."""
        taken: set[tuple[int, int]] = set()
        hits = []
        for index in self._order():
            free = [
                (value, person)
                for person, value in enumerate(self.ious[index])
                if value >= threshold and (self.scenes[index], person) not in taken
            ]
            hits.append(bool(free))
            if free:
                taken.add((self.scenes[index], max(free)[1]))
        return np.array(hits, bool)

    def average_precision(self, threshold: float) -> float:
        """Area under precision, made monotonous, over recall. NaN where there is nobody to find."""
        if not self.people:
            return float("nan")
        hits = self.hits(threshold)
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        return float(precision[hits].sum() / self.people)

    def confidence(self) -> tuple[float, float]:
        """Scale and shift of a score's logit that make it the chance of a hit at IoU 0.5.

        Platt's scaling, by Newton's method, whose steps are halved where they would go too far.
        """
        scores = np.clip(np.array(self.scores)[self._order()], 1e-6, 1 - 1e-6)
        inputs = np.stack([np.log(scores / (1 - scores)), np.ones_like(scores)], 1)
        hits = self.hits(COCO_THRESHOLDS[0])
        fitted = np.array([1.0, 0.0])

        def cost(values: np.ndarray) -> float:
            logits = inputs @ values
            missed = np.logaddexp(0, logits) - hits * logits
            return float(missed.sum() + RIDGE * ((values - (1, 0)) ** 2).sum() / 2)

        for _ in range(NEWTON_STEPS):
            chance = 1 / (1 + np.exp(-inputs @ fitted))
            slope = inputs.T @ (chance - hits) + RIDGE * (fitted - (1, 0))
            curve = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + RIDGE * np.eye(2)
            step = np.linalg.solve(curve, slope)
            while cost(fitted - step) > cost(fitted) and np.abs(step).max() > SMALLEST_STEP:
                step /= 2
            fitted = fitted - step
        return float(fitted[0]), float(fitted[1])

    def _order(self) -> np.ndarray:
        return np.argsort(-np.array(self.scores), kind="stable")

    @property
    def ap50(self) -> float:
        return self.average_precision(COCO_THRESHOLDS[0])

    @property
    def ap(self) -> float:
        return float(np.mean([self.average_precision(at) for at in COCO_THRESHOLDS]))
