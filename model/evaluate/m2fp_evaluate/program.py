"""What users get: `m2fp parse` run on photos, what it wrote, and what of it is there already."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2fp_evaluate.errors import InputError

MANIFEST_NAME = "model.json"
SETTINGS_NAME = "settings.json"
"""In the folder of answers: what they are answers of."""
OUTPUTS = ("mask", "instances", "json")
"""The report is written last: where it is whole, the others are."""


@dataclass(frozen=True)
class FoundPerson:
    """score: of the person. rle: their mask, COCO's; None where the report has no room for it."""

    score: float
    rle: dict[str, Any] | None


@dataclass(frozen=True)
class Parsed:
    """A photo's answer at its own size.

    labels: uint8 [H, W], class ids of the model. owners: uint8 [H, W], number (from 1) of the
    person who is there, 0 where nobody is. class_scores: by the model's class id, of classes that
    have one.
    """

    labels: NDArray[np.uint8]
    owners: NDArray[np.uint8]
    persons: list[FoundPerson]
    class_scores: dict[int, float]


@dataclass(frozen=True)
class Options:
    """Of `m2fp parse`. score: least one of a person or part that is reported."""

    mode: str
    flip: bool
    max_side: int | None
    score: float

    def flags(self) -> list[str]:
        flags = ["--mode", self.mode, "--score", str(self.score)]
        flags += ["--flip"] if self.flip else []
        return flags if self.max_side is None else [*flags, "--max-side", str(self.max_side)]


@dataclass(frozen=True)
class Program:
    """The command line with one model, and a folder that keeps its answers."""

    m2fp: Path
    model: Path
    options: Options
    folder: Path

    def prepare(self, data: str) -> None:
        """Make the folder ready, or raise InputError where it holds answers of something else."""
        path = self.folder / SETTINGS_NAME
        wanted = {"data": data, "model": self._model_digest(), **asdict(self.options)}
        if path.is_file():
            there = read_json(path)
            other = [key for key in wanted if there.get(key) != wanted[key]]
            if other:
                fault = f"it holds answers of another {', '.join(other)}; name another --out"
                raise InputError(self.folder, fault)
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(self.folder, "it holds something else; name another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")

    def classes(self) -> tuple[list[str], int | None]:
        """Names by id, and the id of a whole person."""
        path = self.model / MANIFEST_NAME
        manifest = read_json(path)
        try:
            return [entry["name"] for entry in manifest["classes"]], manifest["person_id"]
        except (LookupError, TypeError) as error:
            raise InputError(path, f"it is no manifest ({error!r})") from error

    def parse(self, photos: Sequence[Path]) -> list[Parsed]:
        """The answers to photos; those that are there already are only read.

        Raises InputError where a photo was refused.
        """
        missing = [photo for photo in photos if not self._is_answered(photo)]
        if missing:
            command = [self.m2fp, "parse", *missing, "--model", self.model, "-o", self.folder]
            command += ["--rle", "--output", ",".join(OUTPUTS), *self.options.flags()]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                raise InputError(self.m2fp, f"it cannot be run ({error.strerror})") from error
            for photo in missing:
                if not self._is_answered(photo):
                    lines = done.stderr.strip().splitlines()
                    said = next((line for line in lines if str(photo) in line), "")
                    raise InputError(photo, f"m2fp parse refused it: {said or lines[-1:]}")
        return [self._read(photo) for photo in photos]

    def _model_digest(self) -> str:
        path = self.model / MANIFEST_NAME
        try:
            return str(read_json(path)["files"][0]["sha256"])
        except (LookupError, TypeError) as error:
            raise InputError(path, f"it is no manifest ({error!r})") from error

    def _output(self, photo: Path, kind: str) -> Path:
        ending = ".json" if kind == "json" else f".{kind}.png"
        return self.folder / f"{photo.name}{ending}"

    def _is_answered(self, photo: Path) -> bool:
        path = self._output(photo, "json")
        try:
            json.loads(path.read_bytes())
        except (OSError, ValueError):
            # It is not there, or writing it was cut short.
            return False
        return True

    def _read(self, photo: Path) -> Parsed:
        path = self._output(photo, "json")
        report = read_json(path)
        persons = [FoundPerson(person["score"], person.get("rle")) for person in report["persons"]]
        if [person["id"] for person in report["persons"]] != list(range(1, len(persons) + 1)):
            raise InputError(path, "its persons are not numbered from 1")
        scores = {
            entry["id"]: entry["score"] for entry in report["classes"] if entry["score"] is not None
        }
        labels, owners = (self._indices(photo, kind) for kind in OUTPUTS[:2])
        return Parsed(labels, owners, persons, scores)

    def _indices(self, photo: Path, kind: str) -> NDArray[np.uint8]:
        """Indices of a palette picture."""
        path = self._output(photo, kind)
        try:
            with Image.open(path) as written:
                return np.asarray(written)
        except (OSError, SyntaxError) as error:
            raise InputError(path, f"it cannot be read ({error}); delete the folder") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or InputError."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(path, f"it cannot be read ({error})") from error
