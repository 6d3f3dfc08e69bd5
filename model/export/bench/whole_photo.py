"""The reference's post-processing in numpy, every mask at the photo's size, as ModelScope has it.

`M2FP.postprocess` with `instance_parsing_inference` of
`modelscope/models/cv/image_human_parsing/m2fp_net.py`. What the tests hold exactness against is
elsewhere (`tests/judge.py`); this is here for what it holds in memory.
"""

import numpy as np
from numpy.typing import NDArray

PERSON_ID = 20
TOP_PAIRS = 100
PASTE_SCORE = 0.3
LEAST_SCORE = 0.1
DIVISOR = 32

Array = NDArray[np.float32]
Size = tuple[int, int]


def results(class_logits: Array, mask_logits: Array, working: Size, photo: Size) -> dict:
    """Label map, and the score and mask of each part and person. Sizes are (width, height)."""
    padded = tuple(-(-side // DIVISOR) * DIVISOR for side in working)
    masks = _resampled(mask_logits, padded)
    masks = _resampled(masks[:, : working[1], : working[0]], photo)
    power = np.exp(class_logits - class_logits.max(1, keepdims=True))
    shares = (power / power.sum(1, keepdims=True))[:, :-1]
    best = np.argsort(-shares.ravel(), kind="stable")[:TOP_PAIRS]
    queries, classes = np.divmod(best, shares.shape[1])
    masks = masks[queries]
    inside = masks > 0
    probabilities = _sigmoid(masks)
    means = (probabilities * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
    scores = shares.ravel()[best] * means
    maps = np.stack([_pasted(probabilities, scores, classes == c) for c in range(PERSON_ID)])
    kept = np.flatnonzero((classes != 0) & (scores >= LEAST_SCORE))
    found = [(int(classes[k]), float(scores[k]), inside[k].astype(np.float32)) for k in kept]
    return {"labels": maps.argmax(0), "found": found}


def _pasted(probabilities: Array, scores: Array, of_class: NDArray[np.bool_]) -> Array:
    total = np.zeros(probabilities.shape[1:], np.float32)
    times = np.zeros_like(total)
    for pair in np.flatnonzero(of_class & (scores >= PASTE_SCORE)):
        value = probabilities[pair] * scores[pair]
        total += np.where(value > 0.5, value, 0)
        times += value > 0.5
    return total / np.maximum(times, 1)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _resampled(planes: Array, size: Size) -> Array:
    """`F.interpolate(mode="bilinear", align_corners=False)` of [N, h, w]."""
    low, high, weight = _taps(planes.shape[1], size[1])
    planes = planes[:, low] * (1 - weight)[:, None] + planes[:, high] * weight[:, None]
    low, high, weight = _taps(planes.shape[2], size[0])
    return planes[:, :, low] * (1 - weight) + planes[:, :, high] * weight


def _taps(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    position = (np.arange(target) + 0.5) * source / target - 0.5
    position = position.clip(0, source - 1)
    low = position.astype(np.int64)
    return low, np.minimum(low + 1, source - 1), (position - low).astype(np.float32)
