"""Labels that say less than a class: somebody's part, whichever; or anything that may be there.

A photo whose garments are only listed, or whose people are only outlined, teaches by what it rules
out: the classes that are not in the list, and background where somebody is.
"""

import numpy as np
import torch
from torch import Tensor

from m2fp_train.classes import BACKGROUND_ID, CLASS_NAMES, IGNORE, NUM_PARTS

SOMEBODY = 254
"""Label value of a pixel of a person whose part is unknown: one that the photo allows."""
ANYTHING = 253
"""Label value of a pixel that may be background, or a part that the photo allows."""
EVERY_PART = np.ones(NUM_PARTS, bool)

_WORN = {
    "Hat": ("hat",),
    "Gloves": ("gloves",),
    "Sunglasses": ("glasses", "sunglasses"),
    "UpperClothes": [
        "blouse",
        "bodysuit",
        "bra",
        "hoodie",
        "jumper",
        "shirt",
        "sweater",
        "sweatshirt",
        "swimwear",
        "t-shirt",
        "top",
        "vest",
        "intimate",
    ],
    "Dress": ("dress", "romper"),
    "Coat": ("blazer", "cape", "cardigan", "coat", "jacket", "suit"),
    "Socks": ("socks", "stockings"),
    "Pants": ("jeans", "leggings", "pants", "shorts", "suit", "tights", "panties"),
    "Scarf": ("scarf",),
    "Skirt": ("skirt",),
}
"""Classes that only occur where one of these tags of Clothing Co-Parsing does. A suit has trousers
as well as a jacket."""
_GARMENT_PHOTOS = {
    "t-shirt": "UpperClothes",
    "longsleeve": "UpperClothes",
    "shirt": "UpperClothes",
    "outwear": "Coat",
    "dress": "Dress",
    "skirt": "Skirt",
    "pants": "Pants",
    "shorts": "Pants",
    "hat": "Hat",
}
"""Folders of photos of single garments, and the class of the garment. Shoes have a left and a
right, which their photos do not tell."""
GARMENT_FOLDERS = tuple(_GARMENT_PHOTOS)


def allowed_by_tags(tags: list[str]) -> np.ndarray:
    """bool [20]: the classes that a photo with such tags may show."""
    allowed = EVERY_PART.copy()
    for name, wanted in _WORN.items():
        allowed[CLASS_NAMES.index(name)] = any(tag in tags for tag in wanted)
    return allowed


def allowed_by_garment(folder: str) -> np.ndarray:
    """bool [20]: the classes that a photo of a single garment may show.

    Somebody may wear it, with others: but of coat, upper clothes, dress and skirt, which are taken
    for each other, only what its folder says.
    """
    allowed = EVERY_PART.copy()
    name = _GARMENT_PHOTOS[folder]
    confused = {"Coat", "UpperClothes", "Dress", "Skirt"}
    if name in ("Coat", "UpperClothes", "Dress"):
        rivals = confused - {name}
        if name != "Dress":
            rivals -= {"Skirt"}  # it may be worn below
        for rival in rivals:
            allowed[CLASS_NAMES.index(rival)] = False
    return allowed


def partial_loss(part_logits: Tensor, before: Tensor, parts: Tensor, allowed: Tensor) -> Tensor:
    """How far the network is from what was known `before`, less what a label rules out.

    What is left of it is shared as before: where only the sum of what is left was asked for, the
    class that no photo rules out grew at the cost of all others. The Kullback-Leibler divergence,
    mean over pixels. part_logits and before float [N, 20, H, W]; parts int64 [N, H, W], of which
    `SOMEBODY` and `ANYTHING` count; allowed bool [N, 20], by photo.
    """
    somebody, anything = parts == SOMEBODY, parts == ANYTHING
    known = somebody | anything
    open_to = allowed[:, :, None, None].expand_as(part_logits).clone()
    open_to[:, BACKGROUND_ID] = anything
    never = torch.finfo(part_logits.dtype).min / 2
    wanted = before.masked_fill(~open_to, never).log_softmax(1)
    chance = wanted.exp()
    loss = (chance * (wanted - part_logits.log_softmax(1))).sum(1) * known
    return loss.sum() / known.sum().clamp(min=1)


def without_partial(parts: Tensor) -> Tensor:
    """Labels as the losses of whole labels take them: what says less than a class is IGNORE."""
    return parts.masked_fill((parts == SOMEBODY) | (parts == ANYTHING), IGNORE)
