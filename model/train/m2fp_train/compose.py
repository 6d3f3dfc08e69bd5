"""Composes large scenes of people of known height, with true labels and person numbers.

Every choice is drawn from the generator that is passed in, so that a scene can be made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from m2fp_train.augment import Rng, jitter_colors, paste_person
from m2fp_train.classes import BACKGROUND_ID
from m2fp_train.scene import Box, Scene

PLACES_TRIED = 40
"""How many places are tried for a person before there is no room for it."""
MIRROR_CHANCE = 0.5


@dataclass(frozen=True)
class Person:
    """A person of a composed scene: its height when whole, and the box it was pasted in."""

    height: int
    box: Box


@dataclass(frozen=True)
class ComposedScene:
    """A scene, and the people in it in the order of their numbers."""

    scene: Scene
    people: tuple[Person, ...]


def compose(
    rng: Rng, background: np.ndarray, people: Sequence[Scene], heights: Sequence[int]
) -> ComposedScene:
    """People of `heights` pixels, drawn from `people`, before `background` (uint8 [H, W, 3]).

    No box touches another; tall people are placed first, and whoever finds no room is left out.
    """
    shape = background.shape[:2]
    nobody = np.zeros(shape, np.uint8)
    scene = Scene(background, np.full(shape, BACKGROUND_ID, np.uint8), nobody)
    placed: list[Person] = []
    for height in sorted(heights, reverse=True):
        cut = _cut_out(rng, people[rng.integers(len(people))], height)
        box = _free_box(rng, (cut.width, cut.height), shape, [person.box for person in placed])
        if box is None:
            continue
        scene = paste_person(scene, cut, box[0], box[1])
        placed.append(Person(height, box))
    return ComposedScene(scene, tuple(placed))


def random_background(rng: Rng, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A part of a photo of nobody, mirrored or not, in other colours, at `size` (width, height)."""
    height, width = photo.shape[:2]
    share = rng.uniform(0.6, 1)
    scale = share * min(width / size[0], height / size[1])
    part = (int(size[0] * scale), int(size[1] * scale))
    left = int(rng.integers(0, width - part[0] + 1))
    top = int(rng.integers(0, height - part[1] + 1))
    pixels = photo[top : top + part[1], left : left + part[0]]
    if rng.random() < MIRROR_CHANCE:
        pixels = pixels[:, ::-1]
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC)
    return jitter_colors(rng, np.asarray(resized))


def _cut_out(rng: Rng, scene: Scene, height: int) -> Scene:
    """The person of a scene, `height` pixels tall."""
    person = scene.crop(scene.person_box())
    if rng.random() < MIRROR_CHANCE:
        person = person.mirrored()
    return person.resized(height / person.height)


def _free_box(
    rng: Rng, size: tuple[int, int], shape: tuple[int, int], taken: Sequence[Box]
) -> Box | None:
    """A box of `size` inside `shape` (height, width) that touches none of `taken`."""
    width, height = size
    if width > shape[1] or height > shape[0]:
        return None
    for _ in range(PLACES_TRIED):
        left = int(rng.integers(0, shape[1] - width + 1))
        top = int(rng.integers(0, shape[0] - height + 1))
        box = (left, top, left + width, top + height)
        if not any(_overlap(box, other) for other in taken):
            return box
    return None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
