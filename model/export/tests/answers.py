"""Answers to a photo, whoever gave them, and how they are compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2fp_export.verify import Errors, Outputs

LOGITS_TOLERANCE = 1e-4
"""Relative: ‖ours − theirs‖ / ‖theirs‖. Above it, both are held against float64, as in `verify`."""
LABELS_AGREEING = 0.999
"""Of all pixels."""
SCORE_TOLERANCE = 1e-3
MASK_IOU = 0.999
"""Of masks so small that one pixel is more than that, one pixel may differ."""
LEAST_SCORE = 0.1
"""From which parts and persons are reported."""
TOP_PAIRS = 100

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """A part or a person. mask: packed bits, as `packed` makes them."""

    class_id: int
    score: float
    mask: Bits


@dataclass(frozen=True)
class Answer:
    """class_logits [Q, C+1], mask_logits [Q, h, w], labels uint8 [H, W]; nothing suppressed."""

    class_logits: NDArray[np.float32]
    mask_logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Tolerance:
    logits: float = LOGITS_TOLERANCE
    labels: float = LABELS_AGREEING
    score: float = SCORE_TOLERANCE
    iou: float = MASK_IOU


def packed(mask: NDArray[np.bool_]) -> Bits:
    """[H, W] to bits, lowest first, rows padded to 64."""
    width = mask.shape[1]
    return np.packbits(np.pad(mask, ((0, 0), (0, -width % 64))), axis=1, bitorder="little")


def iou(a: Bits, b: Bits) -> float:
    """Two empty masks are the same."""
    union = _count(a | b)
    return _count(a & b) / union if union else 1.0


def _count(bits: Bits) -> int:
    return int(_ONES[bits].sum(dtype=np.int64))


_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def relative_error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


Exactly = Callable[[Outputs, Outputs], list[Errors]]
"""Judges our logits and theirs by those in float64."""


def assert_same_logits(
    ours: Outputs, theirs: Outputs, allowed: float, exactly: Exactly | None = None
) -> float:
    """The larger error of class and mask logits."""
    error = max(map(relative_error, ours, theirs))
    if not error <= allowed:
        assert exactly is not None, f"logits are {error} off"
        for errors in exactly(ours, theirs):
            assert errors.acceptable(allowed), f"logits are {errors}"
    return error


def assert_same(
    ours: Answer,
    theirs: Answer,
    allowed: Tolerance = Tolerance(),
    exactly: Exactly | None = None,
) -> str:
    """What was seen, in a line."""
    error = assert_same_logits(
        (ours.class_logits, ours.mask_logits),
        (theirs.class_logits, theirs.mask_logits),
        allowed.logits,
        exactly,
    )
    assert ours.labels.shape == theirs.labels.shape
    agreeing = float((ours.labels == theirs.labels).mean())
    assert agreeing >= allowed.labels, f"only {agreeing:.4%} of the label map's pixels agree"
    score, overlap = _same_lists(ours, theirs, allowed)
    return (
        f"logits {error:.1e} off; label map {1 - agreeing:.1e} of the pixels; "
        f"{len(theirs.entries)} parts and persons, scores {score:.1e}, IoU 1 − {1 - overlap:.1e}"
    )


def _same_lists(ours: Answer, theirs: Answer, allowed: Tolerance) -> tuple[float, float]:
    """The worst score and IoU of the entries, each with its own kind's best match."""
    left = list(ours.entries)
    worst_score, worst_iou = 0.0, 1.0
    unmatched = []
    for entry in sorted(theirs.entries, key=lambda entry: -entry.score):
        rivals = [other for other in left if other.class_id == entry.class_id]
        near = [other for other in rivals if abs(other.score - entry.score) <= allowed.score]
        if not near:
            unmatched.append(entry)
            continue
        overlaps = [iou(other.mask, entry.mask) for other in near]
        best = int(np.argmax(overlaps))
        one_pixel = _count(near[best].mask ^ entry.mask) <= 1
        which = f"class {entry.class_id}, score {entry.score:.4f}"
        assert overlaps[best] >= allowed.iou or one_pixel, f"{which}: IoU {overlaps[best]:.5f}"
        worst_iou = min(worst_iou, overlaps[best])
        worst_score = max(worst_score, abs(near[best].score - entry.score))
        left = [other for other in left if other is not near[best]]
    cut = _classes_at_the_cut(theirs.class_logits, allowed.score)
    for who, strangers in (("only theirs", unmatched), ("only ours", left)):
        for entry in strangers:
            # A pair at a threshold falls on either side of it.
            excused = abs(entry.score - LEAST_SCORE) <= allowed.score or entry.class_id in cut
            assert excused, f"{who}: class {entry.class_id}, score {entry.score:.4f}"
    return worst_score, worst_iou


def _classes_at_the_cut(class_logits: NDArray[np.float32], tolerance: float) -> set[int]:
    """Classes of pairs that are among the hundred best, or not, by less than `tolerance`."""
    shares = np.exp(class_logits - class_logits.max(1, keepdims=True))
    shares = (shares / shares.sum(1, keepdims=True))[:, :-1]
    order = np.sort(shares, axis=None)[::-1]
    last, next_ = order[TOP_PAIRS - 1], order[TOP_PAIRS]
    if last - next_ > tolerance:
        return set()
    near = (shares >= next_ - tolerance) & (shares <= last + tolerance)
    return set(np.nonzero(near)[1].tolist())
