from pathlib import Path

import pytest
import torch

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import Checkpoint
from m2fp_train.training import Budget, Recipe, Run, TrainingScenes
from synthetic import write_bodypix

RECIPE = Recipe(batch=2, crop=192)


@pytest.fixture
def bodypix(tmp_path: Path) -> Path:
    folder = tmp_path / "bodypix"
    folder.mkdir()
    write_bodypix(folder)
    return folder


def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, ccp: ClothingCoParsing, bodypix: Path
) -> None:
    whole, parted = _folder(tmp_path / "whole"), _folder(tmp_path / "parted")
    Run(whole, RECIPE, bodypix).train(ccp, Budget(steps=4), save_every=2, workers=0)

    stopped = Run(parted, RECIPE, bodypix)
    stopped.save = _stop_after_saving(stopped)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(ccp, Budget(steps=4), save_every=2, workers=0)
    resumed = Run(parted, RECIPE, bodypix)
    assert resumed.step == 2
    resumed.train(ccp, Budget(steps=4), save_every=2, workers=0)

    expected = Checkpoint.load(whole / "checkpoint.pt")
    actual = Checkpoint.load(parted / "checkpoint.pt")
    assert actual.step == expected.step == 4
    for name, value in expected.average.items():
        torch.testing.assert_close(actual.average[name], value, msg=name)


def test_training_moves_the_head_and_leaves_the_frozen_blocks(
    tmp_path: Path, ccp: ClothingCoParsing, bodypix: Path
) -> None:
    run = Run(_folder(tmp_path / "run"), RECIPE, bodypix)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.train(ccp, Budget(steps=1), save_every=10, workers=0)
    after = run.network.state_dict()
    assert torch.equal(after["backbone.stem.weight"], before["backbone.stem.weight"])
    for head in ("classifier", "centres", "kernels", "features.1"):
        assert not torch.equal(after[f"{head}.weight"], before[f"{head}.weight"]), head


def test_a_run_is_not_resumed_with_another_recipe(tmp_path: Path, bodypix: Path) -> None:
    folder = _folder(tmp_path / "run")
    Run(folder, RECIPE, bodypix).save()
    with pytest.raises(ValueError, match="another recipe"):
        Run(folder, Recipe(batch=2, crop=192, seed=1), bodypix)


def test_batches_take_turns_in_shape(ccp: ClothingCoParsing) -> None:
    batches = TrainingScenes([ccp.load("0001")], RECIPE).batches(first=1, workers=0)
    shapes = [tuple(next(batches)[0].shape) for _ in range(4)]
    assert shapes == [(2, 3, 288, 128), (2, 3, 256, 144), (2, 3, 144, 256), (2, 3, 192, 192)]


def test_budget() -> None:
    assert Budget(steps=10).progress(5, 1e9) == 0.5
    assert Budget(minutes=2).progress(10**9, 60.0) == 0.5
    assert Budget(minutes=0).progress(0, 0.0) == 1, "exported as it is"
    assert Budget(steps=10, minutes=2).progress(2, 90.0) == 0.75
    with pytest.raises(ValueError, match="steps or of minutes"):
        Budget()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _stop_after_saving(run: Run):  # noqa: ANN202
    def save() -> None:
        Run.save(run)
        raise KeyboardInterrupt

    return save
