"""AP^r (Hariharan et al., ECCV 2014) of parts, as CIHP's own code counts it.

Of a class, each found region is right whose IoU with any true one is above the threshold. Unlike in
the paper two that are most like the same true region are both right; what people are told apart by
never overlaps, so that this matters below 0.5 alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2fp_evaluate.average_precision import HALF, PART_THRESHOLDS, average_precision, mean
from m2fp_evaluate.truth import Mask, Part


@dataclass
class PartScores:
    """totals: true regions by class. scores, likeness: of what was found, by class."""

    classes: int
    totals: NDArray[np.int64] = field(init=False)
    scores: list[list[float]] = field(init=False)
    likeness: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.totals = np.zeros(self.classes, np.int64)
        self.scores = [[] for _ in range(self.classes)]
        self.likeness = [[] for _ in range(self.classes)]

    def add(self, true: Sequence[Part], found: Sequence[tuple[float, Part]]) -> None:
        """Count a photo."""
        for part in true:
            self.totals[part.class_id] += 1
        for score, part in found:
            same = [other.mask for other in true if other.class_id == part.class_id]
            self.scores[part.class_id].append(score)
            self.likeness[part.class_id].append(max((iou(part.mask, m) for m in same), default=0.0))

    def average_precisions(self) -> NDArray[np.float64]:
        """[classes, thresholds]; NaN for the background and classes that are nowhere."""
        values = np.full((self.classes, len(PART_THRESHOLDS)), np.nan)
        for class_id in range(1, self.classes):
            scores = np.array(self.scores[class_id])
            likeness = np.array(self.likeness[class_id])
            for index, threshold in enumerate(PART_THRESHOLDS):
                hits = likeness > threshold
                values[class_id, index] = average_precision(scores, hits, self.totals[class_id])
        return values

    def figures(self) -> dict[str, float]:
        by_threshold = [mean(column) for column in self.average_precisions().T]
        return {"APr_50": by_threshold[HALF], "APr_vol": mean(np.array(by_threshold))}


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0
