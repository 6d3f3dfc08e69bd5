"""Which garment a pixel is, once more: what is worn nearby, and by the same person, is likelier.

A pixel alone takes a coat for upper clothes here and for a dress there. How much of each garment a
person wears is taken for its chance beforehand, and the pixels are read anew with it, some times
over: after Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
Probabilities" (Neural Computation, 2002), where this is expectation maximisation. Nothing is
learned, but for what a `garment_classifier` says of the person beforehand.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.classes import GARMENTS, NUM_PARTS
from m2fp_train.network import double
from m2fp_train.persons import log_sum_exp

CELL = 4
"""Pixels of the parts, each way, that are counted together."""
NEAR = 5
"""Cells, each way, of what is nearby."""
ROUNDS = 4
LEAST_SHARE = 1e-3
"""Added to the share of a garment, which is never ruled out."""
LEAST_NEAR = 1e-2
SHARED = [garment - 1 for garment in GARMENTS]
"""Indices of the garments among the shares of somebody, which the background has none of."""
NOBODYS = 0.05
"""How much a pixel is nobody's, where a person's mask and score give at most 1 to somebody."""
LEAST_WORN = 1e-6


def settled_garments(
    shares: Tensor,
    anybody: Tensor,
    masks: Tensor,
    scores: Tensor,
    classify: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """As `shares`, in which garments are in fewer pieces.

    shares, anybody: what is said of the parts, [N, 19, h, w] and [N, 1, h, w], as
    `shares_of_somebody` has it; h and w are multiples of `CELL`. masks: logits [N, M, h, w] of
    people, who are there by scores of [N, M]. classify: by how much each garment is likelier than
    usual, a logarithm [N, M + 1, garments], asked with `worn` and `owners` as `garment_classifier`
    has them. How likely a pixel is any garment does not change, nor what is no garment.
    """
    garments = shares[:, SHARED]
    # A sigmoid would not do: ONNX Runtime rounds small ones.
    seen = F.avg_pool2d((garments - F.softplus(-anybody)).exp(), CELL)
    worn = seen.sum(1, keepdim=True).clamp(min=LEAST_WORN)
    owners = _owners(masks, scores)
    said = torch.zeros_like(seen)
    if classify is not None:
        said = (classify(seen, owners).transpose(1, 2) @ owners).reshape(seen.shape)
    seen = (seen / worn).clamp(min=LEAST_WORN)

    chance = (seen.log() + said).softmax(1)
    for _ in range(ROUNDS):
        wearing = chance * worn
        amounts = owners @ wearing.flatten(2).transpose(1, 2)  # [N, M + 1, garment]
        own = _log_shares(amounts, 2, LEAST_SHARE)
        near = F.avg_pool2d(wearing, NEAR, stride=1, padding=NEAR // 2)
        change = (own.transpose(1, 2) @ owners).reshape(seen.shape)
        change = change + _log_shares(near, 1, LEAST_NEAR) + said
        chance = (seen.log() + change).softmax(1)

    changed = garments + double(double(change))
    changed = changed + (log_sum_exp(garments) - log_sum_exp(changed))
    count = shares.shape[1]
    places = [
        count + SHARED.index(part) if part in SHARED else part for part in range(NUM_PARTS - 1)
    ]
    return torch.cat([shares, changed], 1)[:, places]


def _owners(masks: Tensor, scores: Tensor) -> Tensor:
    """[N, M + 1, cells]: by what share a cell is each person's, and, last, nobody's."""
    owners = F.avg_pool2d(masks.sigmoid(), CELL).flatten(2) * scores[..., None]
    owners = torch.cat([owners, torch.full_like(owners[:, :1], NOBODYS)], 1)
    return owners / owners.sum(1, keepdim=True)


def _log_shares(amounts: Tensor, axis: int, least: float) -> Tensor:
    """Log of the shares of garments along an axis, none less than about `least`."""
    total = amounts.sum(axis, keepdim=True).clamp(min=LEAST_WORN)
    return (amounts / total + least).log()
