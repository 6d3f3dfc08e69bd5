"""Each data set's own folder, from its files to the figures, through the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made
import plain
from m2fp_evaluate import class_names
from m2fp_evaluate.__main__ import main
from m2fp_evaluate.data_sets import READERS, open_data_set
from m2fp_evaluate.truth import Truth

COUNT = 4
SEED = 5


def _m2fp(split: str) -> Callable[[Path, list[made.Scene]], None]:
    return lambda root, scenes: made.write_instances(root / split, scenes)


def _dense(photos: str, labels: str, listed: str) -> Callable[[Path, list[made.Scene]], None]:
    return lambda root, scenes: made.write_dense(root, scenes, photos, labels, listed)


LIP_LABELS = "TrainVal_parsing_annotations/val_segmentations"
FORMATS = {
    "cihp": ("cihp", class_names.CIHP, _m2fp("Validation"), True),
    "cihp as published": (
        "cihp",
        class_names.CIHP,
        _m2fp("instance-level_human_parsing/Validation"),
        True,
    ),
    "mhp-v2": ("mhp-v2", class_names.MHP_V2, made.write_mhp, True),
    "mhp-v2 as M2FP's": ("mhp-v2", class_names.MHP_V2, _m2fp("Validation"), True),
    "pascal as M2FP's": (
        "pascal-person-part",
        class_names.PASCAL_M2FP,
        _m2fp("Testing"),
        True,
    ),
    "pascal": (
        "pascal-person-part",
        class_names.PASCAL,
        _dense("JPEGImages", "SegmentationPart", "val_id.txt"),
        False,
    ),
    "lip": (
        "lip",
        class_names.LIP,
        _dense("TrainVal_images/val_images", LIP_LABELS, "val_id.txt"),
        False,
    ),
    "atr": (
        "atr",
        class_names.ATR,
        _dense("JPEGImages", "SegmentationClassAug", "test_id.txt"),
        False,
    ),
}


def made_up(tmp_path: Path, form: str) -> tuple[str, list[made.Scene]]:
    name, classes, write, _ = FORMATS[form]
    scenes = made.scenes(SEED, COUNT, len(classes))
    write(tmp_path / "data", scenes)
    return f"{name}:{tmp_path / 'data'}", scenes


def run(tmp_path: Path, data: str, m2fp: Path, model: Path, *more: str) -> int:
    out = ["--out", str(tmp_path / "out")]
    return main(["--data", data, "--m2fp", str(m2fp), "--model", str(model), *out, *more])


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_as_it_was_made(form: str, tmp_path: Path) -> None:
    data, scenes = made_up(tmp_path, form)
    _, classes, _, has_people = FORMATS[form]
    opened = open_data_set(data)
    assert (opened.classes, opened.has_people) == (classes, has_people)
    assert [sample.name for sample in opened.samples] == [scene.name for scene in scenes]
    for sample, scene in zip(opened.samples, scenes, strict=True):
        assert sample.photo.is_file() and sample.truth is not None
        truth: Truth = sample.truth()
        assert (truth.labels == scene.labels).all()
        if not has_people:
            assert truth.persons == [] and truth.parts == []
            continue
        for person, labels in zip(truth.persons, scene.people, strict=True):
            assert (person.labels == labels).all() and (person.mask == (labels > 0)).all()
        regions = [(part.class_id, part.mask.tobytes()) for part in truth.parts]
        expected = [
            (int(label), (person == label).tobytes())
            for person in scene.people
            for label in np.unique(person[person > 0])
        ]
        assert sorted(regions) == sorted(expected)


@pytest.mark.parametrize("form", FORMATS)
def test_figures_of_every_format(form: str, tmp_path: Path) -> None:
    data, scenes = made_up(tmp_path, form)
    _, classes, _, has_people = FORMATS[form]
    answers = made.answers(SEED, scenes, len(classes))
    m2fp = made.write_player(tmp_path / "player", scenes, answers)
    model = made.write_model(tmp_path / "model", classes, has_people)
    assert run(tmp_path, data, m2fp, model) == 0
    written = json.loads((tmp_path / "out" / "figures.json").read_text())
    figures = written["figures"]
    assert written["photos"] == COUNT

    pairs = [(s.labels, a.labels) for s, a in zip(scenes, answers, strict=True)]
    expected = plain.ious(pairs, len(classes))
    assert figures["mIoU"] == pytest.approx(plain.average(expected))
    for name, value in zip(classes, expected, strict=True):
        assert written["classes"][name]["IoU"] == (value if value is None else pytest.approx(value))
    if not has_people:
        assert "APp_50" not in figures and "person_AP" not in figures
        return
    persons, regions, whole = [], [], []
    for scene, answer in zip(scenes, answers, strict=True):
        found, cut = _found(answer)
        persons.append((scene.people, found))
        true = [
            (int(label), person == label)
            for person in scene.people
            for label in np.unique(person[person > 0])
        ]
        regions.append((true, cut))
        whole.append(([person > 0 for person in scene.people], answer.persons))
    precisions, correct = plain.parsed_persons(persons, len(classes))
    assert figures["APp_50"] == pytest.approx(precisions[4])
    assert figures["APp_vol"] == pytest.approx(plain.average(precisions))
    assert figures["PCP_50"] == pytest.approx(correct[4])
    by_threshold = plain.parts(regions, len(classes))
    assert figures["APr_50"] == pytest.approx(by_threshold[4])
    assert figures["APr_vol"] == pytest.approx(plain.average(by_threshold))
    assert figures["person_AP50"] == pytest.approx(plain.coco_person_ap(whole, 0.5))
    assert 0 < figures["mIoU"] < 1 and figures["APp_50"] > 0 and figures["person_AP50"] > 0


def _found(
    answer: made.Answer,
) -> tuple[list[tuple[float, np.ndarray]], list[tuple[float, int, np.ndarray]]]:
    """Parsed persons and their parts, with the scores that the documentation says they have."""
    persons, parts = [], []
    for number, (score, _) in enumerate(answer.persons, 1):
        own = np.where(answer.owners == number, answer.labels, 0).astype(np.uint8)
        labels = sorted({int(label) for label in np.unique(own)} - {0})
        if not (answer.owners == number).any():
            continue
        sure = [answer.class_scores[label] for label in labels]
        persons.append((score * sum(sure) / len(sure), own))
        parts += [(score * answer.class_scores[label], label, own == label) for label in labels]
    return persons, parts


def test_figures_of_coco_persons(tmp_path: Path) -> None:
    scenes = made.scenes(SEED, COUNT, 6)
    made.write_coco(tmp_path / "data", scenes)
    answers = made.answers(SEED, scenes, 6)
    m2fp = made.write_player(tmp_path / "player", scenes, answers)
    # Classes do not matter where only persons are labelled.
    model = made.write_model(tmp_path / "model", ("Background", "a", "b", "c", "d", "e"))
    data = f"coco:{tmp_path / 'data'}"
    for limit, few in (("2", 2), ("4", COUNT)):
        assert run(tmp_path, data, m2fp, model, "--limit", limit) == 0
        written = json.loads((tmp_path / "out" / "figures.json").read_text())
        whole = [
            ([person > 0 for person in scene.people], answer.persons)
            for scene, answer in list(zip(scenes, answers, strict=True))[:few]
        ]
        expected = [plain.coco_person_ap(whole, at / 100) for at in range(50, 100, 5)]
        assert written["photos"] == few and written["classes"] == {}
        assert written["figures"]["person_AP"] == pytest.approx(np.mean(expected))
        assert written["figures"]["person_AP50"] == pytest.approx(expected[0])
        assert "mIoU" not in written["figures"]


def test_the_packaged_models_photos_are_those_not_trained_on(tmp_path: Path) -> None:
    for number in ("0003", "0013", "0014", "0030"):
        made.write_photo(tmp_path / "photos" / f"{number}.jpg")
        made.write_picture(tmp_path / "cihp20" / f"{number}.png", np.full(made.SIZE, 255, np.uint8))
    data = open_data_set(f"ccp:{tmp_path}")
    assert [sample.name for sample in data.samples] == ["0003", "0013"]
    assert (data.classes, data.has_people) == (class_names.CIHP, False)
    assert (data.samples[1].truth().labels == 255).all()


def test_classes_in_another_order_are_the_same_classes(tmp_path: Path) -> None:
    data, scenes = made_up(tmp_path, "pascal")
    ours = list(class_names.PASCAL)
    theirs = ("Background", "Lower arms", "HEAD", "Upper Legs", "torso", "lower_legs", "upper-arms")
    table = [0, 4, 1, 5, 2, 6, 3]
    assert [ours[index][:5].lower() for index in table] == [name[:5].lower() for name in theirs]
    answers = [
        made.Answer(np.argsort(table)[scene.labels].astype(np.uint8), scene.owners, [], {})
        for scene in scenes
    ]
    m2fp = made.write_player(tmp_path / "player", scenes, answers)
    model = made.write_model(tmp_path / "model", theirs, has_people=False)
    assert run(tmp_path, data, m2fp, model) == 0
    written = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert written["figures"]["mIoU"] == 1


def test_a_model_of_other_classes_needs_a_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, scenes = made_up(tmp_path, "pascal")
    names = ("Background", "Face", "Chest")
    answers = [made.Answer(np.minimum(scene.labels, 2), scene.owners, [], {}) for scene in scenes]
    m2fp = made.write_player(tmp_path / "player", scenes, answers)
    model = made.write_model(tmp_path / "model", names, has_people=False)
    assert run(tmp_path, data, m2fp, model) == 2
    assert "no class Face, Chest: say with --map" in capsys.readouterr().err
    chosen = tmp_path / "map.json"
    chosen.write_text(json.dumps({"Face": "Head", "Chest": "Torso"}))
    assert run(tmp_path, data, m2fp, model, "--map", str(chosen)) == 0
    said = capsys.readouterr()
    assert "no Upper-arm, Lower-arm, Upper-leg, Lower-leg: counted as never found" in said.err
    assert "| Head |" in said.out
    chosen.write_text(json.dumps({"Nose": "Head"}))
    assert run(tmp_path, data, m2fp, model, "--map", str(chosen)) == 2
    assert "names what is no class: Nose" in capsys.readouterr().err
    chosen.write_text("[1]")
    assert run(tmp_path, data, m2fp, model, "--map", str(chosen)) == 1
    assert "no JSON object" in capsys.readouterr().err


def _without(*names: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def _bytes(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content)


def _picture(name: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(values).save(root / name)


SMALL, STRANGE = np.zeros((3, 3), np.uint8), np.full(made.SIZE, 77, np.uint8)
V = "Validation"
FAULTS = [
    ("cihp", _without(f"{V}/Images"), "Validation: it has no folder Images"),
    ("cihp", _without(V), "it has no folder Validation or instance-level_human_parsing"),
    ("cihp", _without(f"{V}/Human_ids/photo01.png"), "photo01.png: there is no such file"),
    ("cihp", _without(f"{V}/Instance_ids/photo01.txt"), "photo01.txt: there is no such file"),
    ("cihp", _bytes(f"{V}/Instance_ids/photo01.txt", b"1 x\n"), "'part class person'"),
    ("cihp", _bytes(f"{V}/Category_ids/photo02.png", b"\x89PNG no"), "read as a picture"),
    ("cihp", _picture(f"{V}/Human_ids/photo00.png", SMALL), "photo00.png: its size is not"),
    ("cihp", _picture(f"{V}/Category_ids/photo00.png", STRANGE), "77 is the id of no class"),
    ("mhp-v2", _without("val/images/photo00.jpg"), "it has no photo photo00, which is listed"),
    ("lip", _without(f"{LIP_LABELS}/photo03.png"), "photo03.png: there is no such file"),
    ("lip", _bytes("val_id.txt", b""), "it has no photo of lip"),
    ("lip", _picture(f"{LIP_LABELS}/photo03.png", SMALL), "has 36×20 pixels, and its labels"),
]


@pytest.mark.parametrize(("form", "change", "said"), FAULTS)
def test_faults_are_one_sentence(
    form: str,
    change: Callable[[Path], None],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, scenes = made_up(tmp_path, form)
    _, classes, _, has_people = FORMATS[form]
    answers = made.answers(SEED, scenes, len(classes))
    m2fp = made.write_player(tmp_path / "player", scenes, answers)
    model = made.write_model(tmp_path / "model", classes, has_people)
    change(tmp_path / "data")
    assert run(tmp_path, data, m2fp, model) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1] and lines[-1].startswith("m2fp_evaluate: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "no COCO instances file"), ('{"categories": []}', "no COCO instances file")],
)
def test_a_broken_coco_file(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_coco(tmp_path / "data", made.scenes(SEED, 1, 6))
    (tmp_path / "data" / "annotations" / "instances_val2017.json").write_text(content)
    model = made.write_model(tmp_path / "model", ("Background", "a"))
    assert run(tmp_path, f"coco:{tmp_path / 'data'}", tmp_path / "m2fp", model) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("given", ["cihp", "nothing:here", ":"])
def test_data_that_cannot_be_meant(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, given, tmp_path / "m2fp", tmp_path / "model") == 2
    assert ", ".join(READERS) in capsys.readouterr().err
