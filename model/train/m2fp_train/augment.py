"""Changes a scene as another camera, light or neighbour would.

Every choice is drawn from the generator that is passed in, so that a sample can be made again.
"""

import io

import numpy as np
from PIL import Image, ImageFilter

from m2fp_train.scene import Scene

MIRROR_CHANCE = 0.5
LIGHT_CHANCE = 0.4
GAMMA = (0.6, 1.7)
TINT = (0.85, 1.15)
"""Gain of a colour channel under another light."""
GREY_CHANCE = 0.03
BLUR_CHANCE = 0.2
BLUR_RADIUS = (0.4, 1.4)
JPEG_CHANCE = 0.3
JPEG_QUALITY = (30, 90)

Rng = np.random.Generator


def random_crop(rng: Rng, scene: Scene, shape: tuple[int, int]) -> Scene:
    """`shape` (height, width) of a scene that is at least as large."""
    left = int(rng.integers(0, scene.width - shape[1] + 1))
    top = int(rng.integers(0, scene.height - shape[0] + 1))
    return scene.crop((left, top, left + shape[1], top + shape[0]))


def paste_person(scene: Scene, person: Scene, left: int, top: int) -> Scene:
    """`scene` with the person of another scene in front at (left, top), maybe partly outside.

    The person gets the next free number, and is where it covers more than half of a pixel.
    """
    x0, x1 = max(0, left), min(scene.width, left + person.width)
    y0, y1 = max(0, top), min(scene.height, top + person.height)
    if x0 >= x1 or y0 >= y1:
        return scene
    opacity = _soft_mask(person.person == 1)
    source = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    target = np.s_[y0:y1, x0:x1]
    alpha = opacity[source][..., None]
    visible = opacity[source] > 0.5
    image, parts, numbers = scene.image.copy(), scene.parts.copy(), scene.numbers.copy()
    image[target] = np.rint(person.image[source] * alpha + image[target] * (1 - alpha))
    parts[target][visible] = person.parts[source][visible]
    numbers[target][visible] = numbers.max(initial=0, where=scene.person == 1) + 1
    return Scene(image, parts, numbers)


def jitter_colors(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Another contrast, brightness and saturation."""
    pixels = image.astype(np.float32) * rng.uniform(0.7, 1.3) + rng.uniform(-20, 20)
    grey = pixels.mean(2, keepdims=True)
    return np.clip(grey + (pixels - grey) * rng.uniform(0.6, 1.4), 0, 255).astype(np.uint8)


def vary(rng: Rng, scene: Scene) -> Scene:
    """Mirrored or not, in other colours."""
    if rng.random() < MIRROR_CHANCE:
        scene = scene.mirrored()
    return Scene(jitter_colors(rng, scene.image), scene.parts, scene.numbers)


def degrade(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Sometimes another light, a blur, a compressed photo, or a grey one."""
    if rng.random() < LIGHT_CHANCE:
        image = _relit(rng, image)
    if rng.random() < GREY_CHANCE:
        image = image.mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)
    if rng.random() < BLUR_CHANCE:
        image = blurred(rng, image)
    if rng.random() < JPEG_CHANCE:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(*JPEG_QUALITY)))
        image = np.asarray(Image.open(file))
    return image


def blurred(rng: Rng, image: np.ndarray) -> np.ndarray:
    """A little out of focus."""
    radius = rng.uniform(*BLUR_RADIUS)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _relit(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Under a brighter or darker light of another colour."""
    curve = np.linspace(0, 1, 256)[:, None] ** rng.uniform(*GAMMA) * rng.uniform(*TINT, 3)
    table = np.clip(curve * 255, 0, 255).astype(np.uint8)
    return table[image, np.arange(3)]


def _soft_mask(mask: np.ndarray) -> np.ndarray:
    """Opacity 0..1 of a cut-out: a pixel thinner than the mask, with a soft edge."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    picture = picture.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(picture, np.float32) / 255
