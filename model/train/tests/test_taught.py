from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2fp_train.classes import BACKGROUND_ID, IGNORE
from m2fp_train.partial import ANYTHING, SOMEBODY
from m2fp_train.taught import Lesson, Taught, TaughtPerson, teach


def lesson() -> Lesson:
    """A sure person, a doubtful one, and a corner that may be anybody."""
    anybody = np.zeros((20, 30), np.uint8)
    anybody[0:10, 0:10], anybody[0:10, 15:25], anybody[15:, 25:] = 250, 120, 100
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 0:10, 0:10], masks[1, 0:10, 15:25] = True, True
    people = [
        TaughtPerson.of(score, np.array([0, 0, 10, 10]), mask)
        for score, mask in zip((0.8, 0.2), masks, strict=True)
    ]
    return Lesson(people, anybody)


def test_a_lesson_is_kept(tmp_path: Path) -> None:
    taught, given = Taught(tmp_path), lesson()
    assert "a" not in taught
    taught.save("a", given)
    assert "a" in taught
    kept = taught.load("a")
    assert kept.people == given.people and np.array_equal(kept.anybody, given.anybody)
    assert kept.people[1].mask.sum() == 100


def test_the_doubtful_are_neither_people_nor_nobody(tmp_path: Path) -> None:
    taught = Taught(tmp_path)
    taught.save("a", lesson())
    scene = taught.scene("a", np.zeros((20, 30, 3), np.uint8))
    for place, number, part in (
        ((5, 5), 1, SOMEBODY),
        ((5, 20), IGNORE, ANYTHING),
        ((17, 27), IGNORE, ANYTHING),
        ((17, 5), 0, BACKGROUND_ID),
    ):
        assert (scene.numbers[place], scene.parts[place]) == (number, part), place


def test_nothing_is_known_of_a_photo_that_no_teacher_saw(tmp_path: Path) -> None:
    scene = Taught(tmp_path / "nowhere").scene("a", np.zeros((4, 4, 3), np.uint8))
    assert (scene.numbers == IGNORE).all() and (scene.parts == ANYTHING).all()


class Stub:
    """A teacher that counts the photos it is asked about, and is tired after `most`."""

    def __init__(self, most: int) -> None:
        self.asked, self.most = 0, most

    def lesson(self, image: np.ndarray) -> Lesson:
        if self.asked == self.most:
            raise KeyboardInterrupt
        self.asked += 1
        return Lesson([], np.full(image.shape[:2], 7, np.uint8))


def test_teaching_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    photos = {name: tmp_path / f"{name}.png" for name in "abcd"}
    for path in photos.values():
        Image.fromarray(np.zeros((3, 5, 3), np.uint8)).save(path)
    taught, tired, fresh = Taught(tmp_path / "taught"), Stub(2), Stub(9)
    with pytest.raises(KeyboardInterrupt):
        teach(photos, taught, lambda: tired)
    assert [name in taught for name in "abcd"] == [True, True, False, False]
    teach(photos, taught, lambda: fresh, most=1)
    teach(photos, taught, lambda: fresh)
    assert fresh.asked == 2 and all(name in taught for name in "abcd")
    assert taught.load("d").anybody.tolist() == [[7] * 5] * 3
    teach(photos, taught, lambda: pytest.fail("nothing is left to ask about"))
