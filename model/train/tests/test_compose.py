from dataclasses import replace

import numpy as np
import pytest

from m2fp_train.classes import BACKGROUND_ID, IGNORE
from m2fp_train.compose import ComposedScene, compose, random_background
from m2fp_train.instances import FoundPerson
from m2fp_train.scene import Scene
from m2fp_train.tiling import (
    BUCKETS,
    PEOPLE_PER_BUCKET,
    Tally,
    bucket_of,
    count_found,
    count_people,
    scene_heights,
)
from synthetic import draw_person, scene_of

BACKGROUND = np.full((300, 400, 3), 90, np.uint8)


def people() -> list[Scene]:
    return [scene_of(*draw_person(np.random.default_rng(seed))) for seed in range(3)]


@pytest.fixture
def composed() -> ComposedScene:
    return compose(np.random.default_rng(1), BACKGROUND, people(), [40, 120, 80, 5000])


def test_people_are_as_tall_as_said_and_apart(composed: ComposedScene) -> None:
    assert [person.height for person in composed.people] == [120, 80, 40]
    for number, person in enumerate(composed.people, start=1):
        left, top, right, bottom = person.box
        rows, columns = np.nonzero(composed.scene.numbers == number)
        assert bottom - top == person.height
        assert (rows.min(), rows.max()) == (top, bottom - 1)
        assert left <= columns.min() and columns.max() < right


def test_labels_are_those_of_the_people(composed: ComposedScene) -> None:
    scene = composed.scene
    assert (scene.parts[composed.scene.numbers == 0] == BACKGROUND_ID).all()
    away = composed.scene.numbers == 0
    # A cut-out's edge is a pixel thinner than its mask: nothing beside it is painted but a blur.
    assert np.abs(scene.image[away].astype(int) - BACKGROUND[away]).mean() < 1


def test_a_scene_can_be_made_again() -> None:
    first, again = (
        compose(np.random.default_rng(7), BACKGROUND, people(), [60, 60]) for _ in range(2)
    )
    assert np.array_equal(first.scene.image, again.scene.image)
    assert np.array_equal(first.scene.numbers, again.scene.numbers)


def test_a_background_has_the_size_asked_for() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    assert random_background(np.random.default_rng(1), photo, (300, 200)).shape == (200, 300, 3)


def test_heights_fill_their_buckets() -> None:
    heights = scene_heights(np.random.default_rng(3))
    counts = np.bincount([bucket_of(height) for height in heights], minlength=len(BUCKETS) - 1)
    assert tuple(counts) == PEOPLE_PER_BUCKET


def test_true_labels_score_one_and_a_lost_person_nothing(composed: ComposedScene) -> None:
    true = composed.scene.parts
    composed = replace(
        composed, people=tuple(replace(p, height=max(p.height, 60)) for p in composed.people)
    )
    right, lost = ([Tally() for _ in BUCKETS[1:]] for _ in range(2))
    count_people(right, composed, np.where(true == IGNORE, 0, true))
    count_people(lost, composed, np.zeros_like(true))
    for tally in (tally for tally in right if tally.people):
        assert tally.mean_iou == tally.foreground_iou == 1
    assert sum(tally.people for tally in right) == 3
    assert all(tally.foreground_iou == 0 for tally in lost if tally.people)


def test_people_are_found_once(composed: ComposedScene) -> None:
    numbers = composed.scene.numbers
    composed = replace(
        composed, people=tuple(replace(p, height=max(p.height, 60)) for p in composed.people)
    )
    first, second = (FoundPerson(0.9, numbers == number) for number in (1, 2))
    again, nobody = FoundPerson(0.8, first.mask), FoundPerson(0.7, numbers == 0)
    tallies = [Tally() for _ in BUCKETS[1:]]
    assert count_found(tallies, composed, [again, first, nobody, second]) == 2
    assert sum(tally.found for tally in tallies) == 2
    assert tallies[bucket_of(composed.people[0].height)].found >= 1
