from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import BACKGROUND_ID, IGNORE, PERSON_ID
from m2fp_train.evaluate import PartScores, Patchwork, PixelScores, anywhere, evaluate
from m2fp_train.instances import FoundPerson
from m2fp_train.ordinary import OrdinaryPhoto
from m2fp_train.program import Parsed
from m2fp_train.scene import Scene
from synthetic import class_id


def answer(labels: np.ndarray, owners: np.ndarray, scores: Iterable[float] | None = None) -> Parsed:
    """An answer in which nobody overlaps; scores by number, 1 where none are given."""
    labels, owners = (np.where(array == IGNORE, 0, array) for array in (labels, owners))
    people = owners.max()
    scores = [1.0] * people if scores is None else list(scores)
    persons = [FoundPerson(scores[n - 1], owners == n) for n in range(1, people + 1)]
    return Parsed(labels.astype(np.uint8), owners.astype(np.uint8), persons, {})


def two_people(scene: Scene) -> Scene:
    beside = Scene(scene.image, scene.parts, np.where(scene.numbers == 1, 2, scene.numbers))
    return Scene(
        *(
            np.concatenate(pair, 1)
            for pair in zip(vars(scene).values(), vars(beside).values(), strict=True)
        )
    )


def test_who_knows_the_answer_scores_one(scene: Scene) -> None:
    scores = PixelScores()
    scores.add(answer(scene.parts, scene.numbers), scene)
    assert scores.mean_iou == 1 and scores.person_iou == 1
    assert np.isnan(scores.iou[class_id("Hat")]), "a class that is nowhere has no figure"


def test_a_wrong_answer_scores_nothing(scene: Scene) -> None:
    scores = PixelScores()
    wrong = np.full_like(scene.parts, class_id("Dress"))
    scores.add(answer(wrong, np.where(scene.person == 1, 0, 1)), scene)
    assert scores.mean_iou == 0 and scores.person_iou == 0


def test_figures_add_up_over_photos(scene: Scene) -> None:
    scores = PixelScores()
    scores.add(answer(scene.parts, scene.numbers), scene)
    scores.add(answer(scene.parts, np.zeros_like(scene.numbers)), scene)
    assert scores.iou[PERSON_ID] == 1 / 2


def test_parts_of_the_wrong_person_are_wrong(scene: Scene) -> None:
    pair = two_people(scene)
    right, merged = PartScores(), PartScores()
    right.add(answer(pair.parts, pair.numbers), pair)
    merged.add(answer(pair.parts, (pair.person == 1).astype(int)), pair)
    assert right.ap50 == 1 and np.isnan(right.precision(0.5)[BACKGROUND_ID])
    assert merged.ap50 == pytest.approx(0.5), "one of two is found, at an IoU of just a half"
    assert np.nanmax(merged.precision(0.6)) == 0


def test_a_part_nobody_owns_is_not_found(scene: Scene) -> None:
    scores = PartScores()
    scores.add(answer(scene.parts, np.zeros_like(scene.numbers)), scene)
    assert scores.ap50 == 0


class Stub:
    """A program that says the same of every picture, and keeps what it was asked."""

    def __init__(self, label: int, people: int) -> None:
        self.label, self.people = label, people
        self.options: list[tuple[str, ...]] = []

    def parse(self, pictures: Iterable[np.ndarray], *options: str) -> Iterator[Parsed]:
        self.options.append(options)
        for picture in pictures:
            everywhere = np.ones(picture.shape[:2], np.uint8)
            yield answer(everywhere * self.label, everywhere * self.people)


def test_who_sees_nobody_finds_nobody(
    ccp: ClothingCoParsing, ordinary: list[OrdinaryPhoto]
) -> None:
    seen = evaluate(Stub(BACKGROUND_ID, 0), ccp, 3, ordinary)
    assert seen.pixels.person_iou == 0 and seen.nobody.persons == 0 and seen.nobody.false_area == 0
    assert [scores.ap50 for scores in seen.told_apart] == [0, 0]
    assert seen.ordinary.precision.ap50 == 0 and seen.ordinary.pixels.iou == 0
    assert (seen.ordinary.nobody, seen.ordinary.false_persons) == (1, 0)
    assert 6 <= seen.told_apart[0].people <= 12 and 12 < seen.told_apart[1].people <= 18


def test_who_sees_somebody_everywhere_sees_them_where_nobody_is(
    ccp: ClothingCoParsing, ordinary: list[OrdinaryPhoto]
) -> None:
    stub = Stub(class_id("Dress"), 1)
    seen = evaluate(stub, ccp, 3, ordinary)
    assert seen.nobody.persons == 3 and seen.nobody.false_area == 1
    assert seen.accuracy()["false_area"] == 1 and "scenes of 2–4" in seen.accuracy()["measured_on"]
    assert "| Human |" in seen.tables() and "3 persons seen, 100.00%" in seen.tables()
    assert (seen.ordinary.people, seen.ordinary.nobody, seen.ordinary.false_persons) == (2, 1, 1)
    assert "1 persons seen in 1 photos of nobody" in seen.tables()
    # Faint persons count in a curve, and in nothing else.
    faint = ("--score", "0.02")
    assert stub.options == [(), faint, faint, (), ()]


def test_patchwork_is_the_share_outside_a_garments_commonest_class() -> None:
    coat, dress, hat = class_id("Coat"), class_id("Dress"), class_id("Hat")
    true = np.zeros((100, 100), np.uint8)
    true[:60] = coat
    true[90:, :20] = hat  # too small to be judged
    found = np.zeros_like(true)
    found[:30], found[30:40] = dress, coat  # and nothing on the rest
    scores = Patchwork()
    scores.add(found, true)
    assert scores.shares == [pytest.approx(0.25)]
    scores.add(np.full_like(true, dress), true)
    assert scores.mean == pytest.approx(0.125), "one piece of the wrong class is no patchwork"


def test_overlapping_persons_are_everywhere_either_is() -> None:
    masks = np.array([[[True, True, False]], [[False, True, False]]])
    persons = [FoundPerson(0.9, mask) for mask in masks]
    parsed = Parsed(np.zeros((1, 3), np.uint8), np.array([[1, 2, 0]], np.uint8), persons, {})
    assert anywhere(parsed).tolist() == [[True, True, False]]
