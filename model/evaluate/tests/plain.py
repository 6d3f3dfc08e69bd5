"""The published definitions read plainly: sets of pixels and loops, nothing of the package.

mIoU: Long et al., CVPR 2015. AP^p, PCP: Li et al., arXiv 1705.07206. AP^r: Hariharan et al., ECCV
2014, with CIHP's rule that a region may be right twice. AP: PASCAL VOC 2010. Person AP: COCO's page
on detection metrics.
"""

from collections.abc import Iterable, Sequence

import numpy as np

Pixels = set[tuple[int, int]]
TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def pixels_of(labels: np.ndarray, label: int) -> Pixels:
    return {(int(y), int(x)) for y, x in np.argwhere(labels == label)}


def overlap(a: Pixels, b: Pixels) -> float | None:
    """None where both are empty."""
    return len(a & b) / len(a | b) if a or b else None


def average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def ious(photos: Sequence[tuple[np.ndarray, np.ndarray]], classes: int) -> list[float | None]:
    """By class, over (true, found) label maps; a true 255 is not judged."""
    answers = []
    for label in range(classes):
        true, found = set(), set()
        for number, (truth, answer) in enumerate(photos):
            unknown = pixels_of(truth, 255)
            true |= {(number, *place) for place in pixels_of(truth, label)}
            found |= {(number, *place) for place in pixels_of(answer, label) - unknown}
        answers.append(overlap(true, found))
    return answers


def voc(answers: list[tuple[float, bool]], total: int) -> float | None:
    """Area under the curve of (score, right): at each recall the best precision from there on."""
    if total == 0:
        return None
    ranked = [right for _, right in sorted(answers, key=lambda answer: -answer[0])]
    points = []
    for end in range(1, len(ranked) + 1):
        right = sum(ranked[:end])
        points.append((right / total, right / end))
    area, before = 0.0, 0.0
    for recall, _ in points:
        if recall > before:
            best = max(precision for other, precision in points if other >= recall)
            area += (recall - before) * best
            before = recall
    return area


def person_likeness(true: np.ndarray, found: np.ndarray, classes: int) -> float | None:
    return average(ious([(true, found)], classes))


def parsed_persons(
    photos: Sequence[tuple[list[np.ndarray], list[tuple[float, np.ndarray]]]], classes: int
) -> tuple[list[float | None], list[float]]:
    """AP^p and PCP by threshold, of (true people, found people with scores) in each photo."""
    precisions, correct = [], []
    people = sum(len(true) for true, _ in photos)
    ranked = []
    for number, (true, found) in enumerate(photos):
        for score, labels in found:
            likeness = [person_likeness(person, labels, classes) or 0.0 for person in true]
            ranked.append((score, number, labels, likeness))
    ranked.sort(key=lambda answer: -answer[0])
    for threshold in TENTHS:
        found_already, answers, shares = set(), [], 0.0
        for score, number, labels, likeness in ranked:
            true = photos[number][0]
            best = max(range(len(true)), key=lambda index: likeness[index], default=None)
            right = (
                best is not None
                and likeness[best] > threshold
                and (number, best) not in found_already
            )
            if right:
                found_already.add((number, best))
                person = true[best]
                parts = {int(label) for label in np.unique(person)} - {0, 255}
                good = [
                    part
                    for part in parts
                    if (ious([(person, labels)], classes)[part] or 0.0) > threshold
                ]
                shares += len(good) / len(parts) if parts else 0.0
            answers.append((score, right))
        precisions.append(voc(answers, people))
        correct.append(shares / people)
    return precisions, correct


def parts(
    photos: Sequence[tuple[list[tuple[int, np.ndarray]], list[tuple[float, int, np.ndarray]]]],
    classes: int,
) -> list[float | None]:
    """AP^r by threshold, of true (class, mask) and found (score, class, mask) in each photo."""
    by_threshold = []
    for threshold in TENTHS:
        values = []
        for label in range(1, classes):
            answers, total = [], 0
            for true, found in photos:
                regions = [pixels_of(mask, 1) for other, mask in true if other == label]
                total += len(regions)
                for score, other, mask in found:
                    if other == label:
                        own = pixels_of(mask, 1)
                        best = max((overlap(own, region) or 0 for region in regions), default=0)
                        answers.append((score, best > threshold))
            values.append(voc(answers, total))
        by_threshold.append(average(values))
    return by_threshold


def coco_person_ap(
    photos: Sequence[tuple[list[np.ndarray], list[tuple[float, np.ndarray]]]], threshold: float
) -> float:
    """At one IoU: the mean of the best precision at 101 recalls. No crowds, any area."""
    answers, total = [], 0
    for true, found in photos:
        free = [pixels_of(mask, 1) for mask in true]
        total += len(free)
        for score, mask in sorted(found, key=lambda answer: -answer[0]):
            own = pixels_of(mask, 1)
            best = max(free, key=lambda region: overlap(own, region) or 0, default=None)
            right = best is not None and (overlap(own, best) or 0) >= threshold
            if right:
                free.remove(best)
            answers.append((score, right))
    ranked = [right for _, right in sorted(answers, key=lambda answer: -answer[0])]
    points = []
    for end in range(1, len(ranked) + 1):
        right = sum(ranked[:end])
        points.append((right / total, right / end))
    heights = [
        max((precision for recall, precision in points if recall >= level), default=0.0)
        for level in np.linspace(0, 1, 101)
    ]
    return sum(heights) / len(heights)
