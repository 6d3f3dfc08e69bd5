"""From a network's answer to one label a pixel, as the function computes it (its `label_map.rs`).

At the working size: what the photo's own size adds is interpolation.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from m2fp_export.architecture import STRIDE

CERTAIN = 0.5
"""A pixel is claimed where score times mask probability is above this (`paste`)."""


def label_map(
    class_logits: NDArray[np.float32],
    mask_logits: NDArray[np.float32],
    size: tuple[int, int],
    manifest: dict[str, Any],
) -> NDArray[np.uint8]:
    """[height, width] class ids of `size`, from [1, Q, C+1] and [1, Q, h, w]."""
    shares = torch.from_numpy(class_logits[0]).softmax(1)[:, :-1]
    masks = torch.from_numpy(mask_logits[0])
    if manifest["label_map"] == "paste":
        votes = _pasted(shares, masks, size, manifest)
    else:
        votes = _mixed(shares, masks, size, manifest)
    return votes.argmax(0).to(torch.uint8).numpy()


def _enlarged(mask: torch.Tensor, size: tuple[int, int], stride: int) -> torch.Tensor:
    """A mask's probabilities [height, width], of logits that are without the padding."""
    padded = [side * stride for side in mask.shape]
    large = F.interpolate(mask[None, None], padded, mode="bilinear", align_corners=False)
    return large[0, 0, : size[0], : size[1]].sigmoid()


def _pasted(
    shares: torch.Tensor, masks: torch.Tensor, size: tuple[int, int], manifest: dict[str, Any]
) -> torch.Tensor:
    """Pairs that pass the threshold are pasted where they are certain; of each class and pixel the
    mean of what was pasted there."""
    thresholds = manifest["thresholds"]
    stride = manifest["outputs"].get("stride", STRIDE)
    queries, classes = shares.shape
    votes = torch.zeros(classes, *size)
    counts = torch.zeros(classes, *size)
    best = shares.flatten().topk(min(thresholds["top_k"], queries * classes))
    for share, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        query, label = divmod(index, classes)
        if label == manifest["person_id"] or share < thresholds["paste_score"]:
            continue
        mask = _enlarged(masks[query], size, stride)
        inside = mask > 0.5
        score = share * float((mask * inside).sum() / (inside.sum() + 1e-6))
        if score >= thresholds["paste_score"]:
            pasted = mask * score
            votes[label] += pasted * (pasted > CERTAIN)
            counts[label] += pasted > CERTAIN
    return votes / counts.clamp(min=1)


def _mixed(
    shares: torch.Tensor, masks: torch.Tensor, size: tuple[int, int], manifest: dict[str, Any]
) -> torch.Tensor:
    """Σ over queries of class probability times mask probability."""
    votes = torch.zeros(shares.shape[1], *size)
    for mask, share in zip(masks, shares, strict=True):
        probability = _enlarged(mask, size, manifest["outputs"]["stride"])
        for label in (share > 1e-6).nonzero()[:, 0].tolist():
            votes[label] += share[label] * probability
    # A person is told as a person, not as a label of the map.
    if manifest["person_id"] is not None:
        votes[manifest["person_id"]] = -1
    return votes
