"""What training minimises.

Cross-entropy and Dice over parts, binary cross-entropy for anybody, focal loss for centres of
people, Dice and binary cross-entropy for their masks.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.classes import GARMENTS, IGNORE, NUM_PARTS, PERSON_ID

CLASS_WEIGHTS = (
    0.8,  # Background
    2.0,  # Hat
    1.2,  # Hair
    1.2,  # Gloves
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

SMALLEST_GARMENT = 40
"""Pixels of the labels from which a garment is judged as one piece."""
SMALLEST_CHANCE = 1e-4


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


def centre_loss(logits: Tensor, centres: Tensor) -> Tensor:
    """Focal loss per person as in CenterNet (arXiv 1904.07850).

    logits and centres float [N, h, w]; centres as in `PersonTargets`. Places near a centre count
    less, the less the nearer.
    """
    positive = centres == 1
    near = centres.clamp(min=0)
    probability = logits.sigmoid()
    found = F.logsigmoid(logits) * (1 - probability) ** 2
    rejected = F.logsigmoid(-logits) * probability**2 * (1 - near) ** 4
    loss = torch.where(positive, found, rejected) * (centres >= 0)
    return -loss.sum() / positive.sum().clamp(min=1)


def garment_loss(part_logits: Tensor, parts: Tensor) -> Tensor:
    """How far labelled garments are from one label, and that from the right one; mean over them.

    The Jensen-Shannon divergence among a garment's pixels, and minus the log of what all of them
    together give to its class, garments' classes alone being asked. part_logits float
    [N, 20, h, w]; parts int64 [N, h, w].
    """
    log_chance = part_logits[:, list(GARMENTS)].log_softmax(1).flatten(2)
    chance = log_chance.exp()
    own = torch.stack([parts.flatten(1) == garment for garment in GARMENTS], 1).to(chance)
    pixels = own.sum(2)
    own = own / pixels.clamp(min=1)[..., None]
    together = own @ chance.transpose(1, 2)  # [N, garment, class]
    log_together = together.clamp(min=SMALLEST_CHANCE).log()
    entropy = -(together * log_together).sum(2)
    entropy_of_pixels = (own @ -(chance * log_chance).sum(1)[..., None])[..., 0]
    missed = -log_together.diagonal(dim1=1, dim2=2)
    judged = pixels >= SMALLEST_GARMENT
    if not judged.any():
        return part_logits.sum() * 0
    return (entropy - entropy_of_pixels + missed)[judged].mean()


def mask_loss(logits: Tensor, numbers: Tensor, drawn: Tensor, stride: int) -> Tensor:
    """Dice and binary cross-entropy, mean over the masks that draw somebody.

    logits float [N, M, h, w] at `stride`; numbers int64 [N, H, W] of the people; drawn int64
    [N, M], whom each mask should draw or 0. A mask pixel's truth is the share of its photo pixels.
    """
    truth = F.avg_pool2d((numbers[:, None] == drawn[..., None, None]).float(), stride)
    known = F.avg_pool2d((numbers != IGNORE).float(), stride)[:, None]
    area = (1, 2)
    used = drawn > 0
    logits, truth, known = logits[used], truth[used], known.expand_as(truth)[used]
    if not len(logits):
        return logits.sum()
    probability = logits.sigmoid() * known
    overlap = (probability * truth).sum(area)
    dice = (2 * overlap + 1) / ((probability**2).sum(area) + (truth**2).sum(area) + 1)
    bits = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * known
    return (1 - dice + bits.sum(area) / known.sum(area).clamp(min=1)).mean()


def human_loss(human_logits: Tensor, person: Tensor) -> Tensor:
    """Binary cross-entropy over the pixels that are known to be a person or not."""
    known = person != IGNORE
    loss = F.binary_cross_entropy_with_logits(
        human_logits, person.clamp(max=1).float(), reduction="none"
    )
    return (loss * known).sum() / known.sum().clamp(min=1)
