"""The classes of human parsing as CIHP names them, their colours and their mirror images.

Source of names and order: the CIHP data set (Gong et al., "Instance-level Human Parsing via Part
Grouping Network", ECCV 2018), with `Human` after the 20 parts as in M2FP (arXiv 2301.00394).
"""

import numpy as np

PART_NAMES = (
    "Background",
    "Hat",
    "Hair",
    "Gloves",
    "Sunglasses",
    "UpperClothes",
    "Dress",
    "Coat",
    "Socks",
    "Pants",
    "Torso-skin",
    "Scarf",
    "Skirt",
    "Face",
    "Left-arm",
    "Right-arm",
    "Left-leg",
    "Right-leg",
    "Left-shoe",
    "Right-shoe",
)
CLASS_NAMES = (*PART_NAMES, "Human")

NUM_PARTS = len(PART_NAMES)
NUM_CLASSES = len(CLASS_NAMES)
BACKGROUND_ID = 0
PERSON_ID = CLASS_NAMES.index("Human")
IGNORE = 255
"""Label value of a pixel that nobody can judge: no loss and no figure counts it."""

MIRRORED_PAIRS = ((14, 15), (16, 17), (18, 19))
"""Class ids of left and right parts, which change places when a photo is mirrored."""
GARMENT_NAMES = (
    "Hat",
    "Gloves",
    "UpperClothes",
    "Dress",
    "Coat",
    "Socks",
    "Pants",
    "Scarf",
    "Skirt",
)
GARMENTS = tuple(CLASS_NAMES.index(name) for name in GARMENT_NAMES)


def _mirror_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    for left, right in MIRRORED_PAIRS:
        table[left], table[right] = right, left
    return table


MIRROR_TABLE = _mirror_table()
"""uint8 [256]: the label a pixel has in the mirrored photo, indexed by its label in the photo."""


def voc_color(class_id: int) -> tuple[int, int, int]:
    """Colour (red, green, blue) of a class in the PASCAL VOC colour map.

    Bit 0, 1, 2 of the id go to the top bit of red, green, blue, the next three bits to the next bit
    below, and so on (`VOClabelcolormap.m` of the VOC development kit).
    """
    color = [0, 0, 0]
    for position in range(8):
        for channel in range(3):
            bit = (class_id >> (3 * position + channel)) & 1
            color[channel] |= bit << (7 - position)
    return (color[0], color[1], color[2])
