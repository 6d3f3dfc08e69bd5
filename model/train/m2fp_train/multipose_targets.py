"""Where the people of a scene are: who of them multipose finds is told by their boxes."""

from dataclasses import dataclass

import numpy as np

from m2fp_train.augment import Rng
from m2fp_train.classes import IGNORE
from m2fp_train.scene import box_around
from m2fp_train.targets import MOST_PEOPLE


@dataclass(frozen=True)
class BoxTargets:
    """The boxes around what can be seen of people.

    boxes: float32 [8, 4]; centre x and y, width and height in pixels. people: int64 [8], the number
    of each box's person, 0 where there is none.
    """

    boxes: np.ndarray
    people: np.ndarray

    @classmethod
    def of(cls, rng: Rng, numbers: np.ndarray) -> "BoxTargets":
        """From the people's numbers uint8 [H, W]. `rng` picks whom, where there are too many."""
        boxes = np.ones((MOST_PEOPLE, 4), np.float32)
        people = np.zeros(MOST_PEOPLE, np.int64)
        present = rng.permutation(np.setdiff1d(np.unique(numbers), (0, IGNORE)))
        for place, number in enumerate(present[:MOST_PEOPLE]):
            left, top, right, bottom = box_around(numbers == number)
            boxes[place] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
            people[place] = number
        return cls(boxes, people)
