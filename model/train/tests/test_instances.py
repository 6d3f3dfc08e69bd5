import numpy as np
import pytest
import torch

from m2fp_train.classes import IGNORE, NUM_CLASSES, PERSON_ID
from m2fp_train.instances import FoundPerson, InstanceScores, find_persons

NUMBERS = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, IGNORE]], np.uint8)


def person(score: float, *pixels: int) -> FoundPerson:
    mask = np.zeros((1, 10), bool)
    mask[0, list(pixels)] = True
    return FoundPerson(score, mask)


def test_both_found_is_perfect_and_unknown_pixels_are_free() -> None:
    scores = InstanceScores()
    scores.add([person(0.9, 0, 1, 2, 3), person(0.5, 5, 6, 7, 8, 9), person(0.7, 9)], NUMBERS)
    assert scores.ap50 == scores.ap == 1 and scores.people == 2


def test_finding_somebody_twice_or_nobody_costs() -> None:
    scores = InstanceScores()
    scores.add([person(0.9, 0, 1, 2, 3), person(0.8, 1, 2, 3), person(0.7, 5, 6, 7, 8)], NUMBERS)
    assert scores.ap50 == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    missed = InstanceScores()
    missed.add([], NUMBERS)
    assert missed.ap50 == 0 and np.isnan(InstanceScores().ap50)


def test_a_stricter_threshold_wants_a_better_mask() -> None:
    scores = InstanceScores()
    scores.add([person(0.9, 0, 1, 2), person(0.8, 5, 6, 7)], NUMBERS)  # IoU 0.75
    assert scores.ap50 == 1 and scores.ap == pytest.approx(6 / 10)


def test_people_in_other_scenes_are_other_people() -> None:
    scores = InstanceScores()
    scores.add([person(0.9, 0, 1, 2, 3)], NUMBERS)
    scores.add([person(0.8, 0, 1, 2, 3)], NUMBERS)
    assert scores.ap50 == 0.5


def test_persons_are_found_as_the_function_finds_them() -> None:
    classes = torch.full((4, NUM_CLASSES + 1), -20.0)
    classes[:, -1] = 0
    classes[:, PERSON_ID] = torch.tensor([1.0, 2.0, 0.0, -5.0])
    masks = torch.full((4, 1, 10), -3.0)
    masks[0, 0, :4], masks[1, 0, :4], masks[2, 0, 5:], masks[3, 0, 9:] = 3, 3, 3, 3
    found = find_persons(classes, masks, 0.1)
    inside = torch.tensor(3.0).sigmoid()
    expected = [float(torch.tensor(logit).sigmoid() * inside) for logit in (2.0, 0.0)]
    assert [person.score for person in found] == pytest.approx(expected)
    assert [np.count_nonzero(person.mask) for person in found] == [4, 5]


def test_confidence_is_how_often_such_a_score_is_right() -> None:
    scores = InstanceScores()
    for index in range(400):  # scores of 0.2 are right half the time, of 0.8 always but once in 20
        right = index % 2 == 0 if index < 200 else index % 20 > 0
        found = person(0.2 if index < 200 else 0.8, *((0, 1, 2, 3) if right else (4,)))
        scores.add([found], NUMBERS)
    scale, shift = scores.confidence()
    chances = [1 / (1 + np.exp(-(np.log(s / (1 - s)) * scale + shift))) for s in (0.2, 0.8)]
    assert chances == pytest.approx([0.5, 0.95], abs=0.02)


def test_confidence_of_scores_that_are_all_too_low() -> None:
    scores = InstanceScores()
    for index in range(400):
        right = index % 4 > 0 if index < 200 else index % 20 > 0
        found = person(0.01 if index < 200 else 0.03, *((0, 1, 2, 3) if right else (4,)))
        scores.add([found], NUMBERS)
    scale, shift = scores.confidence()
    chances = [1 / (1 + np.exp(-(np.log(s / (1 - s)) * scale + shift))) for s in (0.01, 0.03)]
    assert chances == pytest.approx([0.75, 0.95], abs=0.1)
