"""What users get: `m2fp parse` run on pictures, and what it wrote."""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from m2fp_train.instances import FoundPerson

PICTURES_PER_RUN = 32
"""Pictures that one process parses: loading the model is shared, and few are held at once."""


@dataclass(frozen=True)
class Parsed:
    """A picture's answer at its own size.

    labels: uint8 [H, W], class ids. owners: uint8 [H, W], number (from 1) of the person who is
    there, 0 where nobody is. persons: by number; their masks may overlap. report: as written.
    """

    labels: np.ndarray
    owners: np.ndarray
    persons: list[FoundPerson]
    report: dict[str, Any]


@dataclass(frozen=True)
class Program:
    """The command line with one model. m2fp: the executable. model: a model folder."""

    m2fp: Path
    model: Path

    def parse(self, pictures: Iterable[np.ndarray], *options: str) -> Iterator[Parsed]:
        """The answers of uint8 [H, W, 3] pictures, in their order; `options` of `m2fp parse`.

        Raises subprocess.CalledProcessError where a picture was refused.
        """
        pictures = iter(pictures)
        while some := list(islice(pictures, PICTURES_PER_RUN)):
            with tempfile.TemporaryDirectory() as folder:
                yield from self._parse_in(Path(folder), some, options)

    def _parse_in(
        self, folder: Path, pictures: list[np.ndarray], options: tuple[str, ...]
    ) -> list[Parsed]:
        files = []
        for index, picture in enumerate(pictures):
            files.append(folder / f"{index}.png")
            Image.fromarray(picture).save(files[-1], compress_level=1)
        command = [self.m2fp, "parse", *files, "--model", self.model, "--rle", *options]
        # One at a time, or a photo's time and memory would be its neighbour's, too.
        command += ["--output", "mask,instances,json", "--jobs", "1"]
        subprocess.run(command, check=True, capture_output=True)
        return [_read(file) for file in files]


def _read(picture: Path) -> Parsed:
    """What was written beside a picture."""
    report = json.loads(Path(f"{picture}.json").read_text())
    persons = [
        FoundPerson(person["score"], coco_mask.decode(person["rle"]).astype(bool))
        for person in report["persons"]
    ]
    if [person["id"] for person in report["persons"]] != list(range(1, len(persons) + 1)):
        raise ValueError(f"{picture}: persons are not numbered from 1")
    return Parsed(_indices(picture, "mask"), _indices(picture, "instances"), persons, report)


def _indices(picture: Path, kind: str) -> np.ndarray:
    """Indices of a palette picture."""
    with Image.open(f"{picture}.{kind}.png") as written:
        return np.asarray(written)
