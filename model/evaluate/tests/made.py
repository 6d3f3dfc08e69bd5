"""Scenes of people made at random, written as each data set is, and answers that are nearly right.

A program that plays `m2fp` gives the answers, in the form in which `m2fp parse` writes them.
"""

import json
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (20, 36)
"""Height and width of a scene."""


@dataclass(frozen=True)
class Scene:
    """people: each one's labels, uint8 [H, W], 0 elsewhere; they do not overlap."""

    name: str
    people: list[np.ndarray]

    @property
    def labels(self) -> np.ndarray:
        return np.max([np.zeros(SIZE, np.uint8), *self.people], 0)

    @property
    def owners(self) -> np.ndarray:
        owners = np.zeros(SIZE, np.uint8)
        for number, person in enumerate(self.people, 1):
            owners[person > 0] = number
        return owners


@dataclass(frozen=True)
class Answer:
    """labels, owners: as `m2fp parse` writes them. persons: score and mask. class_scores: by id."""

    labels: np.ndarray
    owners: np.ndarray
    persons: list[tuple[float, np.ndarray]]
    class_scores: dict[int, float]


def scenes(seed: int, count: int, classes: int) -> list[Scene]:
    generator = np.random.default_rng(seed)
    return [_scene(f"photo{number:02}", generator, classes) for number in range(count)]


def _scene(name: str, generator: np.random.Generator, classes: int) -> Scene:
    people = []
    for place in range(int(generator.integers(1, 4))):
        person = np.zeros(SIZE, np.uint8)
        left, width = 12 * place + int(generator.integers(0, 3)), int(generator.integers(6, 10))
        rows = np.sort(generator.choice(np.arange(2, SIZE[0] - 1), 3, replace=False))
        for top, bottom in zip([1, *rows], [*rows, SIZE[0] - 1], strict=True):
            person[top:bottom, left : left + width] = generator.integers(1, classes)
        people.append(person)
    return Scene(name, people)


def answer(scene: Scene, generator: np.random.Generator, classes: int) -> Answer:
    """Nearly right: moved, some parts confused, now and then somebody missed or made up."""
    labels, owners = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    persons = []
    for person in scene.people:
        if generator.random() < 0.15:
            continue
        moved = np.roll(person, generator.integers(-2, 3, 2), (0, 1))
        if generator.random() < 0.4:
            wrong = generator.choice(np.unique(moved[moved > 0]))
            moved = np.where(moved == wrong, generator.integers(1, classes), moved)
        noise = (moved > 0) & (generator.random(SIZE) < 0.1)
        moved = np.where(noise, generator.integers(1, classes), moved).astype(np.uint8)
        persons.append((float(generator.uniform(0.3, 1)), moved))
    if generator.random() < 0.4:
        stranger = np.zeros(SIZE, np.uint8)
        stranger[4:9, 2:30] = generator.integers(1, classes)
        persons.append((float(generator.uniform(0.1, 0.9)), stranger))
    persons.sort(key=lambda entry: -entry[0])
    for number, (_, own) in reversed(list(enumerate(persons, 1))):
        labels[own > 0], owners[own > 0] = own[own > 0], number
    scores = {int(c): float(generator.uniform(0.3, 1)) for c in np.unique(labels) if c}
    return Answer(labels, owners, [(score, own > 0) for score, own in persons], scores)


def answers(seed: int, made: list[Scene], classes: int) -> list[Answer]:
    generator = np.random.default_rng(seed + 1000)
    return [answer(scene, generator, classes) for scene in made]


def write_photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], (90, 120, 60)).save(path)


def write_picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write_instances(base: Path, made: list[Scene]) -> None:
    """As CIHP's authors, and M2FP for several data sets."""
    for scene in made:
        write_photo(base / "Images" / f"{scene.name}.jpg")
        write_picture(base / "Category_ids" / f"{scene.name}.png", scene.labels)
        write_picture(base / "Human_ids" / f"{scene.name}.png", scene.owners)
        numbers, lines = np.zeros(SIZE, np.uint8), []
        for owner, person in enumerate(scene.people, 1):
            for class_id in np.unique(person[person > 0]):
                lines.append(f"{len(lines) + 1} {class_id} {owner}")
                numbers[person == class_id] = len(lines)
        write_picture(base / "Instance_ids" / f"{scene.name}.png", numbers)
        (base / "Instance_ids" / f"{scene.name}.txt").write_text("\n".join(lines) + "\n")


