from pathlib import Path

import numpy as np
import pytest

from m2fp_train.teachers import (
    FoundBox,
    MultiposeTeacher,
    Teachers,
    box_iou,
    nearest_box,
    pasted,
    square_around,
    without_duplicates,
)
from synthetic import write_multipose


def box(*sides: float) -> np.ndarray:
    return np.array(sides, float)


def test_of_two_boxes_around_one_person_the_better_stays() -> None:
    first, same, other = box(0, 0, 10, 20), box(1, 0, 10, 20), box(8, 0, 18, 20)
    found = [FoundBox(0.5, same), FoundBox(0.9, first), FoundBox(0.4, other)]
    assert [person.score for person in without_duplicates(found)] == [0.9, 0.4]
    assert box_iou(first, same) == pytest.approx(0.9)
    assert box_iou(first, box(20, 0, 30, 9)) == 0


def test_a_pixel_belongs_to_the_box_in_whose_sides_it_is_nearer() -> None:
    nearest = nearest_box([box(0, 0, 10, 10), box(10, 0, 50, 10)], (10, 50))
    assert nearest[5, 2] == 0 and nearest[5, 40] == 1
    # Seven pixels from the small one's middle, 17 from the large one's, whose side is four times.
    assert nearest[5, 12] == 1
    assert (nearest_box([], (2, 2)) == -1).all()


def test_what_is_seen_in_a_square_comes_back_to_its_place() -> None:
    square = square_around(box(2, 4, 6, 12), 1.5)
    assert square == (-2, 2, 12), "about the middle of the box, and over the edge of the photo"
    chance = np.zeros((12, 12))
    chance[3, 5] = 1
    back = pasted(chance, square, (20, 30))
    assert back.shape == (20, 30) and back[5, 3] == 1 and back.sum() == 1


def test_the_view_that_knows_a_size_is_asked_for_it(tmp_path: Path) -> None:
    write_multipose(tmp_path / "graph.onnx")
    teacher = MultiposeTeacher(tmp_path / "graph.onnx")
    image = np.zeros((120, 240, 3), np.uint8)
    # In the small view 60 x 60 and 20 x 20 pixels, in the large one 220 x 220 and 30 x 30.
    scale = {256: 256 / 240, 512: 512 / 240}
    sides = {256: (60, 20), 512: (220, 30)}
    teacher.boxes_at = lambda _, side: [
        FoundBox(0.5, box(start, 0, start + length, length) / scale[side] + place)
        for place, (start, length) in enumerate(zip((0, 100), sides[side], strict=True))
    ]
    found = sorted(round(float(p.box[2] - p.box[0])) for p in teacher.boxes(image))
    assert found == [round(30 / scale[512]), round(60 / scale[256])]


def test_boxes_are_inside_the_photo(tmp_path: Path) -> None:
    write_multipose(tmp_path / "graph.onnx")
    teacher = MultiposeTeacher(tmp_path / "graph.onnx")
    for head in (teacher.network.centres, teacher.network.keypoints):
        head.last.weight.data *= 0.01
        head.last.bias.data += 3
    teacher.network.boxes.last.weight.data *= 0.01
    teacher.network.boxes.last.bias.data[:] = 6
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    found = teacher.boxes_at(image, 96)
    assert found, "noise sees somebody"
    boxes = np.array([person.box for person in found])
    assert boxes.min() >= 0 and (boxes[:, 2:] <= (90, 50)).all()


class Everywhere:
    """A teacher to whom all of a box, or of all the photo, is a person by some chance."""

    def __init__(self, chance: float) -> None:
        self.chance = chance

    def in_box(self, image: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.full(image.shape[:2], self.chance)

    def mask(self, image: np.ndarray, _: np.ndarray, __: float) -> np.ndarray:
        return np.full(image.shape[:2], self.chance)


def test_a_pixel_nearer_another_box_needs_more() -> None:
    teachers = Teachers.__new__(Teachers)
    teachers.bodypix, teachers.blazepose = Everywhere(0.6), Everywhere(0.5)
    image = np.zeros((10, 20, 3), np.uint8)
    left, right = teachers.masks(image, [box(0, 0, 10, 10), box(10, 0, 20, 10)])
    # (0.6 + 0.5) / 2 is enough, (0.36 + 0.5) / 2 is not.
    assert left[:, :10].all() and not left[:, 10:].any()
    assert right[:, 10:].all() and not right[:, :10].any()
