"""Where people's centres are, and which places of the network are asked to draw whom."""

from dataclasses import dataclass

import numpy as np

from m2fp_train.augment import Rng
from m2fp_train.classes import IGNORE
from m2fp_train.persons import CENTRE_STRIDE

SPREAD = 0.08
"""Standard deviation of a centre's bell, relative to the side of a square as large as the person.
"""
SPREAD_CELLS = (0.6, 3.0)
NEAR = 0.5
"""Height of the bell from which a cell may be asked to draw the person."""
MOST_PEOPLE = 8
"""People of one scene who are drawn in training; the network finds more."""
CELLS_PER_PERSON = 2


@dataclass(frozen=True)
class PersonTargets:
    """What the network should say of a scene's people.

    centres: float32 [H/8, W/8]; 1 at a person's centre, falling like a bell, 0 away from people, -1
        where nobody knows.
    cells: int64 [16]; cells that draw a person, counted row by row.
    drawn: int64 [16]; the number of the person that each draws, 0 where there is none.
    """

    centres: np.ndarray
    cells: np.ndarray
    drawn: np.ndarray

    @classmethod
    def of(cls, rng: Rng, numbers: np.ndarray) -> "PersonTargets":
        """From the people's numbers uint8 [H, W], multiples of 8. `rng` picks cells near centres.

        The centre is that of the pixels that can be seen.
        """
        height, width = (length // CENTRE_STRIDE for length in numbers.shape)
        blocks = numbers.reshape(height, CENTRE_STRIDE, width, CENTRE_STRIDE)
        centres = np.where((blocks == IGNORE).mean((1, 3)) > 0.5, -1.0, 0.0).astype(np.float32)
        cells = np.zeros(MOST_PEOPLE * CELLS_PER_PERSON, np.int64)
        drawn = np.zeros_like(cells)
        people = np.setdiff1d(np.unique(numbers), (0, IGNORE))
        rows, columns = np.mgrid[:height, :width]
        for place, number in enumerate(people):
            visible = np.nonzero(numbers == number)
            row, column = (int(axis.mean()) // CENTRE_STRIDE for axis in visible)
            side = np.sqrt(len(visible[0])) / CENTRE_STRIDE
            spread = np.clip(SPREAD * side, *SPREAD_CELLS)
            bell = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * spread**2))
            centres = np.maximum(centres, bell, out=centres, where=(centres >= 0) | (bell > NEAR))
            if place < MOST_PEOPLE:
                own = slice(place * CELLS_PER_PERSON, (place + 1) * CELLS_PER_PERSON)
                near = np.flatnonzero(bell >= NEAR)
                cells[own] = row * width + column, near[rng.integers(len(near))]
                drawn[own] = number
        return cls(centres, cells, drawn)
