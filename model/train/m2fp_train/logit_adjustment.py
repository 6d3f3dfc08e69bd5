"""What is added to the parts' logits, so that the mIoU is greatest.

A network that was trained for likelihood says a rare part too seldom, as the mIoU counts it: there
all parts weigh the same, however few pixels they have. After Menon et al., "Long-tail learning via
logit adjustment" (ICLR 2021), afterwards; but found by the mIoU itself, on photos of the training.
"""

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.classes import IGNORE, MIRRORED_PAIRS, NUM_PARTS
from m2fp_train.geometry import SizeRule
from m2fp_train.queries import QueryParser
from m2fp_train.scene import Scene

PIXELS = 12_000
"""Labelled pixels that are drawn from each photo."""
STEPS = (0.5, 0.25, 0.125)
COST = 0.002
"""What the mIoU must gain for each square of what is added: of 0.001, 0.002, 0.004 and 0.008 what
was best on the validation photos, by 0.001 at most."""
LEAST_SHARE = 5e-4
"""Of the pixels, from which on a part is adjusted: of rarer ones too little is known."""
LEAST_GAIN = 1e-5
"""Of the mIoU, for which a step is taken."""
LEAST_CHANCE = 1e-9
"""Of a part, so that its log is finite."""


def fit_adjustment(parser: QueryParser, photos: Iterable[Scene], size: SizeRule) -> Tensor:
    """What to add [20] to the logits of the parts of `parser`, which adds nothing so far."""
    rng = np.random.default_rng(0)
    seen = [_drawn(rng, parser, photo, size) for photo in photos]
    log_chances, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return best_adjustment(log_chances, labels)


def best_adjustment(log_chances: Tensor, labels: Tensor) -> Tensor:
    """What to add [20] to log chances [K, 20] of K pixels, so that the likeliest are most like
    `labels`, int64 [K], by the mIoU. Left and right are added the same."""
    shares = torch.bincount(labels, minlength=NUM_PARTS) / len(labels)
    pairs = [list(pair) for pair in MIRRORED_PAIRS]
    alone = [[part] for part in range(NUM_PARTS) if part not in np.ravel(pairs)]
    groups = [group for group in alone + pairs if (shares[group] >= LEAST_SHARE).all()]

    best = torch.zeros(NUM_PARTS)
    most = _mean_iou(log_chances, labels)
    for step in STEPS:
        for group in groups:
            for way in (step, -step):
                while True:
                    changed = best.clone()
                    changed[group] += way
                    worth = _mean_iou(log_chances + changed, labels)
                    worth -= COST * float(changed.square().sum())
                    if worth < most + LEAST_GAIN:
                        break
                    best, most = changed, worth
    return best


def _drawn(
    rng: np.random.Generator, parser: QueryParser, photo: Scene, size: SizeRule
) -> tuple[Tensor, Tensor]:
    """Log chances [K, 20] and labels [K] of some pixels of a photo."""
    shown = Image.fromarray(photo.image).resize(
        size.working_size(photo.width, photo.height), Image.Resampling.BILINEAR
    )
    with torch.no_grad():
        _, masks = parser(torch.from_numpy(np.array(shown).transpose(2, 0, 1)[None]))
    inside = masks[:, :NUM_PARTS, : -(-shown.height // parser.stride)]
    inside = inside[..., : -(-shown.width // parser.stride)].sigmoid()
    photo_size = (photo.height, photo.width)
    # As the label map is made: chances are interpolated, and no logits.
    chances = F.interpolate(inside, photo_size, mode="bilinear", align_corners=False)[0]
    known = np.flatnonzero(photo.parts != IGNORE)
    drawn = rng.choice(known, min(len(known), PIXELS), replace=False)
    labels = torch.from_numpy(photo.parts.ravel()[drawn]).long()
    return chances.flatten(1)[:, drawn].clamp(min=LEAST_CHANCE).log().T, labels


def _mean_iou(log_chances: Tensor, labels: Tensor) -> float:
    found = log_chances.argmax(1)
    counts = torch.bincount(labels * NUM_PARTS + found, minlength=NUM_PARTS**2)
    counts = counts.reshape(NUM_PARTS, NUM_PARTS).double()
    hits = counts.diagonal()
    return float(torch.nanmean(hits / (counts.sum(0) + counts.sum(1) - hits)))
