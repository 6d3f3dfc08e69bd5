"""Photos are placed on a letterbox as ModelScope does it."""

import numpy as np
import pytest
from PIL import Image

import judge
from m2fp_export.photos import letterboxed

UTILITIES = "modelscope.models.cv.image_human_parsing.parsing_utils"
SIZES = [
    *(
        (192, 108),
        (108, 192),
        (60, 100),
        (10, 14),
        (38, 51),
        (37, 51),
        (38, 50),
        (38, 52),
        (39, 51),
    ),
    *(
        (76, 102),
        (75, 102),
        (300, 400),
        (400, 300),
        (15, 140),
        (64, 64),
        (1, 1),
        (50, 51),
        (36, 51),
    ),
]
"""Width and height; the canvas is 38×51."""


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_photo_lies_where_modelscope_puts_it(width: int, height: int) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected, _ = judge._import(UTILITIES).center_to_target_size_test(pixels, [38, 51])
    placed = letterboxed(Image.fromarray(pixels), 38, 51, 128)
    assert np.array_equal(np.asarray(placed), expected)
