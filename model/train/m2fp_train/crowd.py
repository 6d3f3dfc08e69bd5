"""Scenes of several people told apart: what the network is trained on, and judged by.

People are cut out along their labels and pasted, those in front last: whole, half-length and
cropped, tall and tiny, beside and behind each other. Every choice is drawn from the generator that
is passed in, so that a scene can be made again.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from m2fp_train.augment import Rng, blurred, degrade, paste_person, random_crop, vary
from m2fp_train.backdrop import Shape, backdrop
from m2fp_train.classes import BACKGROUND_ID, IGNORE, NUM_PARTS
from m2fp_train.scene import Scene

CROWD_SHAPE = (384, 683)
"""Height and width of scenes to judge by: what a photo of 1920 x 1080 is shown at."""
PHOTO_CHANCE = 0.5
"""How often a training scene is a photo as it was taken, before anybody is pasted."""
PHOTO_PERSON_HEIGHT = (180, 800)
PERSON_HEIGHT = (30, 800)
"""Least and greatest height of a whole person in pixels, most of whom may be outside."""
GROUP_SPREAD = (0.75, 1.3)
"""Heights in a group, relative to each other."""
PASTED_IN_PHOTO = (0.3, 0.3, 0.2, 0.1, 0.1)
PASTED_ON_BACKDROP = (0.15, 0.2, 0.2, 0.15, 0.1, 0.08, 0.05, 0.04, 0.03)
"""Chance of pasting 0, 1, … people."""
HEAD_INSIDE_CHANCE = 0.85
BLUR_CHANCE = 0.25
OCCLUDER_CHANCE = 0.2
REFLECT_CHANCE = 0.3
PADDING_CHANCE = 0.3
MOST_PADDING = 31
PADDING_VALUE = 127
"""The byte nearest to zero once normalised, with which the exported graph pads."""
SMALLEST_VISIBLE = 48
"""Pixels of a person under which nobody is asked to tell it apart."""
RARE = 0.5
"""A part that fewer scenes show than this share of them is rare."""
SHOWN = 50
"""Pixels from which a scene shows a part."""


def with_rare_parts_more_often(scenes: Sequence[Scene]) -> list[Scene]:
    """`scenes`, those with rare parts several times: the square root of how rare their rarest is.

    After the repeat factor of LVIS (Gupta, Dollár, Girshick, CVPR 2019).
    """
    pixels = [np.bincount(scene.parts.ravel(), minlength=NUM_PARTS) for scene in scenes]
    shows = np.array([counts[:NUM_PARTS] >= SHOWN for counts in pixels])
    times = np.sqrt(RARE / np.maximum(shows.mean(0), 1 / len(scenes))).clip(min=1)
    repeats = np.where(shows, times, 1).max(1).round().astype(int)
    return [scene for scene, count in zip(scenes, repeats, strict=True) for _ in range(count)]


def training_scene(rng: Rng, scenes: Sequence[Scene], shape: Shape) -> Scene:
    """A scene of `shape`, made out of `scenes`, each of which shows one person."""
    if rng.random() < PHOTO_CHANCE:
        scene, chances = _photo(rng, scenes, shape), PASTED_IN_PHOTO
    else:
        scene, chances = _nobody(backdrop(rng, scenes, shape)), PASTED_ON_BACKDROP
    scene = paste_group(rng, scene, scenes, int(rng.choice(len(chances), p=chances)))
    if rng.random() < OCCLUDER_CHANCE:
        scene = _occlude(rng, scene, backdrop(rng, scenes, shape))
    scene = Scene(degrade(rng, scene.image), scene.parts, scene.numbers)
    if rng.random() < PADDING_CHANCE:
        scene = _padded_as_exported(rng, scene)
    return renumbered(scene)


def crowd_scene(rng: Rng, scenes: Sequence[Scene], shape: Shape, people: int) -> Scene:
    """`people` people before a backdrop, as a camera sees them: what instances are judged by."""
    scene = _nobody(backdrop(rng, scenes, shape))
    return renumbered(paste_group(rng, scene, scenes, people))


def crowd_scenes(
    people: Sequence[Scene], group: Sequence[int], count: int, seed: int
) -> Iterator[Scene]:
    """`count` scenes of `CROWD_SHAPE` with as many of `people` as is drawn from `group`."""
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        yield crowd_scene(rng, people, CROWD_SHAPE, int(rng.choice(group)))


def paste_group(rng: Rng, scene: Scene, scenes: Sequence[Scene], count: int) -> Scene:
    """`scene` with `count` more people of `scenes` of about the same height, taller ones last."""
    common = _log_uniform(rng, *PERSON_HEIGHT)
    heights = np.clip(common * rng.uniform(*GROUP_SPREAD, count), *PERSON_HEIGHT)
    for height in sorted(heights):
        person = scenes[rng.integers(len(scenes))]
        person = person.crop(person.person_box())
        person = vary(rng, person.resized(height / person.height))
        if rng.random() < BLUR_CHANCE:
            person = Scene(blurred(rng, person.image), person.parts, person.numbers)
        scene = paste_person(scene, person, *_place(rng, person, scene))
    return scene


def renumbered(scene: Scene) -> Scene:
    """People numbered 1, 2, … without gaps; those of whom hardly a pixel shows are ignored."""
    table = np.zeros(256, np.uint8)
    table[IGNORE] = IGNORE
    pixels = np.bincount(scene.numbers.ravel(), minlength=256)
    people = 0
    for number in range(1, IGNORE):
        if pixels[number] >= SMALLEST_VISIBLE:
            people += 1
            table[number] = people
        elif pixels[number]:
            table[number] = IGNORE
    return Scene(scene.image, scene.parts, table[scene.numbers])


def _photo(rng: Rng, scenes: Sequence[Scene], shape: Shape) -> Scene:
    """A crop of a photo as it was taken, with its person."""
    scene = scenes[rng.integers(len(scenes))]
    _, top, _, bottom = scene.person_box()
    scene = scene.resized(_log_uniform(rng, *PHOTO_PERSON_HEIGHT) / (bottom - top))
    return vary(rng, random_crop(rng, _pad(rng, scene, shape), shape))


def _nobody(image: np.ndarray) -> Scene:
    empty = np.full(image.shape[:2], BACKGROUND_ID, np.uint8)
    return Scene(image, empty, np.zeros_like(empty))


def _place(rng: Rng, person: Scene, scene: Scene) -> tuple[int, int]:
    """Left and top of a person in a scene: at least half of its width and some of its height.

    Who is taller than the scene mostly shows the head and is cut below, as in half-length photos.
    """
    left = int(rng.integers(-(person.width // 2), max(1, scene.width - person.width // 2)))
    lowest = scene.height - min(person.height, scene.height) // 2
    highest = -(person.height // 2)
    if rng.random() < HEAD_INSIDE_CHANCE:
        highest = -(person.height // 30)
        lowest = max(scene.height - person.height, scene.height // 3)
    return left, int(rng.integers(highest, max(highest, lowest) + 1))


def _occlude(rng: Rng, scene: Scene, image: np.ndarray) -> Scene:
    """`scene` behind a table (from below), a post (from the top down) or a box, seen in `image`."""
    height, width = scene.numbers.shape
    kind = rng.integers(3)
    top = 0 if kind == 1 else int(height * rng.uniform(0.4, 0.95))
    bottom = height if kind < 2 else top + int(height * rng.uniform(0.05, 0.3)) + 1
    wide = (rng.uniform(0.5, 1), rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.5))[kind]
    left = int(width * rng.uniform(0, 1 - wide))
    area = np.s_[top:bottom, left : left + int(width * wide) + 1]
    painted, parts, numbers = scene.image.copy(), scene.parts.copy(), scene.numbers.copy()
    painted[area], parts[area], numbers[area] = image[area], BACKGROUND_ID, 0
    return Scene(painted, parts, numbers)


def _padded_as_exported(rng: Rng, scene: Scene) -> Scene:
    """`scene` with some rows or columns, below and to the right, as the exported graph pads."""
    image, parts, numbers = scene.image.copy(), scene.parts.copy(), scene.numbers.copy()
    rows, columns = rng.integers(1, MOST_PADDING + 1, 2)
    for area in (np.s_[-rows:], np.s_[:, -columns:]):
        if rng.random() < 0.5:
            image[area], parts[area], numbers[area] = PADDING_VALUE, BACKGROUND_ID, 0
    return Scene(image, parts, numbers)


def _pad(rng: Rng, scene: Scene, shape: Shape) -> Scene:
    """Grow a scene to at least `shape`, at random on either end.

    A reflection shows parts of people whose labels would be wrong: it is ignored. Repeated border
    pixels count as background.
    """
    missing_height = max(0, shape[0] - scene.height)
    missing_width = max(0, shape[1] - scene.width)
    top = int(rng.integers(0, missing_height + 1))
    left = int(rng.integers(0, missing_width + 1))
    borders = ((top, missing_height - top), (left, missing_width - left))
    reflect = rng.random() < REFLECT_CHANCE
    label = IGNORE if reflect else BACKGROUND_ID
    return Scene(
        np.pad(scene.image, (*borders, (0, 0)), mode="reflect" if reflect else "edge"),
        np.pad(scene.parts, borders, constant_values=label),
        np.pad(scene.numbers, borders, constant_values=IGNORE if reflect else 0),
    )


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
