"""The post-processing of ModelScope's `image-human-parsing`, written again in numpy.

`parsing_reference.py FOLDER` reads `case.json`, `class_logits.f32` and `mask_logits.f32` and writes `labels.u8`,
`labels.sure`, `instances.u8`, `instances.sure` and `pairs.json`. A pixel is sure where its best two classes (persons)
differ by 1e-5 or more and no threshold is that near. Photos are computed whole: this program may be slow and large.

The steps are `M2FP.postprocess` with `instance_parsing_inference` (label map `paste`) or `semantic_inference`
(`semantic`) of `modelscope/models/cv/image_human_parsing/m2fp_net.py`, and `single_human_sem_seg_postprocess` where the
photo lies in the middle of a letterbox; the resize is `aten/src/ATen/native/UpSample.h`.
"""

import json
import sys
from pathlib import Path

import numpy as np

CLOSE = 1e-5

Array = np.ndarray


def steps(source: int, target: int) -> tuple[Array, Array, Array]:
    """Lower and upper source index and the upper one's weight, for each target index."""
    if source == target:
        index = np.arange(target)
        return index, index, np.zeros(target, np.float32)
    scale = np.float32(source) / np.float32(target)
    position = scale * (np.arange(target, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    position = np.maximum(position, np.float32(0))
    low = np.minimum(position.astype(np.int64), source - 1)
    high = np.minimum(low + 1, source - 1)
    return low, high, np.clip(position - low.astype(np.float32), 0, 1).astype(np.float32)


def interpolate(planes: Array, height: int, width: int) -> Array:
    """`F.interpolate(mode="bilinear", align_corners=False)` of [N, h, w]."""
    low, high, weight = steps(planes.shape[1], height)
    weight = weight[None, :, None]
    planes = planes[:, low] * (1 - weight) + planes[:, high] * weight
    low, high, weight = steps(planes.shape[2], width)
    return planes[:, :, low] * (1 - weight) + planes[:, :, high] * weight


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def softmax(logits: Array) -> Array:
    power = np.exp(logits - logits.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)


def greatest(values: Array, near: Array) -> tuple[Array, Array]:
    """Index of the greatest of [N, H, W], and where that is beyond doubt."""
    ordered = np.sort(values, axis=0)
    rival = ordered[-2] if len(values) > 1 else np.zeros_like(ordered[-1])
    sure = (ordered[-1] - rival >= CLOSE) | (ordered[-1] == 0)
    return values.argmax(0), sure & ~near


class Case:
    """What is given: logits, sizes and thresholds."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "case.json").read_text())
        for name in ("padded", "photo"):
            setattr(self, name, tuple(facts[name]))
        working = facts["working"]
        left, top, size = working["left"], working["top"], working["size"]
        self.crop = slice(None), slice(top, top + size["height"]), slice(left, left + size["width"])
        self.label_map: str = facts["label_map"]
        self.background: int = facts["background_id"]
        self.person: int | None = facts["person_id"]
        self.thresholds: dict[str, float] = facts["thresholds"]
        width, height = facts["mask"]
        logits = np.fromfile(folder / "class_logits.f32", np.float32)
        self.class_logits = logits.reshape(facts["queries"], facts["classes"] + 1)
        self.mask_logits = np.fromfile(folder / "mask_logits.f32", np.float32).reshape(-1, height, width)

    def to_photo(self, planes: Array) -> Array:
        """Planes of the padded size, cropped and resampled to the photo's."""
        return interpolate(planes[self.crop], self.photo[1], self.photo[0])


def pairs(case: Case, masks: Array) -> list[dict]:
    """The best (query, class) pairs with their scores."""
    probabilities = softmax(case.class_logits)[:, :-1]
    classes = probabilities.shape[1]
    order = np.argsort(-probabilities.ravel(), kind="stable")[: int(case.thresholds["top_k"])]
    found = []
    for place in order:
        query, label = divmod(int(place), classes)
        inside = masks[query] > 0
        mean = (sigmoid(masks[query]) * inside).sum() / (inside.sum() + 1e-6)
        score = float(probabilities[query, label] * mean)
        found.append({"query": query, "class": label, "score": score, "pixels": int(inside.sum())})
    found.sort(key=lambda pair: (-pair["score"], pair["query"], pair["class"]))
    return found


def suppressed(case: Case, persons: list[dict], masks: Array) -> list[dict]:
    """Greedy mask-NMS, best first."""
    kept: list[dict] = []
    for person in persons:
        mask = masks[person["query"]] > 0
        others = (masks[other["query"]] > 0 for other in kept)
        if all((mask & other).sum() <= case.thresholds["nms_iou"] * (mask | other).sum() for other in others):
            kept.append(person)
    return kept


def pasted(case: Case, found: list[dict], masks: Array) -> tuple[Array, Array]:
    """`paste_instance_to_semseg_probs` for each class but the person's, and argmax."""
    values, near = [], np.zeros(masks.shape[1:], bool)
    for label in range(case.person):
        total = np.zeros(masks.shape[1:])
        times = np.zeros(masks.shape[1:])
        for pair in reversed(found):
            if pair["class"] != label or pair["score"] < case.thresholds["paste_score"]:
                continue
            value = sigmoid(masks[pair["query"]]) * pair["score"]
            near |= np.abs(value - 0.5) < CLOSE
            total += np.where(value > 0.5, value, 0)
            times += value > 0.5
        values.append(total / np.maximum(times, 1))
    return greatest(np.stack(values), near)


def semantic(case: Case) -> tuple[Array, Array]:
    """`semantic_inference` at the padded size for each class but the person's, resampled, and argmax."""
    probabilities = softmax(case.class_logits)[:, :-1][:, : case.person]
    padded = sigmoid(interpolate(case.mask_logits, case.padded[1], case.padded[0]))
    maps = case.to_photo(np.einsum("qc,qhw->chw", probabilities, padded))
    return greatest(maps, np.zeros(maps.shape[1:], bool))


def whose(persons: list[dict], masks: Array) -> tuple[Array, Array]:
    """Number of the person with the greatest sigmoid · score at each pixel."""
    claims = [np.zeros(masks.shape[1:])]
    near = np.zeros(masks.shape[1:], bool)
    for person in persons:
        mask = masks[person["query"]]
        near |= np.abs(mask) < CLOSE
        claims.append(np.where(mask > 0, sigmoid(mask) * person["score"], 0))
    return greatest(np.stack(claims), near)


def main(folder: Path) -> None:
    case = Case(folder)
    masks = case.to_photo(interpolate(case.mask_logits, case.padded[1], case.padded[0]))
    found = pairs(case, masks)
    thresholds = case.thresholds
    persons = [p for p in found if p["class"] == case.person and p["score"] > thresholds["person_score"]]
    parts = [p for p in found if p["class"] not in (case.person, case.background)]
    parts = [p for p in parts if p["score"] >= thresholds["part_score"]]
    kept = suppressed(case, persons, masks)
    labels = pasted(case, found, masks) if case.label_map == "paste" else semantic(case)
    for name, (values, sure) in {"labels": labels, "instances": whose(kept, masks)}.items():
        values.astype(np.uint8).tofile(folder / f"{name}.u8")
        sure.astype(np.uint8).tofile(folder / f"{name}.sure")
    lists = {"parts": parts, "raw_persons": persons, "persons": kept}
    (folder / "pairs.json").write_text(json.dumps(lists))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
