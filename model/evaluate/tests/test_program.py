"""How the command line is driven: what is asked of it, what is kept, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

import made
from m2fp_evaluate import class_names
from m2fp_evaluate.__main__ import main
from m2fp_evaluate.evaluate import PHOTOS_PER_RUN

CLASSES = class_names.LIP


class Bench:
    """A data set in LIP's form, a player, and a model."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.player = folder, folder / "player"
        scenes = made.scenes(0, count, len(CLASSES))
        made.write_dense(folder / "data", scenes, "val_images", "val_segmentations", "val_id.txt")
        given = made.answers(0, scenes, len(CLASSES))
        self.m2fp = made.write_player(self.player, scenes, given)
        self.model = made.write_model(folder / "model", CLASSES, has_people=False)

    def run(self, *more: str) -> int:
        common = ["--data", f"lip:{self.folder / 'data'}", "--m2fp", str(self.m2fp)]
        out = ["--model", str(self.model), "--out", str(self.folder / "out")]
        return main([*common, *out, *more])

    def figures(self) -> str:
        return (self.folder / "out" / "figures.json").read_text()

    def calls(self) -> list[str]:
        """Arguments of each call since the last question."""
        path = self.player / "calls.txt"
        calls = path.read_text().splitlines() if path.is_file() else []
        path.unlink(missing_ok=True)
        return calls


def test_an_evaluation_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PHOTOS_PER_RUN + 3)
    assert bench.run() == 0
    assert [call.count(".jpg") for call in bench.calls()] == [PHOTOS_PER_RUN, 3]
    whole = bench.figures()
    out = tmp_path / "out"
    (out / "photo05.jpg.json").unlink()
    # Cut short while it was written.
    report = (out / "photo34.jpg.json").read_text()
    (out / "photo34.jpg.json").write_text(report[: len(report) // 2])
    assert bench.run() == 0
    first, second = bench.calls()
    assert "photo05.jpg" in first and first.count(".jpg") == 1
    assert "photo34.jpg" in second and second.count(".jpg") == 1
    assert bench.figures() == whole
    assert bench.run() == 0
    assert bench.calls() == []


def test_a_limit_takes_the_first_and_is_lifted_without_parsing_them_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 5)
    assert bench.run("--limit", "2") == 0
    assert json.loads(bench.figures())["photos"] == 2
    assert bench.run() == 0
    assert json.loads(bench.figures())["photos"] == 5
    assert [call.count(".jpg") for call in bench.calls()] == [2, 3]


def test_options_are_passed_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 1)
    assert bench.run("--mode", "tiled", "--max-side", "320", "--score", "0.2") == 0
    (call,) = bench.calls()
    assert "--mode tiled --score 0.2 --max-side 320" in call
    assert "--rle --output mask,instances,json" in call


def test_parsed_persons_of_less_than_the_least_score_do_not_count(tmp_path: Path) -> None:
    """A person is reported by their own score; what counts in AP^p is that times their parts'."""
    classes = class_names.CIHP
    (scene,) = made.scenes(0, 1, len(classes))
    people = [(0.9, person > 0) for person in scene.people]
    sure = {int(label): 0.5 for label in np.unique(scene.labels) if label}
    exact = made.Answer(scene.labels, scene.owners, people, sure)
    made.write_instances(tmp_path / "data" / "Validation", [scene])
    m2fp = made.write_player(tmp_path / "player", [scene], [exact])
    model = made.write_model(tmp_path / "model", classes)

    def figures(least: str) -> dict[str, float]:
        given = ["--data", f"cihp:{tmp_path / 'data'}", "--m2fp", str(m2fp), "--model", str(model)]
        out = tmp_path / f"out-{least}"
        assert main([*given, "--out", str(out), "--score", least]) == 0
        return json.loads((out / "figures.json").read_text())["figures"]

    # 0.9 times 0.5 is what each of them has.
    at, above = figures("0.45"), figures("0.46")
    assert (at["APp_50"], at["PCP_50"]) == (1, 1)
    assert (above["APp_50"], above["PCP_50"]) == (0, 0)
    assert at["APr_50"] == above["APr_50"] == 1, "of parts the program itself leaves out the unsure"


def test_answers_of_other_settings_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, 1)
    assert bench.run() == 0
    assert bench.run("--mode", "tiled") == 1
    assert "it holds answers of another mode; name another --out" in capsys.readouterr().err
    manifest = json.loads((bench.model / "model.json").read_text())
    manifest["files"][0]["sha256"] = "1" * 64
    (bench.model / "model.json").write_text(json.dumps(manifest))
    assert bench.run() == 1
    assert "another model" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert bench.run() == 1
    assert "it holds something else" in capsys.readouterr().err
    assert bench.calls() == []


def test_a_refused_photo_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, 3)
    (bench.player / "photo01.jpg.json").unlink()
    for kind in ("mask", "instances"):
        (bench.player / f"photo01.jpg.{kind}.png").unlink()
    assert bench.run() == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "photo01.jpg: m2fp parse refused it" in said and "it is no photo of ours" in said
    assert not (tmp_path / "out" / "figures.json").exists()


def test_no_program_and_no_model_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, 1)
    bench.m2fp.unlink()
    assert bench.run() == 1
    assert "m2fp: it cannot be run" in capsys.readouterr().err
    (bench.model / "model.json").write_text("{}")
    assert bench.run() == 1
    assert "model.json: it is no manifest" in capsys.readouterr().err


def test_figures_are_a_table_in_per_cent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, 2)
    assert bench.run() == 0
    table = capsys.readouterr().out
    miou = json.loads(bench.figures())["figures"]["mIoU"]
    assert f"| mIoU | {100 * miou:.2f} |" in table and "| figure, 2 photos | % |" in table
