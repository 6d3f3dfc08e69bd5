"""With the command line as built (`make build`) and the packaged model."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from m2fp_train.program import PICTURES_PER_RUN, Program

ROOT = Path(__file__).parents[3]
PROGRAM = Program(
    Path(os.environ.get("M2FP", ROOT / "target" / "release" / "m2fp")), ROOT / "model" / "nano"
)


def test_answers_come_in_the_order_of_the_pictures() -> None:
    sizes = [(40 + index, 50) for index in range(PICTURES_PER_RUN + 2)]
    answers = list(PROGRAM.parse(np.full((*size, 3), 90, np.uint8) for size in sizes))
    assert [parsed.labels.shape for parsed in answers] == sizes
    for parsed in answers:
        assert parsed.owners.shape == parsed.labels.shape
        assert parsed.owners.max() <= len(parsed.persons)
        for person in parsed.persons:
            assert person.mask.shape == parsed.labels.shape and 0 < person.score <= 1


def test_options_are_passed_on() -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    (parsed,) = PROGRAM.parse([picture], "--max-side", "160")
    assert parsed.report["plan"]["working_width"] == 160


def test_a_refused_picture_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        list(PROGRAM.parse([np.zeros((20, 3000, 3), np.uint8)], "--mode", "sideways"))
