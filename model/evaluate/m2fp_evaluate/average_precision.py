"""Average precision as PASCAL VOC has it since 2010: the whole area under the curve."""

import numpy as np
from numpy.typing import NDArray

PART_THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
"""IoU of the "vol" figures of human parsing, 0.1 to 0.9."""
HALF = PART_THRESHOLDS.index(0.5)


def average_precision(scores: NDArray[np.float64], hits: NDArray[np.bool_], total: int) -> float:
    """Area under precision, made monotonous, over recall.

    scores: of the answers. hits: which of them are right. total: how many there are to find; NaN
    where that is 0.
    """
    if total == 0:
        return float("nan")
    best_first = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[best_first])
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(right / total, prepend=0.0)
    return float((gained * envelope).sum())


def mean(values: NDArray[np.float64]) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
