"""Clothing Co-Parsing (Yang, Luo, Lin, CVPR 2014) with labels in the CIHP classes.

Layout of the folder: `photos/NNNN.jpg`, `cihp20/NNNN.png` (class ids, 255 = ignore),
`labels59/NNNN.png` (the original tags, an index into the lines of `labels59.txt`).
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from m2fp_train.classes import IGNORE
from m2fp_train.scene import Scene

NOT_PERSON_TAGS = ("null", "bag", "purse", "wallet")
"""Tags of pixels that are not a person: all others are skin, hair or something worn."""
VALIDATION_DIGIT = "3"
"""Photos whose number ends in this digit are for validation and are never trained on."""


class ClothingCoParsing:
    """Photos by number; `training` and `validation` list the numbers of the two disjoint splits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        numbers = sorted(path.stem for path in (folder / "cihp20").glob("*.png"))
        if not numbers:
            raise FileNotFoundError(f"no labels in {folder / 'cihp20'}")
        self.validation = [number for number in numbers if number.endswith(VALIDATION_DIGIT)]
        self.training = [number for number in numbers if not number.endswith(VALIDATION_DIGIT)]
        tags = (folder / "labels59.txt").read_text().split()
        self._is_person = ~np.isin(np.arange(256), [tags.index(tag) for tag in NOT_PERSON_TAGS])

    def load(self, number: str) -> Scene:
        with Image.open(self.folder / "photos" / f"{number}.jpg") as photo:
            image = np.asarray(photo.convert("RGB"))
        parts = self._labels("cihp20", number)
        person = self._is_person[self._labels("labels59", number)].astype(np.uint8)
        # A part may be unknown on a person (a tag without a class); off a person, IGNORE means
        # somebody in the background whom nobody labelled.
        person[(parts == IGNORE) & (person == 0)] = IGNORE
        return Scene(image, parts, person)

    def load_shrunk(self, numbers: list[str], person_height: int) -> list[Scene]:
        """Scenes of `numbers`, each shrunk to a person at most `person_height` pixels tall.

        Decoding takes longer than training on the result, so training keeps these in memory.
        """

        def load_one(number: str) -> Scene:
            scene = self.load(number)
            _, top, _, bottom = scene.person_box()
            scale = person_height / (bottom - top)
            return scene.resized(scale) if scale < 1 else scene

        with ThreadPoolExecutor() as pool:
            return list(pool.map(load_one, numbers))

    def _labels(self, kind: str, number: str) -> np.ndarray:
        with Image.open(self.folder / kind / f"{number}.png") as labels:
            return np.asarray(labels)
