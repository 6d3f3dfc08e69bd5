from pathlib import Path

import torch

from m2fp_train.checkpoint import Checkpoint, load_network
from m2fp_train.network import NanoParser


def test_the_averaged_weights_of_a_run_are_loaded(tmp_path: Path) -> None:
    network = NanoParser()
    average = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save({"network": network.state_dict(), "average": average}, tmp_path / "checkpoint.pt")
    loaded = load_network(tmp_path / "checkpoint.pt")
    assert not loaded.training
    torch.testing.assert_close(loaded.classifier.bias, average["classifier.bias"])


def test_a_blend_lies_between_a_run_and_what_it_went_on_from(tmp_path: Path) -> None:
    def checkpoint(value: float, count: int) -> Checkpoint:
        weights = {"weight": torch.full((2,), value), "count": torch.tensor(count)}
        return Checkpoint(count, 1.0, {"seed": 0}, weights, weights, {})

    start, end = checkpoint(1.0, 0), checkpoint(3.0, 7)
    end.blended(start, 0.75).save(tmp_path / "blend.pt")
    blend = Checkpoint.load(tmp_path / "blend.pt")
    assert blend.average["weight"].tolist() == [2.5, 2.5]
    assert blend.average["count"] == 7 and blend.step == 7
    assert end.average["weight"].tolist() == [3, 3], "the run's own stay"
