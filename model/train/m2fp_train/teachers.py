"""Networks of others that know people in ordinary photos, asked together: the teachers.

Multipose says where people are (at two scales, for each is blind to the other's sizes), BodyPix and
BlazePose what of a box is the person, BodyPix alone which pixels are anybody's. What is done with
their answers was chosen on photos that nothing is trained on. BlazePose runs in TensorFlow Lite, of
the extra `teach`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.backbone import BodyPix, load_bodypix
from m2fp_train.multipose import Multipose, load_multipose, multipose_graph
from m2fp_train.multipose_parser import (
    FAINTEST_CENTRE,
    PEAK_WINDOW,
    keypoint_factor,
    person_boxes,
)
from m2fp_train.taught import Lesson, TaughtPerson

SMALL_VIEW, LARGE_VIEW = 256, 512
"""Long sides in pixels at which multipose looks at a photo."""
LARGEST_IN_LARGE, SMALLEST_IN_SMALL = 160.0, 40.0
"""Side in pixels of the view of a square as large as a box, from where on the view is not asked."""
MOST_PEOPLE = 30
DUPLICATE_IOU = 0.5
LEAST_SCORE = 0.1

BODYPIX_STRIDE = 16
BODYPIX_VIEWS = (320, 640)
"""Long sides in pixels at which BodyPix looks for anybody."""
BODYPIX_CROP, BODYPIX_CROP_SIDE = 1.3, 257
"""Sides of a crop around a box, in sides of the box; and its long side in pixels."""
NEARER_ANOTHER = 0.6
"""What is left of a pixel's chance where it lies nearer to the middle of another box."""
BLAZEPOSE_CROPS = (1.5, 1.75)
"""Side of the square around a box in its longer side: tighter ones fail where the frame cuts."""
BLAZEPOSE_SIDE = 256
MASK_CHANCE = 0.45
"""Chance from which a pixel is the person's."""

Box = np.ndarray
"""float [4]: left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class FoundBox:
    score: float
    box: Box


class MultiposeTeacher:
    """Boxes of people."""

    def __init__(self, graph: Path) -> None:
        self.network = Multipose().eval()
        load_multipose(self.network, graph)

    def boxes(self, image: np.ndarray) -> list[FoundBox]:
        """Best first. image: uint8 RGB [H, W, 3]."""
        found = []
        for side, least, most in (
            (SMALL_VIEW, SMALLEST_IN_SMALL, np.inf),
            (LARGE_VIEW, 0, LARGEST_IN_LARGE),
        ):
            scale = side / max(image.shape[:2])
            for person in self.boxes_at(image, side):
                size = np.sqrt(_area(person.box)) * scale
                if least <= size <= most:
                    found.append(person)
        return without_duplicates(found)

    def boxes_at(self, image: np.ndarray, side: int) -> list[FoundBox]:
        """As the published model finds them in a photo whose long side is `side` pixels."""
        scale = side / max(image.shape[:2])
        view = _resized(image, [max(1, round(length * scale)) for length in image.shape[:2]])
        padding = [(0, -length % 32) for length in view.shape[:2]]
        view = np.pad(view, (*padding, (0, 0)))  # with black
        with torch.no_grad():
            _, heads = self.network(_tensor(view) / 127.5 - 1)
            peaks = heads.centres == F.max_pool2d(
                heads.centres, PEAK_WINDOW, stride=1, padding=PEAK_WINDOW // 2
            )
            peaks = heads.centres.masked_fill(~peaks, FAINTEST_CENTRE - 1).flatten(1)
            centres, cells = peaks.topk(min(MOST_PEOPLE, peaks.shape[1]))
            cells = cells[:, centres[0] > FAINTEST_CENTRE]
            centres = centres[:, : cells.shape[1]].sigmoid()
            scores = (centres * keypoint_factor(heads, cells))[0].numpy()
            _, boxes = person_boxes(heads, cells)
        x, y = boxes.centres[0].numpy().T / scale
        width, height = boxes.sizes[0].numpy().T / scale
        corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)
        limits = np.array([*image.shape[1::-1]] * 2, float)
        corners = corners.clip(0, limits)
        kept = [
            FoundBox(float(score), box)
            for score, box in zip(scores, corners, strict=True)
            if score >= LEAST_SCORE and _area(box) >= 1
        ]
        return without_duplicates(kept)


def without_duplicates(found: Sequence[FoundBox]) -> list[FoundBox]:
    """Best first, less those that overlap a better one."""
    kept: list[FoundBox] = []
    for person in sorted(found, key=lambda person: -person.score):
        if all(box_iou(person.box, other.box) <= DUPLICATE_IOU for other in kept):
            kept.append(person)
    return kept


class BodyPixTeacher:
    """The chance that a pixel is anybody's."""

    def __init__(self, folder: Path) -> None:
        self.network = BodyPix().eval()
        load_bodypix(self.network, folder)

    def anybody(self, image: np.ndarray) -> np.ndarray:
        """float32 [H, W] of uint8 RGB [H, W, 3]."""
        return np.mean([self._look(image, side) for side in BODYPIX_VIEWS], 0)

    def in_box(self, image: np.ndarray, box: Box) -> np.ndarray:
        """float32 [H, W], 0 away from the box."""
        left, top, right, bottom = _around(box, BODYPIX_CROP, image.shape)
        chance = np.zeros(image.shape[:2], np.float32)
        crop = image[top:bottom, left:right]
        chance[top:bottom, left:right] = self._look(crop, BODYPIX_CROP_SIDE)
        return chance

    def _look(self, image: np.ndarray, side: int) -> np.ndarray:
        """Mean of a picture and its mirror image, its long side being some `side` pixels."""
        scale = side / max(image.shape[:2])
        shape = [
            max(1, round((length * scale - 1) / BODYPIX_STRIDE)) * BODYPIX_STRIDE + 1
            for length in image.shape[:2]
        ]
        view = _tensor(_resized(image, shape)) / 127.5 - 1
        with torch.no_grad():
            logits, _ = self.network(torch.cat([view, view.flip(3)]))
            logits = F.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=True)
            chance = logits.sigmoid()
        return ((chance[0, 0] + chance[1, 0].flip(1)) / 2).numpy()


