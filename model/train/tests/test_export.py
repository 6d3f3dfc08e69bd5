import json
from pathlib import Path

import pytest
import torch

from m2fp_train import export
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.manifest import About, write_accuracy
from m2fp_train.network import NanoParser


def test_a_checkpoint_becomes_a_model_folder(
    tmp_path: Path, ccp: ClothingCoParsing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CONFIDENCE_SCENES", 2)
    torch.manual_seed(0)
    torch.save({"average": NanoParser().state_dict()}, tmp_path / "checkpoint.pt")
    about = About("other", "1.0.0", "A test.", "Apache-2.0", {"code": "here"})
    export.export(tmp_path / "checkpoint.pt", tmp_path / "model", ccp, about)

    manifest = json.loads((tmp_path / "model" / "model.json").read_text())
    assert manifest["outputs"]["queries"] == 44
    assert manifest["files"][0]["bytes"] < 3.6e6, "weights are stored as halves"
    assert manifest["accuracy"] is None, "nobody has measured it yet"

    write_accuracy({"miou": 0.5}, tmp_path / "model")
    measured = json.loads((tmp_path / "model" / "model.json").read_text())
    assert measured == manifest | {"accuracy": {"miou": 0.5}}
