"""Reads the data sets from the folders that their authors, or M2FP, publish them in.

Every path is looked for before anything is parsed; a label map is read when its photo is scored.
"""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2fp_evaluate import class_names
from m2fp_evaluate.errors import InputError, UsageError
from m2fp_evaluate.truth import IGNORE, DataSet, Part, Person, Sample, Truth

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
COCO_PERSON = "person"
CCP_VALIDATION_DIGIT = "3"
"""Photos whose number ends in it are never trained on (`model/train`)."""
MHP_RED = 0
"""MHP v2 keeps class ids in the first channel of a colour picture."""


def open_data_set(given: str) -> DataSet:
    """The data set that `NAME:DIR` names. Raises UsageError or InputError."""
    name, colon, folder = given.partition(":")
    if not colon or name not in READERS:
        known = ", ".join(READERS)
        raise UsageError(f"--data is NAME:DIR, with NAME one of {known}; it was {given!r}")
    root = Path(folder)
    if not root.is_dir():
        raise InputError(root, "there is no such folder")
    found = READERS[name](root)
    if not found.samples:
        raise InputError(root, f"it has no photo of {name}")
    return found


def _cihp(root: Path) -> DataSet:
    base = _first(root, "Validation", "instance-level_human_parsing/Validation")
    return _instances("cihp", class_names.CIHP, base)


def _pascal(root: Path) -> DataSet:
    base = root / "Testing"
    if base.is_dir():
        return _instances("pascal-person-part", class_names.PASCAL_M2FP, base)
    labels = _first(root, "SegmentationPart", "pascal_person_part_gt")
    listed = _listed(root, "val_id.txt", "val.txt", "ImageSets/val.txt")
    photos = _first(root, "JPEGImages", "images")
    return _dense("pascal-person-part", class_names.PASCAL, photos, labels, listed)


def _mhp(root: Path) -> DataSet:
    base = root / "Validation"
    if base.is_dir():
        return _instances("mhp-v2", class_names.MHP_V2, base)
    base = _first(root, "val", "LV-MHP-v2/val")
    listed = _listed(base.parent, "list/val.txt")
    photos = _first(base, "images")
    annotated: dict[str, list[Path]] = {}
    for path in sorted(_first(base, "parsing_annos").glob("*.png")):
        # NAME_PEOPLE_NUMBER.png: one person's labels.
        annotated.setdefault(path.stem.rsplit("_", 2)[0], []).append(path)
    samples = []
    for name, photo in _photos(photos, listed):
        if name not in annotated:
            raise InputError(photo, "parsing_annos has no file of its people")
        samples.append(Sample(name, photo, partial(_mhp_truth, annotated[name])))
    return DataSet("mhp-v2", class_names.MHP_V2, samples, has_people=True)


def _lip(root: Path) -> DataSet:
    base = root / "Validation"
    if base.is_dir():
        photos, labels = _first(base, "Images"), _first(base, "Category_ids")
    else:
        photos = _first(root, "val_images", "TrainVal_images/val_images")
        inside = "TrainVal_parsing_annotations/val_segmentations"
        labels = _first(root, "val_segmentations", inside)
    listed = _listed(root, "val_id.txt", "TrainVal_images/val_id.txt")
    return _dense("lip", class_names.LIP, photos, labels, listed)


def _atr(root: Path) -> DataSet:
    photos = _first(root, "JPEGImages", "humanparsing/JPEGImages")
    labels = _first(root, "SegmentationClassAug", "humanparsing/SegmentationClassAug")
    listed = _listed(root, "test_id.txt", "val_id.txt")
    return _dense("atr", class_names.ATR, photos, labels, listed)


def _ccp(root: Path) -> DataSet:
    """Of the packaged models' photos those that they were not trained on, in CIHP's classes."""
    labels = _first(root, "cihp20")
    listed = sorted(path.stem for path in labels.glob(f"*{CCP_VALIDATION_DIGIT}.png"))
    return _dense("ccp", class_names.CIHP, _first(root, "photos"), labels, listed)


def _coco(root: Path) -> DataSet:
    folder = _first(root, "annotations")
    files = ("instances_val2017.json", "person_keypoints_val2017.json")
    paths = [folder / file for file in files if (folder / file).is_file()]
    paths = paths or sorted(folder.glob("*.json"))
    if not paths:
        raise InputError(folder, "it has no annotation file")
    content = _person_annotations(paths[0])
    split = paths[0].stem.split("_")[-1]
    photos = _first(root, split, "images", f"images/{split}")
    samples = []
    for image in content["images"]:
        photo = photos / Path(image["file_name"]).name
        if not photo.is_file():
            raise InputError(photo, f"{paths[0].name} names this photo, and it is not there")
        samples.append(Sample(str(image["id"]), photo, None))
    return DataSet("coco", (), samples, has_people=True, coco=content)


READERS: dict[str, Callable[[Path], DataSet]] = {
    "cihp": _cihp,
    "mhp-v2": _mhp,
    "pascal-person-part": _pascal,
    "lip": _lip,
    "atr": _atr,
    "ccp": _ccp,
    "coco": _coco,
}


