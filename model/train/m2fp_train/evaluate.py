"""Measures a model on labelled photos, from photo to label map at the photo's own size.

The steps after the network are those of the Lambda function's `semantic` label map.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.classes import IGNORE, NUM_CLASSES, NUM_PARTS, PERSON_ID
from m2fp_train.crowd import crowd_scene
from m2fp_train.geometry import STRIDE, SizeRule
from m2fp_train.instances import FoundPerson, InstanceScores, find_persons
from m2fp_train.manifest import THRESHOLDS
from m2fp_train.onnx_graph import INPUT_NAME, OUTPUT_NAMES, open_session
from m2fp_train.queries import QueryParser
from m2fp_train.scene import Scene

CROWD_SHAPE = (384, 683)
"""Height and width of composed scenes: what a photo of 1920 x 1080 is shown at."""
CROWD_PEOPLE = (2, 3, 4)
CROWD_SEED, GHOST_SEED, CONFIDENCE_SEED = 0, 1, 2
LEAST_SCORE = 0.02
"""Persons of a score above this count in average precision: a curve needs those on its tail."""

Predictor = Callable[[np.ndarray], tuple[Tensor, Tensor]]
"""uint8 [1, 3, H, W] -> class logits [1, Q, 22] and mask logits [1, Q, h, w] at stride 4."""


def torch_predictor(parser: QueryParser) -> Predictor:
    def predict(image: np.ndarray) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return parser(torch.from_numpy(image))

    return predict


def onnx_predictor(path: Path) -> Predictor:
    session = open_session(path)

    def predict(image: np.ndarray) -> tuple[Tensor, Tensor]:
        class_logits, mask_logits = session.run(list(OUTPUT_NAMES), {INPUT_NAME: image})
        return torch.from_numpy(class_logits), torch.from_numpy(mask_logits)

    return predict


@dataclass
class Scores:
    """Pixels counted over photos: per class 0..20, where Human is judged by all persons' masks."""

    intersection: np.ndarray
    union: np.ndarray

    @classmethod
    def empty(cls) -> "Scores":
        return cls(np.zeros(NUM_CLASSES, np.int64), np.zeros(NUM_CLASSES, np.int64))

    def add(self, class_id: int, predicted: np.ndarray, true: np.ndarray) -> None:
        """Count one class in one photo; both are bool [pixels], ignored pixels left out."""
        self.intersection[class_id] += np.count_nonzero(predicted & true)
        self.union[class_id] += np.count_nonzero(predicted | true)

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union [21]; NaN for a class that is nowhere."""
        with np.errstate(invalid="ignore"):
            return self.intersection / self.union

    @property
    def mean_iou(self) -> float:
        """mIoU over the 20 part classes (Background included) that occur or are predicted."""
        return float(np.nanmean(self.iou[:NUM_PARTS]))

    @property
    def person_iou(self) -> float:
        return float(self.iou[PERSON_ID])


def evaluate(predict: Predictor, rule: SizeRule, scenes: Iterable[Scene]) -> Scores:
    scores = Scores.empty()
    for scene in scenes:
        label_map, persons = parse(predict, rule, scene.image)
        human = anywhere(persons, label_map.shape)
        known = scene.parts != IGNORE
        for class_id in range(NUM_PARTS):
            scores.add(class_id, label_map[known] == class_id, scene.parts[known] == class_id)
        known = scene.person != IGNORE
        scores.add(PERSON_ID, human[known], scene.person[known] == 1)
    return scores


def evaluate_crowds(
    predict: Predictor, rule: SizeRule, people: Sequence[Scene], count: int, seed: int = CROWD_SEED
) -> InstanceScores:
    """How well people are told apart in `count` scenes composed of `people`."""
    scores = InstanceScores()
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        scene = crowd_scene(rng, people, CROWD_SHAPE, int(rng.choice(CROWD_PEOPLE)))
        _, persons = parse(predict, rule, scene.image, LEAST_SCORE)
        scores.add(persons, scene.numbers)
    return scores


def count_ghosts(predict: Predictor, rule: SizeRule, people: Sequence[Scene], count: int) -> int:
    """How many persons are seen in `count` scenes of nobody."""
    ghosts = 0
    for index in range(count):
        scene = crowd_scene(np.random.default_rng((GHOST_SEED, index)), people, CROWD_SHAPE, 0)
        ghosts += len(parse(predict, rule, scene.image)[1])
    return ghosts


def parse(
    predict: Predictor,
    rule: SizeRule,
    photo: np.ndarray,
    least: float = THRESHOLDS["person_score"],
) -> tuple[np.ndarray, list[FoundPerson]]:
    """Label map (class id 0..19) and persons of a photo uint8 [H, W, 3], at its size.

    Persons have a score above `least`.
    """
    height, width = photo.shape[:2]
    working = rule.working_size(width, height)
    resized = Image.fromarray(photo).resize(working, Image.Resampling.BILINEAR)
    image = np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1)[None])
    class_logits, mask_logits = predict(image)
    masks = to_photo_size(mask_logits, working, (width, height))[0]
    # Part classes only: Human overlaps all of them, and the last logit is "no object".
    probability = class_logits[0].softmax(-1)[:, :NUM_PARTS]
    semantic = torch.einsum("qc,qhw->chw", probability, masks.sigmoid())
    label_map = semantic.argmax(0).numpy().astype(np.uint8)
    return label_map, find_persons(class_logits[0], masks, least)


def anywhere(persons: Sequence[FoundPerson], shape: tuple[int, ...]) -> np.ndarray:
    """bool `shape`: where any of the persons is."""
    masks = [person.mask for person in persons]
    return np.logical_or.reduce(masks) if masks else np.zeros(shape, bool)


def to_photo_size(mask_logits: Tensor, working: tuple[int, int], photo: tuple[int, int]) -> Tensor:
    """Mask logits [1, Q, h, w] upsampled to the padded size, cropped, resampled to the photo.

    Sizes are (width, height). Both steps are bilinear, half-pixel centres, no antialiasing.
    """
    padded = F.interpolate(mask_logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)
    cropped = padded[:, :, : working[1], : working[0]]
    return F.interpolate(cropped, size=photo[::-1], mode="bilinear", align_corners=False)
