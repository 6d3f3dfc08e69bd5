"""AP^p and PCP (Li et al., arXiv 1705.07206): is each person found, with their parts right?"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2fp_evaluate.average_precision import HALF, PART_THRESHOLDS, average_precision, mean
from m2fp_evaluate.pixels import class_ious, confusion
from m2fp_evaluate.truth import IGNORE, Labels


@dataclass(frozen=True)
class _Match:
    """A found person and the true one it is most like.

    likeness: mean IoU over the classes of either, the background among them. right: by threshold,
    the share of the true person's parts whose own IoU is above it.
    """

    score: float
    photo: int
    person: int
    likeness: float
    right: NDArray[np.float64]


@dataclass
class ParsedPersonScores:
    classes: int
    people: int = 0
    photos: int = 0
    matches: list[_Match] = field(default_factory=list)

    def add(self, true: Sequence[Labels], found: Sequence[tuple[float, Labels]]) -> None:
        """Count a photo: each person's labels [H, W], 0 where they are not; found with a score."""
        for score, labels in found:
            ious = [class_ious(confusion(person, labels, self.classes)) for person in true]
            likeness = [mean(values) for values in ious]
            best = int(np.argmax(likeness)) if likeness else -1
            if best < 0:
                nothing = np.zeros(len(PART_THRESHOLDS))
                self.matches.append(_Match(score, self.photos, best, -1.0, nothing))
                continue
            right = _parts_right(true[best], ious[best])
            self.matches.append(_Match(score, self.photos, best, likeness[best], right))
        self.people += len(true)
        self.photos += 1

    def average_precisions(self) -> NDArray[np.float64]:
        """By threshold. Of two answers that are most like one person the better is right."""
        scores = np.array([match.score for match in self.matches])
        values = []
        for threshold in PART_THRESHOLDS:
            hits = np.zeros(len(self.matches), bool)
            hits[[index for index, _ in self._hits(threshold)]] = True
            values.append(average_precision(scores, hits, self.people))
        return np.array(values)

    def correct_parts(self) -> NDArray[np.float64]:
        """PCP by threshold: of each person the share of parts that are right, none of one that is
        not found; its mean over the people."""
        if not self.people:
            return np.full(len(PART_THRESHOLDS), np.nan)
        sums = [
            sum(match.right[index] for _, match in self._hits(threshold))
            for index, threshold in enumerate(PART_THRESHOLDS)
        ]
        return np.array(sums, np.float64) / self.people

    def _hits(self, threshold: float) -> list[tuple[int, _Match]]:
        taken: set[tuple[int, int]] = set()
        hits = []
        for index, match in sorted(enumerate(self.matches), key=lambda entry: -entry[1].score):
            place = (match.photo, match.person)
            if match.likeness > threshold and place not in taken:
                taken.add(place)
                hits.append((index, match))
        return hits

    def figures(self) -> dict[str, float]:
        precisions = self.average_precisions()
        return {
            "APp_50": float(precisions[HALF]),
            "APp_vol": mean(precisions),
            "PCP_50": float(self.correct_parts()[HALF]),
        }


def _parts_right(person: Labels, ious: NDArray[np.float64]) -> NDArray[np.float64]:
    """By threshold, the share of a true person's parts whose IoU is above it."""
    parts = np.setdiff1d(np.unique(person), (0, IGNORE)).size
    if parts == 0:
        return np.zeros(len(PART_THRESHOLDS))
    # A class that is only found has an IoU of 0, which is above none.
    return np.array([np.count_nonzero(ious[1:] > at) for at in PART_THRESHOLDS]) / parts
