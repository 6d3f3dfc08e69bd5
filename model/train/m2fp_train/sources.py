"""All photos that may be trained on, whatever is known of each, and samples made of them."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from m2fp_train.augment import Rng, degrade, random_crop, vary
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import BACKGROUND_ID, IGNORE
from m2fp_train.crowd import (
    PERSON_HEIGHT,
    paste_group,
    renumbered,
    training_scene,
    with_rare_parts_more_often,
)
from m2fp_train.multipose_targets import BoxTargets
from m2fp_train.ordinary import OrdinaryPhoto, anywhere, read_ordinary
from m2fp_train.partial import (
    ANYTHING,
    EVERY_PART,
    GARMENT_FOLDERS,
    SOMEBODY,
    allowed_by_garment,
    allowed_by_tags,
)
from m2fp_train.scene import Scene, box_around
from m2fp_train.taught import Taught
from m2fp_train.training import Recipe, TrainingScenes

SHARES = {"street": 0.5, "tagged": 0.05, "ordinary": 0.4, "garments": 0.05}
"""How often a sample starts from a photo of each source."""
ZOOM = (0.5, 2.5)
"""Least and greatest scale of an ordinary or tagged photo: people close to the camera, who exceed
the frame, are what parsers of street photos miss."""
GARMENT_SIDE = (120, 420)
"""Least and greatest long side of a photo of a garment in a sample, in pixels."""
PASTED = (0.4, 0.3, 0.2, 0.1)
"""Chance of pasting 0, 1, … people in front of an ordinary photo."""
ORDINARY_PASTED = 0.6
"""How often those who are pasted there are people of ordinary photos: copy-paste (Ghiasi et al.,
CVPR 2021), for there are only 201 of them."""
SMALLEST_PASTED = 64
"""Height in pixels of an ordinary person from which on it is pasted."""
RARE_TAGS = ("skirt", "dress", "scarf", "gloves", "hat", "socks", "stockings")
RARE_TIMES = 2
"""Photos with a garment that is learned badly come so many times."""
MOST_GARMENT_PHOTOS = 200
"""Of each folder: there are many, and all are alike."""


@dataclass(frozen=True)
class Photo:
    """A scene, and the classes bool [20] that its `SOMEBODY` and `ANYTHING` pixels may have."""

    scene: Scene
    allowed: np.ndarray


@dataclass(frozen=True)
class Sources:
    """people: street photos with labels, of one person each, that are pasted into the others.
    ordinary_people: what is seen of each person of an ordinary photo, for the same."""

    people: list[Scene]
    ordinary_people: list[Scene]
    photos: dict[str, list[Photo]]


def read_sources(data: Path, taught: Taught) -> Sources:
    """All photos of the folder `data`, with what teachers said of them where they were asked."""
    ccp = ClothingCoParsing(data / "ccp")
    people = with_rare_parts_more_often(ccp.load_shrunk(ccp.training, PERSON_HEIGHT[1]))
    ordinary = read_ordinary(data / "persons" / "coco-open")
    with ThreadPoolExecutor() as pool:
        photos = {
            "tagged": [
                p for some in pool.map(*_tagged(data / "ccp" / "more", taught)) for p in some
            ],
            "ordinary": list(pool.map(outlined, ordinary)),
            "garments": list(pool.map(_garment, _garment_paths(data / "garments"))),
        }
    return Sources(people, cut_out(photos["ordinary"]), photos)


def unlabelled_photos(data: Path) -> dict[str, Path]:
    """Names and paths of the photos that teachers are asked about: those with tags only."""
    return {
        _tagged_name(path.stem): path
        for path in sorted((data / "ccp" / "more" / "photos").glob("*.jpg"))
    }


def _tagged_name(number: str) -> str:
    return f"more-{number}"


def outlined(photo: OrdinaryPhoto) -> Photo:
    """A photo whose people are outlined; a crowd may be anything."""
    image = photo.image()
    numbers = np.zeros(image.shape[:2], np.uint8)
    for number, rle in enumerate(photo.people, start=1):
        numbers[anywhere([rle], numbers.shape)] = number
    crowd = anywhere(photo.crowds, numbers.shape) & (numbers == 0)
    parts = np.where(numbers > 0, SOMEBODY, BACKGROUND_ID).astype(np.uint8)
    parts[crowd], numbers[crowd] = ANYTHING, IGNORE
    return Photo(Scene(image, parts, numbers), EVERY_PART)


def cut_out(photos: Sequence[Photo]) -> list[Scene]:
    """Of each person of `photos` who is tall enough, a scene of that person alone."""
    people = []
    for scene in (photo.scene for photo in photos):
        for number in np.setdiff1d(np.unique(scene.numbers), (0, IGNORE)):
            own = scene.numbers == number
            alone = Scene(scene.image, scene.parts, own.astype(np.uint8)).crop(box_around(own))
            if alone.height >= SMALLEST_PASTED:
                people.append(alone)
    return people


def _tagged(folder: Path, taught: Taught):  # noqa: ANN202
    """What `Executor.map` takes to load the photos with tags, rare garments several times."""
    tags = read_tags(folder)

    def load(number: str) -> list[Photo]:
        image = read_photo(folder / "photos" / f"{number}.jpg")
        scene = taught.scene(_tagged_name(number), image)
        times = RARE_TIMES if set(tags[number]) & set(RARE_TAGS) else 1
        return [Photo(scene, allowed_by_tags(tags[number]))] * times

    return load, sorted(tags)


def read_tags(folder: Path) -> dict[str, list[str]]:
    """Which garments are in the photos of a folder, by the photo's number."""
    return json.loads((folder / "tags.json").read_text())


