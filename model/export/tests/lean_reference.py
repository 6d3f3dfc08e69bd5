"""ModelScope's post-processing one mask at a time, for photos whose masks do not fit into memory.

The tests hold it against ModelScope's own.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from answers import LEAST_SCORE, TOP_PAIRS, Answer, Entry, packed

PASTED_ABOVE = 0.5


class Masks:
    """Mask logits [Q, h, w], each resampled to the photo when asked for."""

    def __init__(
        self,
        logits: Tensor,
        padded: tuple[int, int],
        working: tuple[int, int],
        photo: tuple[int, int],
    ) -> None:
        self.logits, self.padded, self.working, self.photo = logits, padded, working, photo

    def of(self, query: int) -> Tensor:
        """[H, W]"""
        mask = _resample(self.logits[query][None, None], self.padded)
        return _resample(mask[..., : self.working[0], : self.working[1]], self.photo)[0, 0]


def _resample(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask, size=size, mode="bilinear", align_corners=False)


def answer(class_logits: Tensor, masks: Masks, person_id: int, paste_score: float) -> Answer:
    """Sizes are (height, width)."""
    shares, places = class_logits.softmax(1)[:, :-1].flatten().topk(TOP_PAIRS)
    classes = class_logits.shape[1] - 1
    means, bits = {}, {}
    for query in sorted({int(place) // classes for place in places}):
        mask = masks.of(query)
        inside = mask > 0
        # In float64: a sum of millions of float32 depends on its order.
        means[query] = float(mask.sigmoid()[inside].double().sum() / (inside.sum() + 1e-6))
        bits[query] = packed(inside.numpy())
    pairs = [
        (int(place) // classes, int(place) % classes, float(share) * means[int(place) // classes])
        for share, place in zip(shares, places, strict=True)
    ]
    labels = _label_map(pairs, masks, person_id, paste_score)
    entries = [
        Entry(c, score, bits[q]) for q, c, score in pairs if _is_reported(c, score, person_id)
    ]
    return Answer(class_logits.numpy(), masks.logits.numpy(), labels, entries)


def _is_reported(class_id: int, score: float, person_id: int) -> bool:
    if class_id == person_id:
        return score > LEAST_SCORE
    return class_id != 0 and score >= LEAST_SCORE


def _label_map(
    pairs: list[tuple[int, int, float]], masks: Masks, person_id: int, paste_score: float
) -> np.ndarray:
    labels = torch.zeros(masks.photo, dtype=torch.uint8)
    best = torch.zeros(masks.photo)
    for class_id in range(person_id):
        pasted = [(q, score) for q, c, score in pairs if c == class_id and score >= paste_score]
        if pasted:
            mean = _mean_paste(pasted, masks)
            wins = mean > best
            labels[wins] = class_id
            best[wins] = mean[wins]
    return labels.numpy()


def _mean_paste(pasted: list[tuple[int, float]], masks: Masks) -> Tensor:
    total, times = torch.zeros(masks.photo), torch.zeros(masks.photo)
    for values in _pastes(pasted, masks):
        claimed = values > PASTED_ABOVE
        total += torch.where(claimed, values, torch.zeros(()))
        times += claimed
    return total / times.clamp(min=1)


def _pastes(pasted: list[tuple[int, float]], masks: Masks) -> Iterator[Tensor]:
    for query, score in sorted(pasted, key=lambda pair: pair[1]):
        yield masks.of(query).sigmoid() * score