class BlazePoseTeacher:
    """A person's mask and landmarks in a square around it."""

    MASK, LANDMARKS, PRESENCE = "Identity_2", "Identity", "Identity_1"
    COUNT = 39
    """Landmarks that the network gives; the first 33 are a body's."""

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "teaching needs TensorFlow Lite: pip install model/train[teach]"
            ) from error
        self.interpreter = Interpreter(str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.outputs = {
            detail["name"]: detail["index"] for detail in self.interpreter.get_output_details()
        }

    def mask(self, image: np.ndarray, box: Box, times: float) -> np.ndarray:
        """float32 [H, W], the chance that a pixel is this person's; 0 outside the square."""
        square = square_around(box, times)
        self._look(image, square)
        chance = 1 / (1 + np.exp(-self._output(self.MASK)[0, :, :, 0]))
        return pasted(chance, square, image.shape[:2])

    def landmarks(self, image: np.ndarray, box: Box, times: float) -> np.ndarray:
        """float32 [33, 4]: x and y in pixels of the photo, chances of being visible and inside."""
        square = square_around(box, times)
        self._look(image, square)
        points = self._output(self.LANDMARKS).reshape(self.COUNT, 5)[:33]
        left, top, side = square
        places = points[:, :2] / BLAZEPOSE_SIDE * side + (left, top)
        return np.concatenate([places, 1 / (1 + np.exp(-points[:, 3:]))], 1)

    def _look(self, image: np.ndarray, square: tuple[int, int, int]) -> None:
        left, top, side = square
        picture = Image.fromarray(image).crop((left, top, left + side, top + side))
        picture = picture.resize((BLAZEPOSE_SIDE, BLAZEPOSE_SIDE), Image.Resampling.BILINEAR)
        self.interpreter.set_tensor(self.input, np.asarray(picture, np.float32)[None] / 255)
        self.interpreter.invoke()

    def _output(self, name: str) -> np.ndarray:
        return self.interpreter.get_tensor(self.outputs[name])


class Teachers:
    """All of them. data: the folder with `teachers/` and `bodypix/`."""

    def __init__(self, data: Path) -> None:
        teachers = data / "teachers"
        self.multipose = MultiposeTeacher(multipose_graph(data))
        self.bodypix = BodyPixTeacher(data / "bodypix")
        self.blazepose = BlazePoseTeacher(teachers / "pose_landmark_heavy.tflite")

    def lesson(self, image: np.ndarray) -> Lesson:
        """What they say of a photo, uint8 RGB [H, W, 3]."""
        boxes = self.multipose.boxes(image)
        people = [
            TaughtPerson.of(person.score, person.box, mask)
            for person, mask in zip(boxes, self.masks(image, [b.box for b in boxes]), strict=True)
            if mask.any()
        ]
        anybody = np.rint(self.bodypix.anybody(image) * 255).astype(np.uint8)
        return Lesson(people, anybody)

    def masks(self, image: np.ndarray, boxes: Sequence[Box]) -> list[np.ndarray]:
        """bool [H, W] for each box."""
        nearest = nearest_box(boxes, image.shape[:2])
        masks = []
        for number, box in enumerate(boxes):
            pixels = self.bodypix.in_box(image, box)
            pixels = np.where(nearest == number, pixels, pixels * NEARER_ANOTHER)
            blaze = np.mean([self.blazepose.mask(image, box, n) for n in BLAZEPOSE_CROPS], 0)
            masks.append((pixels + blaze) / 2 > MASK_CHANCE)
        return masks


def nearest_box(boxes: Sequence[Box], shape: tuple[int, ...]) -> np.ndarray:
    """int [H, W]: the number of the box in whose half sides a pixel is nearest to its middle."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    ways = [
        np.hypot(
            (columns - (left + right) / 2) / max(right - left, 1),
            (rows - (top + bottom) / 2) / max(bottom - top, 1),
        )
        for left, top, right, bottom in boxes
    ]
    return np.argmin(ways, 0) if ways else np.full(shape, -1)


def square_around(box: Box, times: float) -> tuple[int, int, int]:
    """Left, top and side in pixels of the square around a box."""
    left, top, right, bottom = box
    side = max(2, round(max(right - left, bottom - top) * times))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def pasted(chance: np.ndarray, square: tuple[int, int, int], shape: tuple[int, ...]) -> np.ndarray:
    """A square's chances, float [n, n], in a picture of `shape` that may cut it; 0 elsewhere."""
    left, top, side = square
    picture = Image.fromarray(chance.astype(np.float32)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    # Pillow's crop is 0 outside of the picture.
    return np.asarray(picture.crop((-left, -top, shape[1] - left, shape[0] - top)))


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(sides.clip(min=0).prod())
    union = _area(a) + _area(b) - common
    return common / union if union else 0.0


def _around(box: Box, times: float, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A box grown about its middle, in whole pixels of the picture."""
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * times
    left, top = np.floor(middle - half).clip(0).astype(int)
    right, bottom = np.ceil(middle + half).clip(1, shape[1::-1]).astype(int)
    return min(left, right - 1), min(top, bottom - 1), right, bottom


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _resized(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
