"""What training minimises: cross-entropy and Dice over parts, binary cross-entropy for Human."""

import torch
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.classes import IGNORE, NUM_PARTS, PERSON_ID

CLASS_WEIGHTS = (
    0.5,  # Background
    2.0,  # Hat
    1.2,  # Hair
    2.0,  # Gloves
    2.0,  # Sunglasses
    1.0,  # UpperClothes
    1.0,  # Dress
    1.0,  # Coat
    1.5,  # Socks
    1.0,  # Pants
    1.5,  # Torso-skin
    1.5,  # Scarf
    1.3,  # Skirt
    1.2,  # Face
    *(1.4,) * 6,  # arms, legs, shoes
)
"""Weight of a pixel in the cross-entropy by its class: small and rare parts count more."""


def parsing_loss(logits: Tensor, parts: Tensor, person: Tensor) -> Tensor:
    """Sum of the three losses. logits float [N, 21, H, W]; parts and person int64 [N, H, W]."""
    weights = torch.tensor(CLASS_WEIGHTS, device=logits.device)
    part_logits = logits[:, :NUM_PARTS]
    return (
        F.cross_entropy(part_logits, parts, weight=weights, ignore_index=IGNORE)
        + dice_loss(part_logits, parts)
        + human_loss(logits[:, PERSON_ID], person)
    )


def dice_loss(part_logits: Tensor, parts: Tensor) -> Tensor:
    """1 - Dice (V-Net, arXiv 1606.04797) of each class over the batch, mean of those present."""
    known = (parts != IGNORE)[:, None]
    parts = parts.masked_fill(parts == IGNORE, 0)
    truth = F.one_hot(parts, NUM_PARTS).permute(0, 3, 1, 2) * known
    probability = part_logits.softmax(1) * known
    pixels = truth.sum((0, 2, 3))
    overlap = (probability * truth).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (probability.sum((0, 2, 3)) + pixels + 1)
    present = pixels > 0
    return (1 - dice)[present].mean() if present.any() else dice.sum() * 0


def human_loss(human_logits: Tensor, person: Tensor) -> Tensor:
    """Binary cross-entropy over the pixels that are known to be a person or not."""
    known = person != IGNORE
    loss = F.binary_cross_entropy_with_logits(
        human_logits, person.clamp(max=1).float(), reduction="none"
    )
    return (loss * known).sum() / known.sum().clamp(min=1)
