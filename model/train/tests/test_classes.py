import numpy as np

from m2fp_train.classes import CLASS_NAMES, IGNORE, MIRROR_TABLE, NUM_PARTS, PERSON_ID, voc_color


def test_human_follows_the_twenty_parts() -> None:
    assert (NUM_PARTS, PERSON_ID, len(CLASS_NAMES)) == (20, 20, 21)


def test_mirroring_swaps_left_and_right_and_nothing_else() -> None:
    for class_id, name in enumerate(CLASS_NAMES):
        swapped = name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
        assert CLASS_NAMES[MIRROR_TABLE[class_id]] == swapped
    assert MIRROR_TABLE[IGNORE] == IGNORE
    np.testing.assert_array_equal(MIRROR_TABLE[MIRROR_TABLE], np.arange(256))


def test_colors_are_those_of_pascal_voc() -> None:
    # From the VOC development kit's own table: aeroplane, bicycle, bird, chair, potted plant, void.
    expected = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        9: (192, 0, 0),
        16: (0, 64, 0),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {class_id: voc_color(class_id) for class_id in expected} == expected
    assert len({voc_color(class_id) for class_id in range(256)}) == 256
