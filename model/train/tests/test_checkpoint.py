from pathlib import Path

import torch

from m2fp_train.checkpoint import load_network
from m2fp_train.network import NanoParser


def test_the_averaged_weights_of_a_run_are_loaded(tmp_path: Path) -> None:
    network = NanoParser()
    average = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save({"network": network.state_dict(), "average": average}, tmp_path / "checkpoint.pt")
    loaded = load_network(tmp_path / "checkpoint.pt")
    assert not loaded.training
    torch.testing.assert_close(loaded.classifier.bias, average["classifier.bias"])
