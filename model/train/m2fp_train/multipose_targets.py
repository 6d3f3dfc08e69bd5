"""Whom the masks that are drawn at multipose's cells should draw, and where these people are."""

from dataclasses import dataclass

import numpy as np

from m2fp_train.augment import Rng
from m2fp_train.classes import IGNORE
from m2fp_train.multipose import MULTIPOSE_STRIDE
from m2fp_train.targets import CELLS_PER_PERSON, MOST_PEOPLE, NEAR, SPREAD, SPREAD_CELLS


@dataclass(frozen=True)
class BoxTargets:
    """As `PersonTargets`, at stride 4, of the boxes around what can be seen of people.

    cells, drawn: int64 [16]; cells that draw a person, and the person's number, 0 where there is
        none.
    boxes: float32 [16, 4]; of the person that each cell draws: centre x and y, width and height in
        pixels.
    """

    cells: np.ndarray
    drawn: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, rng: Rng, numbers: np.ndarray) -> "BoxTargets":
        """From the people's numbers uint8 [H, W], multiples of 4. `rng` picks cells near centres
        and, where there are more people than cells, whom they draw."""
        stride = MULTIPOSE_STRIDE
        height, width = (length // stride for length in numbers.shape)
        cells = np.zeros(MOST_PEOPLE * CELLS_PER_PERSON, np.int64)
        drawn = np.zeros_like(cells)
        boxes = np.ones((len(cells), 4), np.float32)
        people = rng.permutation(np.setdiff1d(np.unique(numbers), (0, IGNORE)))
        rows, columns = np.mgrid[:height, :width]
        for place, number in enumerate(people):
            visible = np.nonzero(numbers == number)
            (top, bottom), (left, right) = ((axis.min(), axis.max() + 1) for axis in visible)
            x, y = (left + right) / 2, (top + bottom) / 2
            row, column = int(y) // stride, int(x) // stride
            side = np.sqrt((bottom - top) * (right - left)) / stride
            spread = np.clip(SPREAD * side, *SPREAD_CELLS)
            bell = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * spread**2))
            if place < MOST_PEOPLE:
                own = slice(place * CELLS_PER_PERSON, (place + 1) * CELLS_PER_PERSON)
                near = np.flatnonzero(bell >= NEAR)
                cells[own] = row * width + column, near[rng.integers(len(near))]
                drawn[own] = number
                boxes[own] = x, y, right - left, bottom - top
        return cls(cells, drawn, boxes)
