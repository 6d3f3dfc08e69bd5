"""Pictures of nobody: what people are pasted before, and what must stay empty.

A photo without its people, a texture that repeats, or a gradient.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from m2fp_train.augment import Rng, jitter_colors
from m2fp_train.scene import Scene

Shape = tuple[int, int]
"""Height and width in pixels."""

KINDS = {"photo": 0.7, "tiled": 0.15, "gradient": 0.15}
"""Kinds of backdrop and how often each is made."""
PHOTO_ZOOM = (0.5, 1.8)
"""Least and greatest scale of a photo, 1 where it just covers the backdrop."""
PATCH_SIDE = (16, 160)
OUT_OF_FOCUS_CHANCE = 0.25
OUT_OF_FOCUS_RADIUS = (1, 5)
HOLE_MARGIN = 4
"""Pixels by which a person is cut out too large: labels are not exact."""
SMEARED = 4
"""How much smaller a photo is while its people's surroundings are smeared over them."""


def backdrop(rng: Rng, scenes: Sequence[Scene], shape: Shape) -> np.ndarray:
    """A picture of nobody, uint8 [H, W, 3]."""
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    if kind == "gradient":
        return gradient(rng, shape)
    scene = scenes[rng.integers(len(scenes))]
    zoom = rng.uniform(*PHOTO_ZOOM) * max(shape[0] / scene.height, shape[1] / scene.width)
    image = without_people(scene.resized(zoom))
    image = tiled(rng, image, shape) if kind == "tiled" else _cut(rng, image, shape)
    if rng.random() < OUT_OF_FOCUS_CHANCE:
        radius = rng.uniform(*OUT_OF_FOCUS_RADIUS)
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    return jitter_colors(rng, image)


def gradient(rng: Rng, shape: Shape) -> np.ndarray:
    """From one colour at the top to another below, with noise: a sky, a wall, a studio."""
    top = rng.uniform(0, 255, 3)
    bottom = np.clip(top + rng.uniform(-80, 80, 3), 0, 255)
    down = np.linspace(0, 1, shape[0])[:, None, None]
    noise = rng.normal(0, rng.uniform(0, 6), (*shape, 3))
    return np.clip(top * (1 - down) + bottom * down + noise, 0, 255).astype(np.uint8)


def tiled(rng: Rng, image: np.ndarray, shape: Shape) -> np.ndarray:
    """A patch of an image beside its mirror images, over and over, without seams."""
    side = int(min(rng.integers(*PATCH_SIDE), *image.shape[:2]))
    patch = _cut(rng, image, (side, side))
    patch = np.concatenate([patch, patch[:, ::-1]], 1)
    patch = np.concatenate([patch, patch[::-1]], 0)
    times = [-(-length // (2 * side)) for length in shape]
    return np.tile(patch, (*times, 1))[: shape[0], : shape[1]]


def without_people(scene: Scene) -> np.ndarray:
    """The photo with people, those whom nobody labelled too, replaced by what is beside them."""
    people = Image.fromarray((scene.numbers > 0).astype(np.uint8) * 255)
    # As a maximum filter, whose time does not grow with the margin.
    hole = np.asarray(people.filter(ImageFilter.BoxBlur(HOLE_MARGIN))) > 0
    if not hole.any() or hole.all():
        return scene.image
    columns = np.flatnonzero(hole.any(0))
    shift = max(1, (int(columns[-1]) - int(columns[0]) + 1) // 2)
    filled = _smeared(scene.image, hole)
    left = hole
    for way in (shift, -shift, 2 * shift, -2 * shift):
        here = left & ~np.roll(hole, way, 1)
        filled[here] = np.roll(scene.image, way, 1)[here]
        left = left & ~here
    return np.where(hole[..., None], filled, scene.image)


def _smeared(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The image with what is around a hole smeared into it."""
    known = np.where(hole, 1, 255).astype(np.uint8)  # never 0: there is always something
    weight, light = Image.fromarray(known), Image.fromarray(image * ~hole[..., None])
    blur = ImageFilter.GaussianBlur(max(1, weight.width // (8 * SMEARED)))
    weight, light = (picture.reduce(SMEARED).filter(blur) for picture in (weight, light))
    filled = np.asarray(light, np.float32) * 255 / np.maximum(np.asarray(weight)[..., None], 1)
    filled = Image.fromarray(np.clip(filled, 0, 255).astype(np.uint8))
    filled = filled.resize(image.shape[1::-1], Image.Resampling.BILINEAR)
    return np.where(hole[..., None], np.asarray(filled), image)


def _cut(rng: Rng, image: np.ndarray, shape: Shape) -> np.ndarray:
    """A random part of an image, which is continued by reflection where it is too small."""
    missing = [max(0, want - have) for want, have in zip(shape, image.shape, strict=False)]
    image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    top = int(rng.integers(0, image.shape[0] - shape[0] + 1))
    left = int(rng.integers(0, image.shape[1] - shape[1] + 1))
    return image[top : top + shape[0], left : left + shape[1]]
