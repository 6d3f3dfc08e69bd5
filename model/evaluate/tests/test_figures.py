"""Every figure against the plain reading of its definition, on seeded scenes and answers."""

import math

import numpy as np
import pytest

import made
import plain
from m2fp_evaluate.average_precision import PART_THRESHOLDS, average_precision
from m2fp_evaluate.parsed_persons import ParsedPersonScores
from m2fp_evaluate.part_instances import PartScores, iou
from m2fp_evaluate.pixels import PixelScores
from m2fp_evaluate.truth import Part, Person
from m2fp_evaluate.whole_persons import WholePersonScores, encode

CLASSES = 6
SEEDS = (0, 1, 2)
EXACT = 1e-9


def same(ours: list[float], theirs: list[float | None]) -> None:
    assert ours == pytest.approx(
        [math.nan if value is None else value for value in theirs], abs=EXACT, nan_ok=True
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels(seed: int) -> None:
    scenes = made.scenes(seed, 3, CLASSES)
    answers = made.answers(seed, scenes, CLASSES)
    truths = [scene.labels for scene in scenes]
    truths[0][:3] = 255
    scores = PixelScores(CLASSES + 1)
    for truth, answer in zip(truths, answers, strict=True):
        scores.add(truth, answer.labels)
    pairs = [(truth, answer.labels) for truth, answer in zip(truths, answers, strict=True)]
    expected = plain.ious(pairs, CLASSES + 1)
    assert expected[CLASSES] is None, "a class that is nowhere is left out"
    same(scores.ious().tolist(), expected)
    assert scores.figures()["mIoU"] == pytest.approx(plain.average(expected), abs=EXACT)


def test_accuracies_of_a_hand_made_map() -> None:
    scores = PixelScores(3)
    true = np.array([[0, 0, 0, 0, 1, 1, 2, 2]], np.uint8)
    scores.add(true, np.array([[0, 0, 0, 1, 1, 0, 1, 1]], np.uint8))
    figures = scores.figures()
    assert figures["mIoU"] == pytest.approx((3 / 5 + 1 / 5 + 0) / 3)
    assert figures["pixel_accuracy"] == pytest.approx(4 / 8)
    assert figures["mean_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert figures["foreground_accuracy"] == pytest.approx(1 / 4)
    assert figures["mean_precision"] == pytest.approx((3 / 4 + 1 / 4 + 0) / 3)
    assert figures["mean_f1"] == pytest.approx((6 / 8 + 2 / 6 + 0) / 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_parsed_persons(seed: int) -> None:
    scenes = made.scenes(seed, 5, CLASSES)
    photos = []
    for scene, answer in zip(scenes, made.answers(seed, scenes, CLASSES), strict=True):
        found = [
            (score, np.where(answer.owners == number, answer.labels, 0).astype(np.uint8))
            for number, (score, _) in enumerate(answer.persons, 1)
        ]
        # A second, worse answer for somebody who is found already is wrong.
        found += [(0.9 * score, labels) for score, labels in found[:1]]
        photos.append((scene.people, found))
    photos.append(([], photos[0][1][:1]))
    scores = ParsedPersonScores(CLASSES)
    for true, found in photos:
        scores.add(true, found)
    precisions, correct = plain.parsed_persons(photos, CLASSES)
    same(scores.average_precisions().tolist(), precisions)
    same(scores.correct_parts().tolist(), list(correct))
    assert 0 < precisions[4] < precisions[0], "an answer that says something"
    figures = scores.figures()
    assert figures["APp_50"] == pytest.approx(precisions[4])
    assert figures["APp_vol"] == pytest.approx(plain.average(precisions))
    assert figures["PCP_50"] == pytest.approx(correct[4])


@pytest.mark.parametrize("seed", SEEDS)
def test_part_instances(seed: int) -> None:
    scenes = made.scenes(seed, 5, CLASSES)
    generator = np.random.default_rng(seed)
    photos = []
    for scene, answer in zip(scenes, made.answers(seed, scenes, CLASSES), strict=True):
        true = [
            (int(label), person == label)
            for person in scene.people
            for label in np.unique(person[person > 0])
        ]
        found = [
            (float(generator.random()), int(label), region)
            for number in range(1, len(answer.persons) + 1)
            for label in np.unique(answer.labels[answer.owners == number])
            if label and (region := (answer.owners == number) & (answer.labels == label)).any()
        ]
        photos.append((true, found))
    scores = PartScores(CLASSES + 1)
    for true, found in photos:
        scores.add(
            [Part(label, mask) for label, mask in true],
            [(score, Part(label, mask)) for score, label, mask in found],
        )
    expected = plain.parts(photos, CLASSES + 1)
    figures = scores.figures()
    assert 0 < expected[4] < 1
    assert figures["APr_50"] == pytest.approx(expected[4], abs=EXACT)
    assert figures["APr_vol"] == pytest.approx(plain.average(expected), abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_persons(seed: int) -> None:
    scenes = made.scenes(seed, 6, CLASSES)
    photos, scores = [], WholePersonScores()
    for number, (scene, answer) in enumerate(
        zip(scenes, made.answers(seed, scenes, CLASSES), strict=True)
    ):
        true = [person > 0 for person in scene.people]
        photos.append((true, answer.persons))
        encoded = [(score, encode(mask)) for score, mask in answer.persons]
        scores.add(number, made.SIZE, encoded)
        scores.add_true(number, [Person(mask, mask.astype(np.uint8)) for mask in true])
    figures = scores.figures()
    at = [threshold / 100 for threshold in range(50, 100, 5)]
    expected = [plain.coco_person_ap(photos, threshold) for threshold in at]
    assert figures["person_AP50"] == pytest.approx(expected[0], abs=EXACT)
    assert figures["person_AP75"] == pytest.approx(expected[5], abs=EXACT)
    assert figures["person_AP"] == pytest.approx(np.mean(expected), abs=EXACT)
    assert 0 < figures["person_AP"] < 1


def test_nobody_to_find_is_no_figure() -> None:
    assert math.isnan(ParsedPersonScores(3).figures()["APp_50"])
    assert math.isnan(PartScores(3).figures()["APr_vol"])
    assert math.isnan(WholePersonScores().figures()["person_AP"])
    assert math.isnan(PixelScores(3).figures()["mIoU"])


def test_nothing_found_is_zero() -> None:
    person = made.scenes(0, 1, CLASSES)[0].people[0]
    parsed, parts, whole = ParsedPersonScores(CLASSES), PartScores(CLASSES), WholePersonScores()
    parsed.add([person], [])
    parts.add([Part(1, person > 0)], [])
    whole.add(1, made.SIZE, [])
    whole.add_true(1, [Person(person > 0, person)])
    assert parsed.figures() == {"APp_50": 0, "APp_vol": 0, "PCP_50": 0}
    assert parts.figures() == {"APr_50": 0, "APr_vol": 0}
    assert whole.figures()["person_AP"] == 0


def test_average_precision_of_a_known_curve() -> None:
    scores, hits = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    # Recall 1/2 at precision 1, recall 1 at precision 2/3.
    assert average_precision(scores, hits, 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision(scores[::-1], hits[::-1], 4) == pytest.approx(0.25 + 0.25 * 2 / 3)


def test_thresholds_and_empty_masks() -> None:
    assert pytest.approx(plain.TENTHS) == PART_THRESHOLDS
    assert iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0
