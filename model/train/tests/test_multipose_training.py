from pathlib import Path

import pytest
import torch

from m2fp_train.checkpoint import Checkpoint, load_network
from m2fp_train.classes import NUM_PARTS
from m2fp_train.multipose_parser import MultiposeParser, PersonBoxes
from m2fp_train.multipose_queries import MultiposeQueryParser
from m2fp_train.multipose_training import MultiposeRecipe, MultiposeRun, Published, whom
from m2fp_train.onnx_graph import write_graph
from m2fp_train.sources import AllScenes, read_sources
from m2fp_train.taught import Taught
from m2fp_train.training import Budget, _copy_state
from synthetic import write_all_sources, write_bodypix, write_multipose, write_nano

RECIPE = MultiposeRecipe(batch=1, crop=192)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_all_sources(folder)
    write_multipose(folder / "multipose.onnx")
    write_nano(folder / "nano.onnx")
    (folder / "bodypix").mkdir()
    write_bodypix(folder / "bodypix")
    return folder


@pytest.fixture(scope="module")
def published(data: Path) -> Published:
    return Published(data / "multipose.onnx", data / "nano.onnx", data / "bodypix")


def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, data: Path, published: Published
) -> None:
    scenes = AllScenes(read_sources(data, Taught(data / "taught")), RECIPE)
    at_first = _copy_state(MultiposeRun(tmp_path, RECIPE, published).network)
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

    for name in ("multipose.last.weight", "nano.fuse.0.weight", "nano.fuse.1.running_mean"):
        assert torch.equal(whole.network[name], at_first[name]), "what is there already stays"
    assert not torch.equal(whole.network["correction.weight"], at_first["correction.weight"])
    assert not torch.equal(whole.network["features.weight"], at_first["features.weight"])


def test_a_run_goes_on_from_what_another_learned(
    tmp_path: Path, data: Path, published: Published
) -> None:
    torch.manual_seed(7)
    learned = MultiposeParser().eval()
    torch.nn.init.normal_(learned.correction.weight)
    write_graph(MultiposeQueryParser(learned, 32).eval(), tmp_path / "learned.onnx")
    recipe = MultiposeRecipe.going_on(batch=1, crop=192)
    run = MultiposeRun(tmp_path, recipe, published._replace(learned=tmp_path / "learned.onnx"))
    kept = run.network.correction.weight[:NUM_PARTS]
    torch.testing.assert_close(kept, learned.correction.weight[:NUM_PARTS])
    before = _copy_state(run.network)
    scenes = AllScenes(read_sources(data, Taught(data / "taught")), recipe)
    run.train_on(scenes, Budget(steps=2), save_every=1, workers=0)
    assert torch.equal(run.network.fuse[1].running_mean, before["fuse.1.running_mean"])
    assert not torch.equal(run.network.fuse[1].bias, before["fuse.1.bias"])
    assert torch.equal(run.network.bodypix.segment.weight, before["bodypix.segment.weight"])


def _stop_after_saving(run: MultiposeRun, step: int):  # noqa: ANN202
    def save() -> None:
        MultiposeRun.save(run)
        if run.step == step:
            raise KeyboardInterrupt

    return save


def test_people_found_are_those_whose_boxes_they_share() -> None:
    found = PersonBoxes(
        torch.tensor([[[10.0, 10.0], [41.0, 40.0], [90.0, 90.0]]]), torch.full((1, 3, 2), 16.0)
    )
    boxes = PersonBoxes(
        torch.tensor([[[40.0, 40.0], [90.0, 90.0], [22.0, 10.0]]]), torch.full((1, 3, 2), 16.0)
    )
    people = torch.tensor([[3, 0, 5]])  # nobody has the second box
    assert whom(found, boxes, people).tolist() == [[0, 3, 0]]
