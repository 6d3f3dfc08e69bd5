import numpy as np

from m2fp_train.classes import IGNORE
from m2fp_train.targets import CELLS_PER_PERSON, MOST_PEOPLE, PersonTargets


def targets(numbers: np.ndarray) -> PersonTargets:
    return PersonTargets.of(np.random.default_rng(0), numbers)


def test_a_centre_is_in_the_middle_of_what_is_seen() -> None:
    numbers = np.zeros((64, 96), np.uint8)
    numbers[8:40, 16:40], numbers[32:64, 72:96], numbers[:, 88:] = 1, 2, IGNORE
    made = targets(numbers)
    assert made.centres.shape == (8, 12)
    assert list(zip(*np.nonzero(made.centres == 1), strict=True)) == [(2, 3), (5, 9)]
    assert 0 < made.centres[2, 4] < 1 and made.centres[7, 0] < 1e-3
    assert made.centres[0, 11] == -1, "nobody knows"
    assert made.drawn.tolist()[:6] == [1, 1, 2, 2, 0, 0]
    assert made.cells[0] == 2 * 12 + 3 and made.cells[2] == 5 * 12 + 9
    assert (made.centres.ravel()[made.cells[:4]] >= 0.5).all(), "drawn from near the centre"


def test_nobody_and_too_many_have_the_same_shape() -> None:
    assert not targets(np.zeros((16, 16), np.uint8)).drawn.any()
    many = np.arange(20, dtype=np.uint8).repeat(8)[None].repeat(8, 0)
    made = targets(many)
    assert made.drawn.shape == (MOST_PEOPLE * CELLS_PER_PERSON,) and made.drawn.all()
    assert np.count_nonzero(made.centres == 1) == 19, "all of them have a centre"
