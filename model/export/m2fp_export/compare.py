"""How much 8 bits change: logits, label maps, persons, and which operators are to blame."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from m2fp_export.label_map import label_map

Photo = NDArray[np.uint8]
Answer = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Comparison:
    """agreement: share of pixels with the same label. iou: of each class that either has, over all
    photos together. logit_errors: ‖ours − theirs‖ / ‖theirs‖, the worst photo's, of each output.
    persons_changed: of the maps that say how surely somebody is at a pixel (`Judge.persons`), what
    differs, as a share of what either says."""

    agreement: float
    worst_agreement: float
    iou: dict[int, float]
    logit_errors: list[float]
    persons_changed: float

    @property
    def harm(self) -> float:
        """Share of labels or of persons that changed, the greater; 1 where an answer is not a
        number."""
        finite = np.isfinite(self.logit_errors).all()
        return max(1 - self.agreement, self.persons_changed) if finite else RUINOUS

    def as_json(self, classes: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "label_agreement": round(self.agreement, 5),
            "worst_label_agreement": round(self.worst_agreement, 5),
            "mean_iou": round(float(np.mean(list(self.iou.values()))), 5),
            "iou": {classes[label]["name"]: round(iou, 5) for label, iou in self.iou.items()},
            "logit_error": [round(error, 5) for error in self.logit_errors],
            "persons_changed": round(self.persons_changed, 5),
        }


class Judge:
    """Holds what the float network answers to some photos."""

    def __init__(
        self, session: onnxruntime.InferenceSession, manifest: dict[str, Any], photos: list[Photo]
    ) -> None:
        self.manifest = manifest
        self.photos = photos
        self.answers = [self._run(session, photo) for photo in photos]
        self.labels = [self._label(*pair) for pair in zip(self.answers, photos, strict=True)]
        self.persons = [self._persons(answer) for answer in self.answers]

    def most_telling(self, count: int) -> "Judge":
        """The same for `count` of the photos, which together show as many classes as can be.

        Harm to a class is seen only where it is shown. A photo counts for more by classes that
        those chosen before it show less.
        """
        classes = [np.unique(labels) for labels in self.labels]
        shown = np.zeros(256)
        chosen: list[int] = []
        while len(chosen) < min(count, len(classes)):
            left = [index for index in range(len(classes)) if index not in chosen]
            best = max(left, key=lambda index: float((2.0 ** -shown[classes[index]]).sum()))
            shown[classes[best]] += 1
            chosen.append(best)
        few = copy(self)
        few.photos = [self.photos[index] for index in chosen]
        few.answers = [self.answers[index] for index in chosen]
        few.labels = [self.labels[index] for index in chosen]
        few.persons = [self.persons[index] for index in chosen]
        return few

    def compare(
        self,
        session: onnxruntime.InferenceSession,
        altered: Callable[[Photo], Photo] | None = None,
    ) -> Comparison:
        """Another network on the same photos, or on altered ones."""
        changed = [altered(photo) if altered else photo for photo in self.photos]
        answers = [self._run(session, photo) for photo in changed]
        labels = [self._label(*pair) for pair in zip(answers, changed, strict=True)]
        persons = [self._persons(answer) for answer in answers]
        differ = _difference(self.persons, persons)
        return compared(self.answers, answers, self.labels, labels, differ)

    def _run(self, session: onnxruntime.InferenceSession, photo: Photo) -> Answer:
        outputs = self.manifest["outputs"]
        names = [outputs["class_logits"], outputs["mask_logits"]]
        return session.run(names, {self.manifest["input"]["name"]: _typed(photo, self.manifest)})

    def _label(self, answer: Answer, photo: Photo) -> NDArray[np.uint8]:
        return label_map(*answer, photo.shape[2:], self.manifest)

    def _persons(self, answer: Answer) -> NDArray[np.float32]:
        """[h, w]: of all queries the greatest product of its chance to be a person and its mask's
        probability; of a model without persons, nothing."""
        class_logits, mask_logits = (output[0].astype(np.float64) for output in answer)
        person = self.manifest["person_id"]
        if person is None:
            return np.zeros(0, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            shares = np.exp(class_logits - class_logits.max(1, keepdims=True))
            masks = 1 / (1 + np.exp(-mask_logits))
        chances = shares[:, person] / shares.sum(1)
        return (chances[:, None, None] * masks).max(0).astype(np.float32)


def _typed(photo: Photo, manifest: dict[str, Any]) -> NDArray[Any]:
    return photo.astype(manifest["input"]["dtype"])


def compared(
    theirs: list[Answer],
    ours: list[Answer],
    their_labels: list[NDArray[np.uint8]],
    our_labels: list[NDArray[np.uint8]],
    persons_changed: float = 0.0,
) -> Comparison:
    pairs = list(zip(their_labels, our_labels, strict=True))
    equal = [int((a == b).sum()) for a, b in pairs]
    sizes = [a.size for a, _ in pairs]
    both, either = np.zeros(256), np.zeros(256)
    for a, b in pairs:
        inside = np.bincount(a[a == b].ravel(), minlength=256)
        both += inside
        either += np.bincount(a.ravel(), minlength=256) + np.bincount(b.ravel(), minlength=256)
        either -= inside
    errors = [
        [_error(o, t) for t, o in zip(a, b, strict=True)] for a, b in zip(theirs, ours, strict=True)
    ]
    return Comparison(
        sum(equal) / sum(sizes),
        min(same / size for same, size in zip(equal, sizes, strict=True)),
        {int(label): float(both[label] / either[label]) for label in either.nonzero()[0]},
        [max(column) for column in zip(*errors, strict=True)],
        persons_changed,
    )


def _difference(theirs: list[NDArray[np.float32]], ours: list[NDArray[np.float32]]) -> float:
    pairs = list(zip(theirs, ours, strict=True))
    either = sum(float(np.maximum(a, b).sum()) for a, b in pairs)
    return sum(float(np.abs(a - b).sum()) for a, b in pairs) / max(either, 1e-12)


def _error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-12))


def one_grey_level(photo: Photo) -> Photo:
    """Every value one more, one less, or the same, at random: nothing that an eye would see."""
    noise = np.random.default_rng(0).integers(-1, 2, photo.shape)
    return np.clip(photo + noise, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Group:
    """Operators of one make and place: judged together, and together left in float.

    products: their share of the network's multiplications; weights: their share of its weights.
    harm: share of the labels, or of the persons, that change where these alone compute in 8 bits.
    """

    name: str
    nodes: tuple[str, ...]
    products: float
    weights: float
    harm: float


HARMFUL = 0.01
"""Up to this a group's harm is no matter."""
RUINOUS = 1.0
"""From this on it stays float whatever that costs: of answers that are not numbers."""
FLOAT_PRODUCTS = 0.02
FLOAT_WEIGHTS = 0.05
"""Shares of all that may stay float: more would cost the time and memory that 8 bits are for."""


def affordable(
    products: float,
    weights: float,
    left: tuple[float, float] = (FLOAT_PRODUCTS, FLOAT_WEIGHTS),
) -> bool:
    """Whether operators of these shares can stay float; left: what those before them leave."""
    return products <= left[0] and weights <= left[1]


def split(groups: Iterable[Group]) -> tuple[list[Group], list[Group]]:
    """Those in 8 bits and those that stay float: the most harmful that can be afforded."""
    in_bytes, in_float = [], []
    products, weights = FLOAT_PRODUCTS, FLOAT_WEIGHTS
    for group in sorted(groups, key=lambda group: -group.harm):
        fits = affordable(group.products, group.weights, (products, weights))
        if group.harm > HARMFUL and (fits or group.harm >= RUINOUS):
            in_float.append(group)
            products -= group.products
            weights -= group.weights
        else:
            in_bytes.append(group)
    return in_bytes, in_float


def shares(costs: Mapping[str, float]) -> dict[str, float]:
    total = sum(costs.values()) or 1.0
    return {name: cost / total for name, cost in costs.items()}
