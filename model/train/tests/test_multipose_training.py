from pathlib import Path

import pytest
import torch

from m2fp_train.checkpoint import Checkpoint, load_network
from m2fp_train.multipose import Multipose, load_multipose
from m2fp_train.multipose_parser import MultiposeParser, PersonBoxes
from m2fp_train.multipose_training import LOSSES, MultiposeRecipe, MultiposeRun, box_loss, kept_loss
from m2fp_train.sources import AllScenes, read_sources
from m2fp_train.taught import Taught
from m2fp_train.training import Budget
from synthetic import people_at, write_all_sources, write_multipose

RECIPE = MultiposeRecipe(batch=1, crop=192)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_all_sources(folder)
    write_multipose(folder / "multipose.onnx")
    return folder


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, data: Path) -> None:
    scenes = AllScenes(read_sources(data, Taught(data / "taught")), RECIPE)
    published = data / "multipose.onnx"
    for name, stops in (("whole", (2,)), ("parted", (1, 2))):
        (tmp_path / name).mkdir()
        for steps in stops:
            run = MultiposeRun(tmp_path / name, RECIPE, published)
            run.save = _stop_after_saving(run, steps)
            with pytest.raises(KeyboardInterrupt):
                run.train_on(scenes, Budget(steps=3), save_every=1, workers=0)
    paths = [tmp_path / name / "checkpoint.pt" for name in ("whole", "parted")]
    whole, parted = map(Checkpoint.load, paths)
    assert whole.step == parted.step == 2
    for name, value in whole.average.items():
        torch.testing.assert_close(parted.average[name], value, msg=name)
    assert isinstance(load_network(paths[0]), MultiposeParser)

    published_network = Multipose()
    load_multipose(published_network, published)
    stem = "multipose.stem.weight"
    assert torch.equal(whole.network[stem], published_network.stem.weight), "frozen"
    assert not torch.equal(whole.network["multipose.last.weight"], published_network.last.weight), (
        "the rest moves"
    )


def _stop_after_saving(run: MultiposeRun, step: int):  # noqa: ANN202
    def save() -> None:
        MultiposeRun.save(run)
        if run.step == step:
            raise KeyboardInterrupt

    return save


def test_who_says_what_the_teacher_says_has_kept_it() -> None:
    heads = people_at(row=3, column=5, height=8, width=4)
    assert kept_loss(heads, heads).item() == pytest.approx(0, abs=1e-6)
    forgotten = heads._replace(centres=torch.full_like(heads.centres, -10))
    assert kept_loss(forgotten, heads).item() > 1


def test_boxes_are_judged_where_somebody_is() -> None:
    true = torch.tensor([[[20.0, 30.0, 10.0, 40.0], [0.0, 0.0, 1.0, 1.0]]])
    exact = PersonBoxes(*true.split(2, 2))
    used = torch.tensor([[True, False]])
    assert box_loss(exact, true, used).item() == 0
    moved = PersonBoxes(exact.centres + torch.tensor([1.0, 4.0]), exact.sizes)
    assert box_loss(moved, true, used).item() == pytest.approx(0.1)
    assert len(LOSSES) == 6
