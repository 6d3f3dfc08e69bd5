"""Photos parsed batch by batch, and every figure that their data set's labels allow."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from m2fp_evaluate.average_precision import mean
from m2fp_evaluate.errors import InputError
from m2fp_evaluate.parsed_persons import ParsedPersonScores
from m2fp_evaluate.part_instances import PartScores
from m2fp_evaluate.pixels import PixelScores
from m2fp_evaluate.program import FoundPerson, Parsed, Program
from m2fp_evaluate.truth import DataSet, Labels, Part, Sample
from m2fp_evaluate.whole_persons import Rle, WholePersonScores, encode

PHOTOS_PER_RUN = 32
"""Photos that one process parses: loading the model is shared, and an end loses few."""


@dataclass
class Evaluation:
    """figures: by name, in 0..1, NaN where nothing can be said. per_class: class name to figure
    name to value."""

    photos: int
    figures: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """JSON has no NaN: null says that nothing can be said."""
        classes = {name: _known(values) for name, values in self.per_class.items()}
        return {"photos": self.photos, "figures": _known(self.figures), "classes": classes}

    def tables(self) -> str:
        """Markdown, in per cent, as papers have it."""
        lines = [f"| figure, {self.photos} photos | % |", "|---|---:|"]
        lines += [f"| {name} | {_percent(value)} |" for name, value in self.figures.items()]
        if self.per_class:
            columns = list(next(iter(self.per_class.values())))
            lines += ["", f"| class | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
            lines += [
                f"| {name} | {' | '.join(_percent(value) for value in values.values())} |"
                for name, values in self.per_class.items()
            ]
        return "\n".join(lines)


def evaluate(program: Program, data: DataSet, table: NDArray[np.uint8]) -> Evaluation:
    """`table`: class ids of the data set by the model's; empty for a data set without classes."""
    scores = _Scores(data, table, program.options.score)
    with tqdm(total=len(data.samples), unit="photo", desc=data.name, disable=None) as bar:
        for samples in _batches(data.samples):
            answers = program.parse([sample.photo for sample in samples])
            for sample, parsed in zip(samples, answers, strict=True):
                scores.add(sample, parsed)
                bar.update()
    return scores.evaluation()


def _batches(samples: list[Sample]) -> Iterator[list[Sample]]:
    rest = iter(samples)
    while some := list(itertools.islice(rest, PHOTOS_PER_RUN)):
        yield some


class _Scores:
    def __init__(self, data: DataSet, table: NDArray[np.uint8], least: float) -> None:
        count = len(data.classes)
        self.data, self.table, self.least, self.photos = data, table, least, 0
        self.pixels, self.parsed, self.parts = (
            PixelScores(count),
            ParsedPersonScores(count),
            PartScores(count),
        )
        self.persons = WholePersonScores.of(data.coco) if data.coco else WholePersonScores()

    def add(self, sample: Sample, parsed: Parsed) -> None:
        self.photos += 1
        masks = [person_rle(parsed, index) for index in range(len(parsed.persons))]
        found = [(person.score, rle) for person, rle in zip(parsed.persons, masks, strict=True)]
        size = parsed.labels.shape
        if sample.truth is None:
            self.persons.add(int(sample.name), size, found)
            return
        truth = sample.truth()
        if truth.labels.shape != size:
            fault = f"it has {size[1]}×{size[0]} pixels, and its labels have "
            fault += f"{truth.labels.shape[1]}×{truth.labels.shape[0]}"
            raise InputError(sample.photo, fault)
        labels = self.table[parsed.labels]
        self.pixels.add(truth.labels, labels)
        if not self.data.has_people:
            return
        self.persons.add(self.photos, size, found)
        self.persons.add_true(self.photos, truth.persons)
        mapped = self._mapped_scores(parsed)
        # As M2FP's code and Parsing-R-CNN's, which pass over less sure persons, not over parts.
        found_parsed = [
            entry for entry in found_persons(labels, parsed, mapped) if entry[0] >= self.least
        ]
        self.parsed.add([person.labels for person in truth.persons], found_parsed)
        self.parts.add(truth.parts, found_parts(labels, parsed, mapped))

    def _mapped_scores(self, parsed: Parsed) -> dict[int, float]:
        """By class id of the data set; the best where several of the model's are one."""
        scores: dict[int, float] = {}
        for class_id, score in parsed.class_scores.items():
            mapped = int(self.table[class_id])
            scores[mapped] = max(score, scores.get(mapped, 0.0))
        return scores

    def evaluation(self) -> Evaluation:
        made = Evaluation(self.photos)
        if self.data.classes:
            made.figures.update(self.pixels.figures())
            columns = {"IoU": self.pixels.ious()}
            if self.data.has_people:
                made.figures.update(self.parsed.figures())
                made.figures.update(self.parts.figures())
                columns["APr_vol"] = np.array(
                    [mean(row) for row in self.parts.average_precisions()]
                )
            made.per_class = {
                name: {key: float(values[index]) for key, values in columns.items()}
                for index, name in enumerate(self.data.classes)
            }
        if self.data.has_people:
            made.figures.update(self.persons.figures())
        return made


def person_rle(parsed: Parsed, index: int) -> Rle:
    """A person's own mask; where the report had no room for it, where the person is seen."""
    person: FoundPerson = parsed.persons[index]
    return person.rle or encode(parsed.owners == index + 1)


def found_persons(
    labels: Labels, parsed: Parsed, class_scores: dict[int, float]
) -> list[tuple[float, Labels]]:
    """Each person's labels, 0 where they are not seen, and the score of a parsed person.

    That is M2FP's: the person's times the mean of their parts', here the best of each class in the
    photo, which is what a report tells.
    """
    found = []
    for index, person in enumerate(parsed.persons):
        seen = parsed.owners == index + 1
        if not seen.any():
            # Wholly behind others: M2FP's code leaves such a person out, too.
            continue
        own = np.where(seen, labels, 0).astype(np.uint8)
        scores = [class_scores[c] for c in np.unique(own).tolist() if c and c in class_scores]
        found.append((person.score * float(np.mean(scores)) if scores else person.score, own))
    return found


def found_parts(
    labels: Labels, parsed: Parsed, class_scores: dict[int, float]
) -> list[tuple[float, Part]]:
    """Each class inside each person is one part; its score is the person's times the class's."""
    found = []
    for index, person in enumerate(parsed.persons):
        own = np.where(parsed.owners == index + 1, labels, 0)
        for class_id in np.setdiff1d(np.unique(own), 0).tolist():
            score = person.score * class_scores.get(class_id, 1.0)
            found.append((score, Part(class_id, own == class_id)))
    return found


def _known(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f}"
