"""Which garments a person wears, by what all of their pixels look like together.

A pixel sees too little to tell a dress from a coat. What a person wears is known from street photos
without any pixel's label, too: from lists of tags.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.backbone import BLOCK_CHANNELS
from m2fp_train.classes import GARMENT_NAMES, GARMENTS
from m2fp_train.multipose import BLOCKS, TAPS
from m2fp_train.network import WIDTH

LOOKS = WIDTH + 2 * BLOCK_CHANNELS[-1] + BLOCKS[TAPS[16]][0] + BLOCKS[TAPS[32]][0]
"""Channels of what describes a place: nano's maps, nano's and BodyPix's backbones, multipose's."""
UPPER, LOWER = (
    [GARMENT_NAMES.index(name) for name in names]
    for names in (
        ("UpperClothes", "Dress", "Coat", "Scarf"),
        ("Dress", "Socks", "Pants", "Skirt"),
    )
)
"""Indices of garments that are worn above the waist, and below it."""
DESCRIBED = 3 * LOOKS + len(GARMENTS)
"""Numbers that describe what somebody wears."""
HIDDEN = 128
WEIGHT = 1.2
"""How much it counts against what the pixels say; chosen on the validation photos."""
LEAST_RATIO = 0.01
"""Added to how much likelier a garment is than usual, so that none is ruled out."""
LEAST_WORN = 1e-3
"""Cells; what a person is taken to wear at least, so that nothing is divided by nothing."""
LEAST_SHARE = 1e-3
LEAST_VARIANCE = 1e-4


class Usual(nn.Module):
    """The log of how often each garment is worn."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((len(GARMENTS),), 0.5).log(), requires_grad=False)

    def forward(self, log_chance: Tensor) -> Tensor:
        return log_chance - self.bias


class GarmentClassifier(nn.Module):
    """What people look like, and by how much each garment is theirs -> how much likelier than usual
    each garment is, as a logarithm. Says the same of all garments until it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(DESCRIBED, HIDDEN)
        self.out = nn.Linear(HIDDEN, len(GARMENTS))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.usual = Usual()

    def forward(self, looks: Tensor, worn: Tensor, owners: Tensor) -> Tensor:
        """[N, M, garments] of M owners; see `description`."""
        return WEIGHT * self.likelier(self.logits(description(looks, worn, owners)))

    def logits(self, described: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(described)))

    def likelier(self, logits: Tensor) -> Tensor:
        return (self.usual(F.logsigmoid(logits)).exp() + LEAST_RATIO).log()


def description(looks: Tensor, worn: Tensor, owners: Tensor) -> Tensor:
    """[N, M, `DESCRIBED`]: what owners' garments look like above the waist, and below it, in the
    mean; the deviation of what all of them look like; and the log of each garment's share of them.
    A pixel counts for above and below as far as it is taken for garments of `UPPER` and `LOWER`.

    looks: [N, LOOKS, h, w]. worn: [N, garments, h, w], each garment's share of a cell. owners:
    [N, M, h w], by what share a cell is whose.
    """
    looks = looks.flatten(2)
    worn = worn.flatten(2)
    amounts = owners @ worn.transpose(1, 2)
    kinds = (worn, worn[:, UPPER], worn[:, LOWER])
    weights = [owners * kind.sum(1, keepdim=True) for kind in kinds]
    together = torch.cat(weights, 1)
    totals = together.sum(2, keepdim=True).clamp(min=LEAST_WORN)
    mean, upper, lower = (together @ looks.transpose(1, 2) / totals).chunk(len(kinds), 1)
    all_worn, _, _ = totals.chunk(len(kinds), 1)
    variance = weights[0] @ (looks * looks).transpose(1, 2) / all_worn - mean * mean
    deviation = variance.clamp(min=LEAST_VARIANCE).sqrt()
    shares = (amounts / all_worn + LEAST_SHARE).log()
    return torch.cat([upper, lower, deviation, shares], 2)