def _garment_paths(folder: Path) -> list[Path]:
    return [
        path
        for name in GARMENT_FOLDERS
        for path in sorted((folder / name).glob("*.jpg"))[:MOST_GARMENT_PHOTOS]
    ]


def _garment(path: Path) -> Photo:
    image = read_photo(path)
    parts = np.full(image.shape[:2], ANYTHING, np.uint8)
    unknown = np.full_like(parts, IGNORE)
    return Photo(Scene(image, parts, unknown), allowed_by_garment(path.parent.name))


def read_photo(path: Path) -> np.ndarray:
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB"))


class AllScenes(TrainingScenes):
    """As `TrainingScenes`, of all sources."""

    def __init__(self, sources: Sources, recipe: Recipe) -> None:
        super().__init__(sources.people, recipe)
        self.sources = sources
        kinds = {kind: share for kind, share in SHARES.items() if sources.photos.get(kind)}
        kinds["street"] = SHARES["street"]
        self.kinds = list(kinds)
        self.chances = np.array(list(kinds.values())) / sum(kinds.values())

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Image uint8 [3, H, W], parts and numbers int64 [H, W], allowed bool [20], and the
        `BoxTargets`."""
        rng = np.random.default_rng((self.recipe.seed, index))
        kind = self.kinds[rng.choice(len(self.kinds), p=self.chances)]
        shape = self._shape(index)
        if kind == "street":
            photo = Photo(training_scene(rng, self.scenes, shape), EVERY_PART)
        else:
            photos = self.sources.photos[kind]
            pasted = self.scenes
            if self.sources.ordinary_people and rng.random() < ORDINARY_PASTED:
                pasted = self.sources.ordinary_people
            photo = sample(rng, photos[rng.integers(len(photos))], kind, pasted, shape)
        scene = photo.scene
        targets = BoxTargets.of(rng, scene.numbers)
        arrays = (
            scene.image.transpose(2, 0, 1).copy(),
            scene.parts.astype(np.int64),
            scene.numbers.astype(np.int64),
            photo.allowed,
            targets.boxes,
            targets.people,
        )
        return tuple(torch.from_numpy(array) for array in arrays)


def sample(
    rng: Rng, photo: Photo, kind: str, people: Sequence[Scene], shape: tuple[int, int]
) -> Photo:
    """A crop of `shape` of a photo at some scale, with people before it now and then."""
    scene = photo.scene
    if kind == "garments":
        zoom = rng.uniform(*GARMENT_SIDE) / max(scene.width, scene.height)
    else:
        zoom = np.exp(rng.uniform(*np.log(ZOOM)))
    scene = _grown(rng, scene.resized(zoom), shape)
    scene = vary(rng, random_crop(rng, scene, shape))
    if kind == "ordinary":
        scene = paste_group(rng, scene, people, int(rng.choice(len(PASTED), p=PASTED)))
    scene = renumbered(Scene(degrade(rng, scene.image), scene.parts, scene.numbers))
    return Photo(scene, photo.allowed)


def _grown(rng: Rng, scene: Scene, shape: tuple[int, int]) -> Scene:
    """A scene of at least `shape`; its border is repeated, and anything may be there."""
    missing = [max(0, want - have) for want, have in zip(shape, scene.numbers.shape, strict=True)]
    before = [int(rng.integers(0, length + 1)) for length in missing]
    borders = tuple((first, all_ - first) for first, all_ in zip(before, missing, strict=True))
    return Scene(
        np.pad(scene.image, (*borders, (0, 0)), mode="edge"),
        np.pad(scene.parts, borders, constant_values=ANYTHING),
        np.pad(scene.numbers, borders, constant_values=IGNORE),
    )
