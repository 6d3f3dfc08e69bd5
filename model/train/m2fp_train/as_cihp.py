"""Scenes written as CIHP is: a data set for those who measure on published ones.

`Validation/` holds `Images`, `Category_ids`, `Human_ids` and `Instance_ids`, as CIHP's folders do.
A pixel that nobody can judge is 255 in `Category_ids`, and belongs to nobody in the other two.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from m2fp_train.classes import BACKGROUND_ID, IGNORE, NUM_PARTS
from m2fp_train.scene import Scene

FOLDERS = ("Images", "Category_ids", "Human_ids", "Instance_ids")


def write_as_cihp(scenes: Iterable[Scene], root: Path) -> int:
    """Write every scene below `root`; how many there were."""
    folders = [root / "Validation" / name for name in FOLDERS]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, scene in enumerate(scenes, start=1):
        unknown = (scene.parts == IGNORE) | (scene.numbers == IGNORE)
        humans = np.where(unknown, 0, scene.numbers).astype(np.uint8)
        parts, about = _part_instances(np.where(unknown, BACKGROUND_ID, scene.parts), humans)
        pictures = (scene.image, np.where(unknown, IGNORE, scene.parts), humans, parts)
        for folder, picture in zip(folders, pictures, strict=True):
            file = folder / f"{count:04}.png"
            Image.fromarray(picture.astype(np.uint8)).save(file, compress_level=1)
        lines = (f"{number} {class_id} {human}\n" for number, class_id, human in about)
        (folders[-1] / f"{count:04}.txt").write_text("".join(lines))
    return count


def _part_instances(
    parts: np.ndarray, humans: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """uint8 [H, W], a number for each part of each person, and what (number, class, person) is."""
    instances, about = np.zeros_like(humans), []
    for human in np.unique(humans[humans > 0]).tolist():
        own = humans == human
        for class_id in np.unique(parts[own]).tolist():
            if class_id != BACKGROUND_ID and class_id < NUM_PARTS:
                about.append((len(about) + 1, class_id, human))
                instances[own & (parts == class_id)] = len(about)
    if len(about) >= IGNORE:
        raise ValueError(f"{len(about)} parts in one scene")
    return instances, about