def write_mhp(root: Path, made: list[Scene]) -> None:
    for scene in made:
        write_photo(root / "val" / "images" / f"{scene.name}.jpg")
        for number, person in enumerate(scene.people, 1):
            name = f"{scene.name}_{len(scene.people):02}_{number:02}.png"
            colour = np.stack([person, np.full_like(person, 7), np.full_like(person, 9)], 2)
            write_picture(root / "val" / "parsing_annos" / name, colour)
    (root / "list").mkdir()
    (root / "list" / "val.txt").write_text("".join(f"{scene.name}\n" for scene in made))


def write_dense(root: Path, made: list[Scene], photos: str, labels: str, listed: str) -> None:
    for scene in made:
        write_photo(root / photos / f"{scene.name}.jpg")
        write_picture(root / labels / f"{scene.name}.png", scene.labels)
    (root / listed).write_text("".join(f"{scene.name}\n" for scene in made))
    # Of the training photos, which no list of the evaluation names.
    write_photo(root / photos / "training.jpg")


def write_coco(root: Path, made: list[Scene]) -> None:
    images, annotations = [], []
    for number, scene in enumerate(made, 1):
        write_photo(root / "val2017" / f"{scene.name}.jpg")
        images.append(
            {"id": number, "file_name": f"{scene.name}.jpg", "height": SIZE[0], "width": SIZE[1]}
        )
        for person in scene.people:
            rle = coco_mask.encode(np.asfortranarray((person > 0).astype(np.uint8)))
            annotation = {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0}
            annotation["category_id"] = 1
            annotation["area"] = float(coco_mask.area(rle))
            annotation["bbox"] = [float(side) for side in coco_mask.toBbox(rle)]
            annotation["segmentation"] = {
                "size": list(rle["size"]),
                "counts": rle["counts"].decode(),
            }
            annotations.append(annotation)
    # Nobody looks for dogs.
    dog = {**annotations[0], "id": len(annotations) + 1, "category_id": 18}
    content = {
        "images": images,
        "annotations": [*annotations, dog],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }
    (root / "annotations").mkdir()
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content))


PLAYER = """#!{python}
import shutil, sys
from pathlib import Path

here = Path(__file__).parent
given = sys.argv[2:sys.argv.index("--model")]
out = Path(sys.argv[sys.argv.index("-o") + 1])
with (here / "calls.txt").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
failed = 0
for photo in map(Path, given):
    files = sorted(here.glob(photo.name + ".*"), key=lambda path: path.suffix == ".json")
    if not files:
        print(f"{{photo}}: it is no photo of ours", file=sys.stderr)
        failed = 1
    for file in files:
        shutil.copy(file, out / file.name)
sys.exit(failed)
"""


def write_player(folder: Path, made: list[Scene], given: list[Answer]) -> Path:
    """A program that answers photos of these scenes; it keeps its arguments in calls.txt."""
    folder.mkdir()
    for scene, said in zip(made, given, strict=True):
        stem = f"{scene.name}.jpg"
        for kind, values in (("mask", said.labels), ("instances", said.owners)):
            picture = Image.fromarray(values, "P")
            picture.putpalette([level for index in range(256) for level in (index, 0, 0)])
            picture.save(folder / f"{stem}.{kind}.png")
        (folder / f"{stem}.json").write_text(json.dumps(report(said)))
    program = folder / "m2fp"
    program.write_text(PLAYER.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def report(said: Answer) -> dict[str, object]:
    """What `m2fp parse --rle` reports, as far as the evaluation reads it."""
    persons = []
    for number, (score, mask) in enumerate(said.persons, 1):
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        text = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
        persons.append({"id": number, "score": score, "rle": text})
    classes = [
        {"id": int(label), "score": said.class_scores.get(int(label))}
        for label in np.unique(said.labels)
    ]
    return {"classes": classes, "persons": persons}


def write_model(folder: Path, classes: tuple[str, ...], has_people: bool = True) -> Path:
    """A manifest; nobody reads the graph."""
    folder.mkdir()
    names = [*classes, "Human"] if has_people else list(classes)
    manifest = {
        "files": [{"path": "model.onnx", "sha256": "0" * 64, "bytes": 1}],
        "classes": [{"id": index, "name": name} for index, name in enumerate(names)],
        "person_id": len(classes) if has_people else None,
    }
    (folder / "model.json").write_text(json.dumps(manifest))
    return folder
