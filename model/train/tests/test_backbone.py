from pathlib import Path

import numpy as np
import torch

from m2fp_train.backbone import MobileNetV1, load_backbone, read_tfjs_weights
from synthetic import write_bodypix, write_tfjs


def test_features_have_the_strides_and_channels_promised() -> None:
    features = MobileNetV1()(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [(96, 16, 24), (192, 8, 12), (384, 4, 6)]


def test_weights_are_dequantised_in_file_order(tmp_path: Path) -> None:
    write_tfjs(tmp_path, {"a": (2,), "b": (1, 3)}, np.arange(5))
    weights = read_tfjs_weights(tmp_path / "model-stride16.json")
    np.testing.assert_allclose(weights["a"], [-1.0, -0.5])
    np.testing.assert_allclose(weights["b"], [[0.0, 0.5, 1.0]])


def test_bodypix_kernels_land_where_they_belong(tmp_path: Path) -> None:
    write_bodypix(tmp_path)
    backbone = MobileNetV1()
    load_backbone(backbone, tmp_path)
    weights = read_tfjs_weights(tmp_path / "model-stride16.json")
    name = "MobilenetV1/Conv2d_3_"
    depthwise = weights[f"{name}depthwise/depthwise_weights"]
    pointwise = weights[f"{name}pointwise/weights"]
    assert backbone.depthwise[2].weight[7, 0, 1, 2] == float(depthwise[1, 2, 7, 0])
    assert backbone.pointwise[2].weight[5, 7, 0, 0] == float(pointwise[0, 0, 7, 5])
    assert backbone.stem.weight[4, 2, 0, 1] == float(
        weights["MobilenetV1/Conv2d_0/weights"][0, 1, 2, 4]
    )


def test_frozen_blocks_get_no_gradient() -> None:
    backbone = MobileNetV1()
    backbone.freeze_first_blocks()
    backbone(torch.ones(1, 3, 32, 32))[2].sum().backward()
    assert backbone.stem.weight.grad is None and backbone.pointwise[2].weight.grad is None
    assert backbone.pointwise[3].weight.grad is not None
