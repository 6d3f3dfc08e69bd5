"""What somebody labelled in a photo, whichever data set it is from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""Label of pixels that nobody judged."""

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Person:
    """mask: bool [H, W]. labels: uint8 [H, W], class ids, 0 outside the mask."""

    mask: Mask
    labels: Labels


@dataclass(frozen=True)
class Part:
    """One part of one person. mask: bool [H, W]."""

    class_id: int
    mask: Mask


@dataclass(frozen=True)
class Truth:
    """labels: uint8 [H, W], class ids or IGNORE. persons and parts: empty where the data set does
    not tell people apart."""

    labels: Labels
    persons: list[Person] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """A photo of a data set. truth: reads its labels; None where `DataSet.coco` has them."""

    name: str
    photo: Path
    truth: Callable[[], Truth] | None


@dataclass(frozen=True)
class DataSet:
    """classes: names by id, the background first; none where only persons are labelled.

    has_people: people are told apart. coco: a parsed COCO instances file, with the persons of
    samples whose name is the image's id.
    """

    name: str
    classes: tuple[str, ...]
    samples: list[Sample]
    has_people: bool
    coco: dict[str, Any] | None = None
