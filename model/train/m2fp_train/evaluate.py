"""Measures a model folder by what `m2fp parse` makes of labelled photos and composed scenes.

Parts and persons on the validation photos, at their own size, and how far a garment falls into
patches of others. People told apart, and each one's parts, in scenes composed of those people. What
is seen where nobody is. People in ordinary photos, by COCO's measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import (
    BACKGROUND_ID,
    CLASS_NAMES,
    GARMENTS,
    IGNORE,
    NUM_CLASSES,
    NUM_PARTS,
    PERSON_ID,
)
from m2fp_train.crowd import crowd_scenes
from m2fp_train.instances import LEAST_SCORE, FoundPerson, InstanceScores
from m2fp_train.ordinary import OrdinaryPhoto, PeoplePixels, PersonPrecision, person_precision
from m2fp_train.program import Parsed, Program
from m2fp_train.scene import Scene

GROUPS = ((2, 3, 4), (5, 6))
"""People in a scene, in the two kinds of scenes that are judged apart."""
CROWD_SEED, NOBODY_SEED = 0, 1
SMALLEST_GARMENT = 2000
"""Pixels above which a labelled garment is judged as one piece."""


@dataclass
class PixelScores:
    """Pixels counted over pictures: per class 0..20, where Human is anybody."""

    intersection: np.ndarray = field(default_factory=lambda: np.zeros(NUM_CLASSES, np.int64))
    union: np.ndarray = field(default_factory=lambda: np.zeros(NUM_CLASSES, np.int64))

    def add(self, parsed: Parsed, scene: Scene) -> None:
        """Count a photo; pixels that nobody labelled are left out. Human is all persons' masks."""
        known = scene.parts != IGNORE
        self.count_parts(parsed.labels[known], scene.parts[known])
        known = scene.person != IGNORE
        self.count(PERSON_ID, anywhere(parsed)[known], scene.person[known] == 1)

    def count_parts(self, found: np.ndarray, true: np.ndarray) -> None:
        """Count the labels of pixels that can be judged."""
        for class_id in range(NUM_PARTS):
            self.count(class_id, found == class_id, true == class_id)

    def count(self, class_id: int, found: np.ndarray, true: np.ndarray) -> None:
        """Count one class; both are bool, of pixels that can be judged."""
        self.intersection[class_id] += np.count_nonzero(found & true)
        self.union[class_id] += np.count_nonzero(found | true)

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union [21]; NaN for a class that is nowhere."""
        with np.errstate(invalid="ignore"):
            return self.intersection / self.union

    @property
    def mean_iou(self) -> float:
        """mIoU over the 20 part classes (Background included) that occur or are predicted."""
        return float(np.nanmean(self.iou[:NUM_PARTS]))

    @property
    def person_iou(self) -> float:
        return float(self.iou[PERSON_ID])


@dataclass
class PartScores:
    """One person's one part, told apart from everybody else's, counted over scenes.

    The AP^r of instance-level human parsing (Li, Arnab, Torr, "Holistic, Instance-Level Human
    Parsing", BMVC 2017): a part found has its person's score, and is the label map inside of what
    is this person's.
    """

    classes: list[InstanceScores] = field(
        default_factory=lambda: [InstanceScores() for _ in range(NUM_PARTS)]
    )

    def add(self, parsed: Parsed, scene: Scene) -> None:
        for class_id in range(NUM_PARTS):
            if class_id == BACKGROUND_ID:
                continue
            here = parsed.labels == class_id
            found = (
                FoundPerson(person.score, here & (parsed.owners == number))
                for number, person in enumerate(parsed.persons, start=1)
            )
            true = np.where(scene.parts == class_id, scene.numbers, 0)
            true[(scene.parts == IGNORE) | (scene.numbers == IGNORE)] = IGNORE
            self.classes[class_id].add([part for part in found if part.mask.any()], true)

    def precision(self, threshold: float) -> np.ndarray:
        """AP^r [20] at an IoU; NaN for Background and for a part that nobody has."""
        return np.array([scores.average_precision(threshold) for scores in self.classes])

    @property
    def ap50(self) -> float:
        """Mean over the parts that somebody has, at IoU 0.5."""
        return float(np.nanmean(self.precision(0.5)))


@dataclass
class Patchwork:
    """How far labelled garments fall into patches: one share for each of them.

    A share is that of a garment's pixels with any garment's label that have another one than most
    of them: 0 for a garment in one piece, be it of the wrong class.
    """

    shares: list[float] = field(default_factory=list)

    def add(self, found: np.ndarray, true: np.ndarray) -> None:
        """Count the garments of a photo; labels uint8 [H, W], found and true."""
        for garment in GARMENTS:
            here = true == garment
            if np.count_nonzero(here) <= SMALLEST_GARMENT:
                continue
            labels = np.bincount(found[here], minlength=NUM_PARTS)[list(GARMENTS)]
            if labels.any():
                self.shares.append(1 - labels.max() / labels.sum())

    @property
    def mean(self) -> float:
        """Over garments, large or small; NaN where there is none."""
        return float(np.mean(self.shares)) if self.shares else float("nan")


@dataclass
class Nobody:
    """What is seen in pictures of nobody. false_area: share of all pixels with a part's label."""

    pictures: int
    persons: int
    false_area: float


@dataclass
class Ordinary:
    """People in ordinary photos. nobody: how many of the photos show none; false_persons: found
    in those."""

    photos: int
    people: int
    precision: PersonPrecision
    pixels: PeoplePixels
    nobody: int
    false_persons: int


@dataclass
class Evaluation:
    """The figures of one model. told_apart and parts: by the scenes of `GROUPS`."""

    photos: int
    pixels: PixelScores
    patchwork: Patchwork
    scenes: int
    told_apart: list[InstanceScores]
    parts: list[PartScores]
    nobody: Nobody
    ordinary: Ordinary

    def accuracy(self) -> dict[str, Any]:
        """The manifest's `accuracy`."""
        return {
            "miou": round(self.pixels.mean_iou, 3),
            "person_iou": round(self.pixels.person_iou, 3),
            "person_ap50": round(self.told_apart[0].ap50, 3),
            "person_ap": round(self.told_apart[0].ap, 3),
            "part_ap50": round(self.parts[0].ap50, 3),
            "false_area": round(self.nobody.false_area, 4),
            "patchwork": round(self.patchwork.mean, 3),
            "ordinary_ap50": round(self.ordinary.precision.ap50, 3),
            "ordinary_ap": round(self.ordinary.precision.ap, 3),
            "ordinary_people_iou": round(self.ordinary.pixels.iou, 3),
            "measured_on": f"{self.photos} Clothing Co-Parsing photos not trained on (numbers "
            f"ending in 3); AP: {self.scenes} scenes of {_several(GROUPS[0])} of their people; "
            f"false_area: {self.nobody.pictures} of nobody; ordinary: {self.ordinary.photos} "
            "photos of COCO's kind",
        }

    def tables(self) -> str:
        """Markdown for the model card."""
        rows = ["| class | IoU | AP^r, " + " | AP^r, ".join(map(_several, GROUPS)) + " people |"]
        rows.append("|---|---|" + "---|" * len(GROUPS))
        precision = [parts.precision(0.5) for parts in self.parts]
        for class_id, name in enumerate(CLASS_NAMES):
            cells = [self.pixels.iou[class_id]]
            if class_id == PERSON_ID:
                cells += [scores.ap50 for scores in self.told_apart]
            else:
                cells += [values[class_id] for values in precision]
            rows.append(f"| {name} | " + " | ".join(map(_figure, cells)) + " |")
        means = [self.pixels.mean_iou, *(parts.ap50 for parts in self.parts)]
        rows.append("| **mean of the parts** | " + " | ".join(f"**{x:.3f}**" for x in means) + " |")
        groups = "; ".join(
            f"scenes of {_several(people)}: AP50 {scores.ap50:.3f}, AP {scores.ap:.3f} of "
            f"{scores.people} people"
            for people, scores in zip(GROUPS, self.told_apart, strict=True)
        )
        nobody = (
            f"{self.nobody.pictures} scenes of nobody: {self.nobody.persons} persons seen, "
            f"{self.nobody.false_area:.2%} of the pixels labelled"
        )
        patchwork = (
            f"Patchwork: {self.patchwork.mean:.3f}, mean of {len(self.patchwork.shares)} garments"
        )
        precision = self.ordinary.precision
        ordinary = (
            f"{self.ordinary.photos} ordinary photos with {self.ordinary.people} people: "
            f"AP50 {precision.ap50:.3f}, AP {precision.ap:.3f}; large people: "
            f"AP50 {precision.large_ap50:.3f}, AP {precision.large_ap:.3f}; people's pixels: "
            f"IoU {self.ordinary.pixels.iou:.3f}; {self.ordinary.false_persons} persons seen in "
            f"{self.ordinary.nobody} photos of nobody"
        )
        sentences = (f"People told apart, {groups}", nobody, patchwork, ordinary)
        return "\n".join([*rows, "", *(f"{sentence}." for sentence in sentences)])


def evaluate(
    program: Program, data: ClothingCoParsing, scenes: int, ordinary: Sequence[OrdinaryPhoto]
) -> Evaluation:
    """Judge on all validation photos, on `scenes` scenes of each kind composed of them, and on
    `ordinary` photos."""
    people = [data.load(number) for number in data.validation]
    pixels, patchwork = PixelScores(), Patchwork()
    for parsed, scene in zip(program.parse(scene.image for scene in people), people, strict=True):
        pixels.add(parsed, scene)
        patchwork.add(parsed.labels, scene.parts)

    told_apart, parts = [], []
    for group in GROUPS:
        told_apart.append(InstanceScores())
        parts.append(PartScores())
        crowds = list(crowd_scenes(people, group, scenes, CROWD_SEED))
        answers = program.parse((scene.image for scene in crowds), "--score", str(LEAST_SCORE))
        for parsed, scene in zip(answers, crowds, strict=True):
            told_apart[-1].add(parsed.persons, scene.numbers)
            parts[-1].add(parsed, scene)

    backdrops = crowd_scenes(people, (0,), scenes, NOBODY_SEED)
    empty = list(program.parse(scene.image for scene in backdrops))
    false_area = np.mean([np.mean(parsed.labels != BACKGROUND_ID) for parsed in empty])
    nobody = Nobody(scenes, sum(len(parsed.persons) for parsed in empty), float(false_area))
    return Evaluation(
        len(people),
        pixels,
        patchwork,
        scenes,
        told_apart,
        parts,
        nobody,
        evaluate_ordinary(program, ordinary),
    )


def evaluate_ordinary(program: Program, photos: Sequence[OrdinaryPhoto]) -> Ordinary:
    """Judge on ordinary photos what is written by default. People's pixels: any label."""
    answers = list(program.parse(photo.image() for photo in photos))
    pixels, false_persons = PeoplePixels(), 0
    for parsed, photo in zip(answers, photos, strict=True):
        pixels.add(parsed.labels != BACKGROUND_ID, photo)
        if photo.shows_nobody:
            false_persons += len(parsed.persons)
    precision = person_precision(photos, [parsed.persons for parsed in answers])
    people = sum(len(photo.people) for photo in photos)
    nobody = sum(photo.shows_nobody for photo in photos)
    return Ordinary(len(photos), people, precision, pixels, nobody, false_persons)


def anywhere(parsed: Parsed) -> np.ndarray:
    """bool [H, W]: where any of the persons is."""
    masks = [person.mask for person in parsed.persons]
    return np.logical_or.reduce(masks) if masks else np.zeros(parsed.labels.shape, bool)


def _several(group: Sequence[int]) -> str:
    return f"{group[0]}–{group[-1]}"


def _figure(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
