import numpy as np
from PIL import Image

from m2fp_train.pictures import OPACITY, PALETTE, SHOWN, sheet, variants
from m2fp_train.program import Parsed


def test_a_sheet_shows_parts_and_people_over_each_picture() -> None:
    pictures = variants(Image.new("RGB", (64, 64), (90, 90, 90)))
    labels = np.full((512, 512), 5, np.uint8)
    answers = [Parsed(labels, np.zeros_like(labels), [], {}) for _ in pictures]
    shown = np.asarray(sheet(pictures, answers)).astype(int)
    assert shown.shape == (3 * SHOWN, len(pictures) * SHOWN, 3)
    middle = SHOWN // 2
    assert (shown[middle, middle] == 90).all(), "the picture as it is"
    expected = PALETTE[5] * OPACITY + 90 * (1 - OPACITY)
    assert np.abs(shown[SHOWN + middle, middle] - expected).max() <= 1, "its parts"
    assert (shown[2 * SHOWN + middle, middle] == 90).all(), "nobody is where no person is"
