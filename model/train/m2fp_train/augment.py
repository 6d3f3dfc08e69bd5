"""Makes training scenes: crops at many scales, odd backdrops, and people pasted beside people.

Every choice is drawn from the generator that is passed in, so that a sample can be made again.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from m2fp_train.classes import BACKGROUND_ID, IGNORE
from m2fp_train.scene import Scene

SCENE_PERSON_HEIGHT = (0.35, 1.25)
PASTED_PERSON_HEIGHT = (0.3, 1.0)
"""Least and greatest height of a person, in crop sides."""
MIRROR_CHANCE = 0.5
REFLECT_CHANCE = 0.3
BACKDROP_CHANCE = 0.15
PASTE_CHANCE = 0.6
MAX_PASTED = 3
BLUR_CHANCE = 0.2
JPEG_CHANCE = 0.3
JPEG_QUALITY = (30, 90)

Rng = np.random.Generator


def training_scene(rng: Rng, scenes: Sequence[Scene], side: int) -> Scene:
    """A scene of `side` x `side` pixels, made out of `scenes`, each of which shows a person."""
    scene = _pick(rng, scenes, SCENE_PERSON_HEIGHT, side)
    scene = random_crop(rng, _pad(rng, scene, side), side)
    if rng.random() < BACKDROP_CHANCE:
        scene = plain_backdrop(rng, scene)
    scene = _vary(rng, scene)
    if rng.random() < PASTE_CHANCE:
        for _ in range(rng.integers(1, MAX_PASTED + 1)):
            person = _pick(rng, scenes, PASTED_PERSON_HEIGHT, side)
            person = _vary(rng, person.crop(person.person_box()))
            left = int(rng.integers(-(person.width // 3), side - person.width // 2 + 1))
            top = int(rng.integers(-(person.height // 4), side - person.height // 2 + 1))
            scene = paste_person(scene, person, left, top)
    return Scene(_degrade(rng, scene.image), scene.parts, scene.person)


def random_crop(rng: Rng, scene: Scene, side: int) -> Scene:
    """A square of a scene that is at least `side` wide and high."""
    left = int(rng.integers(0, scene.width - side + 1))
    top = int(rng.integers(0, scene.height - side + 1))
    return scene.crop((left, top, left + side, top + side))


def plain_backdrop(rng: Rng, scene: Scene) -> Scene:
    """The people of a scene before a vertical colour gradient with noise, like sky or a studio."""
    top = rng.uniform(60, 255, 3)
    bottom = np.clip(top + rng.uniform(-50, 50, 3), 0, 255)
    down = np.linspace(0, 1, scene.height)[:, None, None]
    noise = rng.normal(0, rng.uniform(0, 6), scene.image.shape)
    backdrop = np.clip(top * (1 - down) + bottom * down + noise, 0, 255)
    person = scene.person == 1
    return Scene(
        np.where(person[..., None], scene.image, backdrop).astype(np.uint8),
        np.where(person, scene.parts, BACKGROUND_ID).astype(np.uint8),
        person.astype(np.uint8),
    )


def paste_person(scene: Scene, person: Scene, left: int, top: int) -> Scene:
    """`scene` with the person of another scene in front at (left, top), maybe partly outside."""
    x0, x1 = max(0, left), min(scene.width, left + person.width)
    y0, y1 = max(0, top), min(scene.height, top + person.height)
    if x0 >= x1 or y0 >= y1:
        return scene
    opacity = _soft_mask(person.person == 1)
    source = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    target = np.s_[y0:y1, x0:x1]
    alpha = opacity[source][..., None]
    visible = person.person[source] == 1
    image, parts, mask = scene.image.copy(), scene.parts.copy(), scene.person.copy()
    image[target] = np.rint(person.image[source] * alpha + image[target] * (1 - alpha))
    parts[target][visible] = person.parts[source][visible]
    mask[target][visible] = 1
    return Scene(image, parts, mask)


def jitter_colors(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Another contrast, brightness and saturation."""
    pixels = image.astype(np.float32) * rng.uniform(0.7, 1.3) + rng.uniform(-20, 20)
    grey = pixels.mean(2, keepdims=True)
    return np.clip(grey + (pixels - grey) * rng.uniform(0.6, 1.4), 0, 255).astype(np.uint8)


def _pick(rng: Rng, scenes: Sequence[Scene], heights: tuple[float, float], side: int) -> Scene:
    """A random scene, resized so that its people are `heights` crop sides tall."""
    scene = scenes[rng.integers(len(scenes))]
    _, top, _, bottom = scene.person_box()
    return scene.resized(side * rng.uniform(*heights) / (bottom - top))


def _vary(rng: Rng, scene: Scene) -> Scene:
    if rng.random() < MIRROR_CHANCE:
        scene = scene.mirrored()
    return Scene(jitter_colors(rng, scene.image), scene.parts, scene.person)


def _pad(rng: Rng, scene: Scene, side: int) -> Scene:
    """Grow a scene to at least `side` each way, at random on either end.

    A reflection shows parts of people whose labels would be wrong: it is ignored. Repeated border
    pixels count as background.
    """
    missing_height, missing_width = max(0, side - scene.height), max(0, side - scene.width)
    top = int(rng.integers(0, missing_height + 1))
    left = int(rng.integers(0, missing_width + 1))
    borders = ((top, missing_height - top), (left, missing_width - left))
    reflect = rng.random() < REFLECT_CHANCE
    label = IGNORE if reflect else BACKGROUND_ID
    return Scene(
        np.pad(scene.image, (*borders, (0, 0)), mode="reflect" if reflect else "edge"),
        np.pad(scene.parts, borders, constant_values=label),
        np.pad(scene.person, borders, constant_values=IGNORE if reflect else 0),
    )


def _soft_mask(mask: np.ndarray) -> np.ndarray:
    """Opacity 0..1 of a cut-out: a pixel thinner than the mask, with a soft edge."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    picture = picture.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(picture, np.float32) / 255


def _degrade(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Sometimes blur the photo, sometimes compress it."""
    picture = Image.fromarray(image)
    if rng.random() < BLUR_CHANCE:
        picture = picture.filter(ImageFilter.GaussianBlur(0.8))
    if rng.random() < JPEG_CHANCE:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(*JPEG_QUALITY)))
        picture = Image.open(file)
    return np.asarray(picture)
