"""What teachers said of photos that nobody labelled, kept in a folder that a stopped run resumes.

A photo's answer is `NAME.json` (people: scores, boxes and masks as COCO's RLE) and `NAME.png`, the
chance 0..255 that a pixel is anybody's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from m2fp_train.classes import BACKGROUND_ID, IGNORE
from m2fp_train.partial import ANYTHING, SOMEBODY
from m2fp_train.scene import Scene

TRUSTED = 0.3
"""Score from which a person counts; one below is ignored, for it may or may not be there."""
SURE_SOMEBODY, SURE_NOBODY = 0.75, 0.1
"""Chance of a pixel above which it is a person's, and below which it is nobody's."""


@dataclass(frozen=True)
class TaughtPerson:
    """box: left, top, right, bottom in pixels. rle: the mask as COCO's RLE."""

    score: float
    box: tuple[float, float, float, float]
    rle: dict[str, Any]

    @classmethod
    def of(cls, score: float, box: np.ndarray, mask: np.ndarray) -> "TaughtPerson":
        rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        rle = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
        left, top, right, bottom = (round(float(side), 1) for side in box)
        return cls(round(float(score), 4), (left, top, right, bottom), rle)

    @property
    def mask(self) -> np.ndarray:
        """bool [H, W]."""
        return coco_mask.decode(self.rle).astype(bool)


@dataclass(frozen=True)
class Lesson:
    """people: best first. anybody: uint8 [H, W], chance in parts of 255."""

    people: list[TaughtPerson]
    anybody: np.ndarray


class Taught:
    """The folder of lessons; one that does not exist has none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: str) -> bool:
        return (self.folder / f"{name}.json").exists()

    def save(self, name: str, lesson: Lesson) -> None:
        """The JSON file last, and in one move: where it is, the lesson is whole."""
        Image.fromarray(lesson.anybody).save(self.folder / f"{name}.png")
        partial = self.folder / f"{name}.partial"
        partial.write_text(json.dumps([asdict(person) for person in lesson.people]))
        partial.replace(self.folder / f"{name}.json")

    def load(self, name: str) -> Lesson:
        people = [
            TaughtPerson(entry["score"], tuple(entry["box"]), entry["rle"])
            for entry in json.loads((self.folder / f"{name}.json").read_text())
        ]
        with Image.open(self.folder / f"{name}.png") as anybody:
            return Lesson(people, np.asarray(anybody))

    def scene(self, name: str, image: np.ndarray) -> Scene:
        """A photo as the teachers see it; all of it unknown where they were not asked."""
        if name not in self:
            parts = np.full(image.shape[:2], ANYTHING, np.uint8)
            return Scene(image, parts, np.full_like(parts, IGNORE))
        return taught_scene(image, self.load(name))


class Teacher(Protocol):
    """Who gives lessons."""

    def lesson(self, image: np.ndarray) -> Lesson:
        """What there is to learn from a photo, uint8 RGB [H, W, 3]."""


def teach(
    photos: Mapping[str, Path],
    taught: Taught,
    teacher: Callable[[], Teacher],
    most: int | None = None,
) -> None:
    """Keep a lesson on each of `photos` (name -> path) that has none, on `most` of them at most.

    Whoever made what is being kept may be stopped at any time, and started again.
    """
    taught.folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in photos if name not in taught][:most]
    print(f"{len(photos) - len(missing)} of {len(photos)} photos are taught or left", flush=True)
    if not missing:
        return
    teachers = teacher()
    for count, name in enumerate(missing, start=1):
        with Image.open(photos[name]) as photo:
            taught.save(name, teachers.lesson(np.asarray(photo.convert("RGB"))))
        if count % 25 == 0:
            print(f"{count} of {len(missing)}", flush=True)


def taught_scene(image: np.ndarray, lesson: Lesson) -> Scene:
    """Parts: somebody, nobody or anything. Numbers: trusted people; who is doubtful is ignored."""
    chance = lesson.anybody / 255
    numbers = np.where(chance > SURE_NOBODY, IGNORE, 0).astype(np.uint8)
    for person in lesson.people:
        if person.score < TRUSTED:
            numbers[person.mask] = IGNORE
    trusted = [person for person in lesson.people if person.score >= TRUSTED]
    for number, person in reversed(list(enumerate(trusted, start=1))):
        numbers[person.mask] = number  # the best last: it keeps what it shares
    owned = (numbers > 0) & (numbers != IGNORE)
    parts = np.full_like(numbers, ANYTHING)
    parts[numbers == 0] = BACKGROUND_ID
    parts[owned & (chance > SURE_NOBODY) | (chance > SURE_SOMEBODY)] = SOMEBODY
    return Scene(image, parts, numbers)
