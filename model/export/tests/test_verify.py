"""The gate: ours and PyTorch's own float32, both judged by PyTorch in float64."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import judge
import photos
from m2fp_export import position, verify
from m2fp_export.deform_attn import reference_points
from m2fp_export.errors import VerificationError
from m2fp_export.model import M2FP
from m2fp_export.onnx_graph import GRAPH_NAME, OUTPUT_NAMES, write_graph
from m2fp_export.verify import Errors, Judge, outputs_of, stirred


def test_a_ten_thousandth_is_the_least_that_is_asked() -> None:
    assert Errors(9.9e-5, 1e-9).acceptable()
    assert not Errors(1.1e-4, 1e-9).acceptable()
    assert Errors(1.1e-4, 1e-9).acceptable(tolerance=2e-4)


def test_ours_may_be_a_small_multiple_of_pytorchs_own() -> None:
    assert Errors(1.1e-4, 3e-5).acceptable()
    assert not Errors(1.3e-4, 3e-5).acceptable()
    assert Errors(1.3e-4, 3e-5).allowed() == pytest.approx(1.2e-4)


def test_what_is_no_number_is_not_accepted() -> None:
    assert not Errors(math.nan, 3e-5).acceptable()
    assert math.isnan((Errors(math.nan, 0.0) | Errors(1.0, 2.0)).ours)
    assert math.isnan((Errors(1.0, 2.0) | Errors(math.nan, 0.0)).ours)
    assert Errors(1.0, 0.5) | Errors(0.5, 2.0) == Errors(1.0, 2.0)


def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 3, 40, 70), generator=generator, dtype=torch.uint8)


def test_the_judge_computes_in_float64_to_the_last_constant(network: M2FP) -> None:
    exact = Judge(network)
    expected = outputs_of(exact.exact, image())
    assert [output.dtype for output in expected] == [np.float64, np.float64]
    assert network.backbone.stem.conv1.weight.dtype == torch.float32
    for makes in (
        lambda dtype: position.encode(3, 5, 8, dtype),
        lambda dtype: reference_points([(3, 7), (5, 1)], dtype),
    ):
        double, single = makes(torch.float64), makes(torch.float32)
        assert double.dtype == torch.float64
        assert 0 < (double - single).abs().max() < 1e-6


def test_pytorch_itself_is_as_far_as_float32_is(network: M2FP) -> None:
    ours = outputs_of(network, image())
    for errors in Judge(network).errors(image(), ours):
        assert errors.ours == errors.theirs
        assert 1e-8 < errors.ours < 1e-4


def test_a_last_bit_changes_what_rounding_changes(network: M2FP) -> None:
    for seed in range(2):
        other = stirred(network, seed)
        assert not torch.equal(other.backbone.stem.conv1.weight, network.backbone.stem.conv1.weight)
        for errors in Judge(network).errors(image(), outputs_of(other, image())):
            assert 1e-8 < errors.ours < 1e-4


def test_pytorch_is_asked_again_before_ours_is_refused(
    network: M2FP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if rounding had spared PyTorch alone: its first answer is the exact one."""
    exact = Judge(network)
    spared = [output.astype(np.float32) for output in outputs_of(exact.exact, image())]
    ours = outputs_of(stirred(network, 100), image())
    found = exact.errors(image(), ours, spared, tolerance=0.0)
    assert all(errors.acceptable(tolerance=0.0) for errors in found)
    monkeypatch.setattr(verify, "SECOND_OPINIONS", 0)
    found = exact.errors(image(), ours, spared, tolerance=0.0)
    assert not any(errors.acceptable(tolerance=0.0) for errors in found)


def test_a_photo_is_judged_as_modelscope_sees_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "SECOND_OPINIONS", 0)
    photo = photos.write(tmp_path / "photo.png", (70, 50), 0)
    pipeline = judge.Pipeline(folder)
    outputs = pipeline.infer(photo)["outputs"]
    theirs = [outputs[name][0].numpy() for name in OUTPUT_NAMES]
    doubled = [2 * output for output in theirs]
    for errors in pipeline.exactly(photo)(doubled, theirs):
        assert errors.theirs < 1e-4
        assert errors.ours == pytest.approx(1, abs=1e-3)


def test_a_graph_that_is_off_by_a_thousandth_is_refused_with_advice(
    network: M2FP, tmp_path: Path
) -> None:
    changed = M2FP(network.sizes).eval()
    changed.load_state_dict(network.state_dict())
    with torch.no_grad():
        changed.sem_seg_head.predictor.class_embed.weight.mul_(1.001)
    graph, _ = write_graph(changed, tmp_path / GRAPH_NAME, portable=True)
    with pytest.raises(VerificationError, match=r"pred_logits at 33×7 is .* please report") as said:
        verify.verify(network, graph, ((33, 7),))
    assert "\n" not in str(said.value)
    assert verify.verify(network, graph, ((33, 7),), tolerance=2e-3).ours > 5e-4


def test_progress_is_told(network: M2FP, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph, _ = write_graph(network, tmp_path / GRAPH_NAME, portable=True)
    with caplog.at_level(logging.INFO, logger="m2fp_export"):
        verify.verify(network, graph, ((33, 7), (1, 1)))
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in told] == [
        "compared at 33×7, 1 of 2",
        "compared at 1×1, 2 of 2",
    ]
