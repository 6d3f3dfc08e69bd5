"""A photo with its labels, and the geometry that keeps the three together."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from m2fp_train.classes import IGNORE, MIRROR_TABLE

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""


@dataclass(frozen=True)
class Scene:
    """A photo of people.

    image: uint8 [H, W, 3], RGB.
    parts: uint8 [H, W], class id 0..19 or IGNORE.
    numbers: uint8 [H, W], the number (from 1) of the person who is there, 0 where nobody is, or
        IGNORE. A person in front hides those behind.
    """

    image: np.ndarray
    parts: np.ndarray
    numbers: np.ndarray

    @property
    def person(self) -> np.ndarray:
        """uint8 [H, W], 1 where a person is, 0 where none is, or IGNORE."""
        return np.where(self.numbers == IGNORE, IGNORE, self.numbers > 0).astype(np.uint8)

    @property
    def width(self) -> int:
        return self.image.shape[1]

    @property
    def height(self) -> int:
        return self.image.shape[0]

    def person_box(self) -> Box:
        """The smallest box around every labelled person. Raises ValueError where there is none."""
        person = self.person == 1
        if not person.any():
            raise ValueError("no person is labelled in this scene")
        return box_around(person)

    def crop(self, box: Box) -> "Scene":
        left, top, right, bottom = box
        area = np.s_[top:bottom, left:right]
        return Scene(self.image[area], self.parts[area], self.numbers[area])

    def mirrored(self) -> "Scene":
        """Left and right exchanged, in the pixels and in the names of the parts."""
        return Scene(self.image[:, ::-1], MIRROR_TABLE[self.parts[:, ::-1]], self.numbers[:, ::-1])

    def resized(self, scale: float) -> "Scene":
        """Photo by Pillow's antialiased bilinear filter, labels by the nearest pixel."""
        size = (max(1, round(self.width * scale)), max(1, round(self.height * scale)))
        return Scene(
            _resize(self.image, size, Image.Resampling.BILINEAR),
            _resize(self.parts, size, Image.Resampling.NEAREST),
            _resize(self.numbers, size, Image.Resampling.NEAREST),
        )


def box_around(there: np.ndarray) -> Box:
    """The smallest box around what is true in bool [H, W], of which something is."""
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _resize(pixels: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, method))
