from pathlib import Path

import torch

from m2fp_train.checkpoint import load_network, rename_v0
from m2fp_train.network import NanoParser

V0_SAMPLES = {
    "b.c0.weight": "backbone.stem.weight",
    "b.dw.12.bias": "backbone.depthwise.12.bias",
    "b.pw.0.weight": "backbone.pointwise.0.weight",
    "p16.1.running_var": "reduce.1.running_var",
    "ctx.3.dw.weight": "context.3.depthwise.weight",
    "ctx.0.b2.bias": "context.0.pointwise_norm.bias",
    "gp.0.bias": "scene.0.bias",
    "fu.1.running_mean": "fuse.1.running_mean",
    "l8.0.weight": "lateral8.0.weight",
    "s4.1.pw.weight": "refine4.1.pointwise.weight",
    "s8.0.b1.num_batches_tracked": "refine8.0.depthwise_norm.num_batches_tracked",
    "out.bias": "classifier.bias",
}


def test_v0_names_become_ours() -> None:
    ours = NanoParser().state_dict()
    assert set(V0_SAMPLES.values()) <= set(ours)
    state = {name: torch.tensor(float(i)) for i, name in enumerate(V0_SAMPLES)}
    renamed = rename_v0(state)
    assert renamed == {ours: state[v0] for v0, ours in V0_SAMPLES.items()}


def test_the_averaged_weights_of_a_run_are_loaded(tmp_path: Path) -> None:
    network = NanoParser()
    average = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save({"network": network.state_dict(), "average": average}, tmp_path / "checkpoint.pt")
    loaded = load_network(tmp_path / "checkpoint.pt")
    assert not loaded.training
    torch.testing.assert_close(loaded.classifier.bias, average["classifier.bias"])
