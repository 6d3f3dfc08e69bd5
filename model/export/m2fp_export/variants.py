"""The data sets that M2FP was published for: class names, in the order of their ids.

Sources: CIHP (Gong et al., ECCV 2018), MHP v2 (Zhao et al., arXiv 1804.03287), PASCAL-Person-Part
(Xia et al., CVPR 2017), LIP (Gong et al., CVPR 2017). M2FP adds Human, a whole person, after the
parts of those with several people in a photo; LIP's photos hold one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

BACKGROUND_ID = 0
HUMAN = "Human"


@dataclass(frozen=True)
class Variant:
    """score: from this on a part is pasted into the label map; that of M2FP's configurations.

    canvas: (width, height) that photos of one person are put in the middle of; None where photos
    hold several people.
    """

    name: str
    classes: tuple[str, ...]
    score: float = 0.3
    canvas: tuple[int, int] | None = None

    @property
    def person_id(self) -> int | None:
        return len(self.classes) - 1 if self.canvas is None else None


CIHP = Variant(
    "cihp",
    (
        *("Background", "Hat", "Hair", "Gloves", "Sunglasses", "UpperClothes", "Dress", "Coat"),
        *("Socks", "Pants", "Torso-skin", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
        *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe", HUMAN),
    ),
)
MHP_V2 = Variant(
    "mhp-v2",
    (
        *("Background", "Cap/Hat", "Helmet", "Face", "Hair", "Left-arm", "Right-arm"),
        *("Left-hand", "Right-hand", "Protector", "Bikini/bra", "Jacket/Windbreaker/Hoodie"),
        *("T-shirt", "Polo-shirt", "Sweater", "Singlet", "Torso-skin", "Pants"),
        *("Shorts/Swim-shorts", "Skirt", "Stockings", "Socks", "Left-boot", "Right-boot"),
        *("Left-shoe", "Right-shoe", "Left-highheel", "Right-highheel", "Left-sandal"),
        *("Right-sandal", "Left-leg", "Right-leg", "Left-foot", "Right-foot", "Coat", "Dress"),
        *("Robe", "Jumpsuit", "Other-full-body-clothes", "Headwear", "Backpack", "Ball", "Bats"),
        *("Belt", "Bottle", "Carrybag", "Cases", "Sunglasses", "Eyewear", "Gloves", "Scarf"),
        *("Umbrella", "Wallet/Purse", "Watch", "Wristband", "Tie", "Other-accessories"),
        *("Other-upper-body-clothes", "Other-lower-body-clothes", HUMAN),
    ),
)
PASCAL_PERSON_PART = Variant(
    "pascal-person-part",
    (
        *("Background", "Lower-arm", "Head", "Upper-leg", "Torso", "Lower-leg", "Upper-arm"),
        HUMAN,
    ),
)
LIP = Variant(
    "lip",
    (
        *("Background", "Hat", "Hair", "Glove", "Sunglasses", "UpperClothes", "Dress", "Coat"),
        *("Socks", "Pants", "Jumpsuits", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
        *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe"),
    ),
    canvas=(384, 512),
)
VARIANTS = {variant.name: variant for variant in (CIHP, MHP_V2, PASCAL_PERSON_PART, LIP)}


LEFT = re.compile(r"(?<![A-Za-z])([Ll])eft(?![a-z])")
"""The word in a class's name, as in `Left-arm`, `upper left arm` and `LeftArm`."""


def flip_pairs(classes: Sequence[str]) -> list[list[int]] | None:
    """Ids of left and right classes, which change places when a photo is mirrored.

    They are told by their names. Without any there are no pairs; None where a left class has no
    right one, since what it turns into is not known.
    """
    ids = {name: class_id for class_id, name in enumerate(classes)}
    pairs = []
    for name, left in ids.items():
        other = LEFT.sub(lambda found: {"L": "Right", "l": "right"}[found[1]], name)
        if other == name:
            continue
        if other not in ids:
            return None
        pairs.append([left, ids[other]])
    return pairs


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