def _person_annotations(path: Path) -> dict[str, Any]:
    """What a COCO file says of people: all its images, and only their persons."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        person = [entry["id"] for entry in content["categories"] if entry["name"] == COCO_PERSON]
        images = sorted(content["images"], key=lambda image: image["id"])
        annotations = [entry for entry in content["annotations"] if entry["category_id"] in person]
        named = [(image["id"], image["file_name"]) for image in images]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(path, f"it is no COCO instances file ({error!r})") from error
    if not person or not named:
        raise InputError(path, f"it has no images, or no category {COCO_PERSON!r}")
    category = {"id": person[0], "name": COCO_PERSON}
    return {"images": images, "annotations": annotations, "categories": [category]}


def _instances(name: str, classes: tuple[str, ...], base: Path) -> DataSet:
    """A folder with Images, Category_ids, Human_ids and Instance_ids, as CIHP has them."""
    photos = _first(base, "Images")
    folders = [_first(base, kind) for kind in ("Category_ids", "Human_ids", "Instance_ids")]
    samples = []
    for stem, photo in _photos(photos, _listed(base, "val_id.txt", "../val_id.txt")):
        files = [_existing(folder / f"{stem}.png") for folder in folders]
        files.append(_existing(folders[2] / f"{stem}.txt"))
        samples.append(Sample(stem, photo, partial(_instance_truth, *files, len(classes))))
    return DataSet(name, classes, samples, has_people=True)


def _instance_truth(labels: Path, humans: Path, parts: Path, about: Path, classes: int) -> Truth:
    category, human, part = (_indices(path) for path in (labels, humans, parts))
    for path, read in ((humans, human), (parts, part)):
        if read.shape != category.shape:
            raise InputError(path, f"its size is not that of {labels}")
    category = _labels(category, classes, labels)
    persons = [
        Person(mask := human == number, np.where(mask, category, 0).astype(np.uint8))
        for number in _numbers(human)
    ]
    class_of = _classes_of_parts(about)
    numbers = [number for number in _numbers(part) if number in class_of]
    named = [Part(class_of[number], part == number) for number in numbers]
    return Truth(category, persons, named)


def _classes_of_parts(path: Path) -> dict[int, int]:
    """Class ids by part number; a line is "part class person"."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        return {int(row[0]): int(row[1]) for row in rows if row}
    except (OSError, ValueError, IndexError) as error:
        raise InputError(path, f"its lines are not 'part class person' ({error})") from error


def _mhp_truth(paths: list[Path]) -> Truth:
    maps = [_labels(_indices(path), len(class_names.MHP_V2), path) for path in paths]
    labels = np.zeros_like(maps[0])
    for path, own in zip(paths, maps, strict=True):
        if own.shape != labels.shape:
            raise InputError(path, f"its size is not that of {paths[0]}")
        labels = np.where(own > 0, own, labels)
    judged = [np.where(own == IGNORE, 0, own) for own in maps]
    parts = [Part(class_id, own == class_id) for own in judged for class_id in _numbers(own)]
    return Truth(labels, [Person(own > 0, own) for own in maps], parts)


def _dense(
    name: str, classes: tuple[str, ...], photos: Path, labels: Path, listed: list[str] | None
) -> DataSet:
    """A folder of photos and one of label maps, which do not tell people apart."""
    if listed is None:
        listed = sorted(path.stem for path in labels.glob("*.png"))
    samples = [
        Sample(
            stem,
            photo,
            partial(_dense_truth, _existing(labels / f"{stem}.png"), len(classes)),
        )
        for stem, photo in _photos(photos, listed)
    ]
    return DataSet(name, classes, samples, has_people=False)


def _dense_truth(path: Path, classes: int) -> Truth:
    return Truth(_labels(_indices(path), classes, path))


def _labels(read: NDArray[Any], classes: int, path: Path) -> NDArray[np.uint8]:
    strange = [number for number in np.unique(read) if number >= classes and number != IGNORE]
    if strange:
        raise InputError(path, f"{strange[0]} is the id of no class; there are {classes}")
    return read.astype(np.uint8)


def _indices(path: Path) -> NDArray[Any]:
    """Numbers [H, W] of a picture: palette indices, grey levels, or the first of its channels."""
    try:
        with Image.open(path) as picture:
            read = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(path, f"it cannot be read as a picture ({error})") from error
    return read if read.ndim == 2 else read[..., MHP_RED]


def _numbers(read: NDArray[Any]) -> list[int]:
    """What numbers a picture has, but for 0."""
    return [int(number) for number in np.unique(read) if number != 0]


def _first(root: Path, *names: str) -> Path:
    """The first of these folders that is there."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(root, f"it has no folder {' or '.join(names)}")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(path, "there is no such file, but a photo that needs it")
    return path


def _listed(root: Path, *names: str) -> list[str] | None:
    """Names of photos in the first of these lists that is there; None where there is none."""
    for name in names:
        path = root / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8").split()
            return [Path(line).name.removesuffix(".jpg") for line in lines]
    return None


def _photos(folder: Path, listed: Iterable[str] | None) -> list[tuple[str, Path]]:
    """Photos of a folder by name; those that are listed, or else all."""
    there = {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in PHOTO_SUFFIXES
    }
    names = sorted(there) if listed is None else list(listed)
    for name in names:
        if name not in there:
            raise InputError(folder, f"it has no photo {name}, which is listed")
    return [(name, there[name]) for name in names]
