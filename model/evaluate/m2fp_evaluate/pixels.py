"""Figures of the label map: pixels counted over all photos."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2fp_evaluate.average_precision import mean
from m2fp_evaluate.truth import IGNORE, Labels

Floats = NDArray[np.float64]


def confusion(true: Labels, found: Labels, classes: int) -> NDArray[np.int64]:
    """[classes, classes] pixels by true and found class; those that nobody judged are left out."""
    known = true != IGNORE
    pairs = true[known].astype(np.int64) * classes + found[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_ious(counts: NDArray[np.int64]) -> Floats:
    """Intersection over union of each class; NaN where a class is neither true nor found."""
    right = np.diag(counts).astype(np.float64)
    union = counts.sum(1) + counts.sum(0) - right
    return _share(right, union)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


@dataclass
class PixelScores:
    classes: int
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes), np.int64)

    def add(self, true: Labels, found: Labels) -> None:
        self.counts += confusion(true, found, self.classes)

    def ious(self) -> Floats:
        return class_ious(self.counts)

    def figures(self) -> dict[str, float]:
        """mIoU, and what ATR's authors count: accuracies, and precision, recall and F1 over the
        classes that occur. Foreground accuracy is of the pixels that are not background."""
        right = np.diag(self.counts).astype(np.float64)
        true, found = self.counts.sum(1), self.counts.sum(0)
        recall, precision = _share(right, true), _share(right, found)
        # A class that is there and never found has a precision of 0.
        precision = np.where(np.isnan(precision) & (true > 0), 0.0, precision)
        f1 = _share(2 * right, (true + found).astype(np.float64))
        total, foreground = self.counts.sum(), true[1:].sum()
        return {
            "mIoU": mean(self.ious()),
            "pixel_accuracy": float(right.sum() / total) if total else float("nan"),
            "mean_accuracy": mean(recall),
            "foreground_accuracy": float(right[1:].sum() / foreground)
            if foreground
            else float("nan"),
            "mean_precision": mean(precision),
            "mean_f1": mean(f1),
        }
