"""People told apart: a score and a kernel at every place, and the masks that the kernels make.

After CondInst (Tian, Shen, Chen, "Conditional Convolutions for Instance Segmentation", ECCV 2020):
every place of a stride-8 map says how likely the centre of a person is there, and which two tiny
convolutions would draw this person's mask out of features that all people share. Training looks at
known places, so nothing has to be matched; the graph takes the places that score best.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CENTRE_STRIDE = 8
"""Photo pixels per place, in each direction."""
FEATURES = 16
"""Channels of the features that all masks are drawn from, at stride 4."""
HIDDEN = 8
"""Channels between a kernel's two convolutions."""
KERNEL_SIZES = (HIDDEN * (FEATURES + 2), HIDDEN, HIDDEN, 1)
"""Weights and biases of the first, then of the second convolution. The first also sees x and y."""
KERNEL = sum(KERNEL_SIZES)
COORDINATE_UNIT = 128
"""Pixels that count as 1 where a kernel sees the way from its place to a pixel."""

LEAST_AREA = 1e-6
"""Pixels of a mask, at least, so that one that is nowhere has a score: that of nobody."""
MOST_AGREEMENT = 4.0
"""What the parts may add to a mask's logit in training."""
MOST_SAID = 4.0
"""What of the logits of two who see people counts: neither is so sure that the other is unheard."""


def person_masks(
    features: Tensor, kernels: Tensor, places: Tensor, stride: int, units: Tensor | None = None
) -> Tensor:
    """Mask logits [N, M, h, w] of M people in each of N images.

    features: [N, FEATURES, h, w] at `stride`. kernels: [N, M, KERNEL]. places: [N, M, 2], where the
    kernels are from: x and y in pixels. units: [N, M, 2], the pixels of x and y that count as 1,
    where these are not `COORDINATE_UNIT`: a person's own size.
    """
    batch, people = kernels.shape[:2]
    weights, biases, last_weights, last_bias = kernels.split(KERNEL_SIZES, 2)
    weights = weights.reshape(batch, people, HIDDEN, FEATURES + 2)
    if units is not None:
        look, go = weights.split((FEATURES, 2), 3)
        weights = torch.cat([look, go * (COORDINATE_UNIT / units)[:, :, None]], 3)
    # A pixel's coordinates less the place's: what the place takes off is the same at every pixel.
    # So is the bias, which a channel of ones brings into the product.
    way = (weights[..., FEATURES:] * (places / COORDINATE_UNIT)[:, :, None]).sum(3)
    weights = torch.cat([weights, (biases - way)[..., None]], 3)
    positions = pixel_positions(features, stride) / COORDINATE_UNIT
    seen = torch.cat([features, positions, torch.ones_like(positions[:, :1])], 1)
    hidden = F.relu(weights.reshape(batch, people * HIDDEN, FEATURES + 3) @ seen.flatten(2))
    hidden = hidden.reshape(batch, people, HIDDEN, -1)
    logits = last_weights.reshape(batch, people, 1, HIDDEN) @ hidden
    logits = logits.reshape(batch, people, -1) + last_bias
    return logits.reshape(batch, people, features.shape[2], features.shape[3])


def agreed_masks(masks: Tensor, somebody: Tensor, most: float = MOST_AGREEMENT) -> Tensor:
    """Mask logits [N, M, h, w] with what the parts say added, at most `most` either way.

    somebody: logit [N, h, w] that a pixel is no background. The parts see an outline better; whose
    it is they cannot tell, so they move no pixel of which a mask is sure.
    """
    return masks + somebody.clamp(-most, most)[:, None]


def mask_overlaps(some: Tensor, others: Tensor) -> Tensor:
    """Intersection over union [N, M, K] of M masks with K others, of logits [N, M or K, h, w]."""
    some, others = (masks.flatten(2).sigmoid() for masks in (some, others))
    common = some @ others.transpose(1, 2)
    areas = some.sum(2)[:, :, None] + others.sum(2)[:, None]
    return common / (areas - common).clamp(min=LEAST_AREA)


def somebody_logit(parts: Tensor) -> Tensor:
    """Logit [N, h, w] that a pixel is no background, from the parts' logits [N, 20, h, w]."""
    background, _, somebody = _somebody(parts)
    return (somebody - background)[:, 0]


def shares_of_somebody(parts: Tensor) -> tuple[Tensor, Tensor]:
    """What logits [N, 20, h, w] of the parts say: the log [N, 19, h, w] of each part's share of
    somebody, without the background, and the logit [N, 1, h, w] that a pixel is no background."""
    background, parts, somebody = _somebody(parts)
    return parts - somebody, somebody - background


def _somebody(parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logits of the background, those of all other parts, and the latter taken together."""
    background, parts = parts.split((1, parts.shape[1] - 1), 1)
    return background, parts, log_sum_exp(parts)


def log_sum_exp(logits: Tensor) -> Tensor:
    """[N, 1, h, w] of [N, C, h, w], in steps that ONNX Runtime computes with vectors. Its
    `ReduceLogSumExp` takes three times as long."""
    greatest = logits.amax(1, keepdim=True)
    return (logits - greatest).exp().sum(1, keepdim=True).log() + greatest


def both_heard(first: Tensor, second: Tensor) -> Tensor:
    """The logit that two say together, each within `MOST_SAID`."""
    return first.clamp(-MOST_SAID, MOST_SAID) + second.clamp(-MOST_SAID, MOST_SAID)


def log_odds(chance: Tensor, least: float, most: float) -> Tensor:
    """Logit of a chance, which is taken to be from `least` to `most`, so that it is finite."""
    chance = chance.clamp(least, most)
    return (chance / (1 - chance)).log()


def pixel_positions(like: Tensor, stride: int) -> Tensor:
    """x and y in pixels [N, 2, h, w] of the middles of the pixels of a map at `stride`."""
    ones = torch.ones_like(like[:, :1])
    return (torch.cat([ones.cumsum(3), ones.cumsum(2)], 1) - 0.5) * stride


def at_cells(values: Tensor, cells: Tensor) -> Tensor:
    """[N, M, C]: the values [N, C, h, w] at cells int64 [N, M], counted row by row."""
    flat = values.flatten(2)
    return flat.gather(2, cells[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
