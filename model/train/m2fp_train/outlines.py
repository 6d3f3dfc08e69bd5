"""Outlines of people at half of the image's size: what maps at a quarter of it cannot draw.

Where a person ends is seen in the image itself, in its edges, while what networks say of a pixel is
blurred. A guided filter (He, Sun, Tang, "Guided Image Filtering", ECCV 2010) makes the one follow
the other: around every pixel, the chance of a person is taken for a linear function of the colour,
by least squares. Its coefficients are computed at stride 4, and used at stride 2 (He, Sun, "Fast
Guided Filter", arXiv 1505.00996). Nothing is learned.
"""

from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.geometry import STRIDE
from m2fp_train.network import double
from m2fp_train.persons import both_heard, log_odds

OUTLINE_STRIDE = 2
"""Pixels of the image per pixel of an outline, in each direction."""
WINDOW = 5
"""Pixels at stride 4, each way, over which one linear function holds."""
LEAST_VARIANCE = 4e-3
"""Added to the variance of each channel, of -1..1: edges fainter than this are not followed."""
LEAST_CHANCE = 0.01
"""Of anybody at a pixel, and of nobody: a linear function goes beyond 0 and 1."""
BOTH_UNSURE = 1.0
"""Taken off what people's masks and the parts say together; chosen on the validation photos."""


def outlined_people(
    image: Tensor, masks: Tensor, scores: Tensor, anybody: Tensor
) -> tuple[Tensor, Tensor]:
    """What is to be added to the logits of each person's mask, these being doubled in size, so that
    people end where the image shows it, and the logit of anybody that does; each [N, 1, H/2, W/2].

    image: [N, 3, H, W] in -1..1. masks: logits [N, M, H/4, W/4] of people, who are there by scores
    of [N, M]. anybody: logit [N, 1, H/4, W/4] that a pixel is somebody's, by the parts: people's
    masks are heard as well.
    """
    found = _logit((masks.sigmoid() * scores[..., None, None]).amax(1, keepdim=True))
    chances = torch.cat([found, both_heard(found, anybody) - BOTH_UNSURE], 1).sigmoid()
    of_masks, anybody = _logit(guided(image, chances)).split(1, 1)
    return of_masks - double(found), anybody


def guided(image: Tensor, maps: Tensor) -> Tensor:
    """Maps [N, K, H/2, W/2] that follow the edges of an image [N, 3, H, W], of such at stride 4."""
    fine = F.avg_pool2d(image, OUTLINE_STRIDE)
    ways, offset = _coefficients(F.avg_pool2d(fine, STRIDE // OUTLINE_STRIDE), maps)
    return double(offset) + sum(
        double(way) * colour for way, colour in zip(ways, fine.split(1, 1), strict=True)
    )


def _coefficients(image: Tensor, maps: Tensor) -> tuple[list[Tensor], Tensor]:
    """Three factors, one for each colour, and what is added to them, each [N, K, h, w].

    image: [N, 3, h, w]; maps: [N, K, h, w]. The inverse of each window's 3 x 3 covariance of
    colours is written out, by its cofactors.
    """
    colours = image.split(1, 1)
    mean, mean_of_maps = _near(image).split(1, 1), _near(maps)
    rr, rg, rb, gg, gb, bb = (
        _near(colours[i] * colours[j]) - mean[i] * mean[j] + (LEAST_VARIANCE if i == j else 0)
        for i, j in combinations_with_replacement(range(3), 2)
    )
    with_maps = [_near(colours[i] * maps) - mean[i] * mean_of_maps for i in range(3)]
    cofactors = (
        (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb),
        (gb * rb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb),
        (rg * gb - gg * rb, rb * rg - rr * gb, rr * gg - rg * rg),
    )
    determinant = sum(of * value for of, value in zip(cofactors[0], (rr, rg, rb), strict=True))
    ways = [
        sum(of * value for of, value in zip(row, with_maps, strict=True)) / determinant
        for row in cofactors
    ]
    offset = mean_of_maps - sum(way * of for way, of in zip(ways, mean, strict=True))
    return [_near(way) for way in ways], _near(offset)


def _near(maps: Tensor) -> Tensor:
    """Means over the window around each pixel; of those at a border, over what there is."""
    return F.avg_pool2d(maps, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)


def _logit(chance: Tensor) -> Tensor:
    return log_odds(chance, LEAST_CHANCE, 1 - LEAST_CHANCE)
