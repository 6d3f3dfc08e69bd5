"""MobileNetV1 x0.75 as BodyPix uses it, and the loader of its published TensorFlow.js weights.

Architecture: Howard et al., "MobileNets" (arXiv 1704.04861), width multiplier 0.75, batch
normalisation folded into the convolutions. The last two strides of the classification network are
left out, so that its deepest features have stride 16.
Weights: tensorflow/tfjs-models, `body-pix`, MobileNetV1 x0.75, stride 16, uint16-quantised.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM_CHANNELS = 24
BLOCK_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1)
BLOCK_CHANNELS = (48, 96, 96, 192, 192, 384, 384, 384, 384, 384, 384, 384, 384)
TAPS = {4: 2, 8: 4, 16: 12}
"""Stride of a feature map -> index of the block that yields it."""
FROZEN_BLOCKS = 3
"""Leading blocks that training leaves as published: general edges and colours, and costly."""


class MobileNetV1(nn.Module):
    """Normalised RGB [N, 3, H, W] (multiples of 16) -> features at strides 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1)
        self.depthwise = nn.ModuleList()
        self.pointwise = nn.ModuleList()
        channels = STEM_CHANNELS
        for stride, out_channels in zip(BLOCK_STRIDES, BLOCK_CHANNELS, strict=True):
            self.depthwise.append(
                nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels)
            )
            self.pointwise.append(nn.Conv2d(channels, out_channels, 1))
            channels = out_channels

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu6(self.stem(image))
        features = []
        for block, (depthwise, pointwise) in enumerate(
            zip(self.depthwise, self.pointwise, strict=True)
        ):
            x = F.relu6(pointwise(F.relu6(depthwise(x))))
            if block in TAPS.values():
                features.append(x)
        return features[0], features[1], features[2]

    def freeze_first_blocks(self) -> None:
        """Exclude the stem and the first `FROZEN_BLOCKS` blocks from training."""
        frozen = [self.stem, *self.depthwise[:FROZEN_BLOCKS], *self.pointwise[:FROZEN_BLOCKS]]
        for module in frozen:
            module.requires_grad_(False)


class BodyPix(nn.Module):
    """Normalised RGB [N, 3, H, W] -> logits of anybody [N, 1, h, w], and the features they are of.

    At stride 16: h and w are H and W by 16, rounded up. A cell's middle is its first pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileNetV1()
        self.segment = nn.Conv2d(BLOCK_CHANNELS[-1], 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)[2]
        return self.segment(features), features


def load_bodypix(network: BodyPix, folder: Path) -> None:
    """Copy the weights in `folder` (`model-stride16.json`, its shard) into `network`."""
    weights = load_backbone(network.backbone, folder)
    name = "MobilenetV1/segment_2"
    assign(network.segment, weights[f"{name}/weights"], weights[f"{name}/Conv2D_bias"])


def load_backbone(backbone: MobileNetV1, folder: Path) -> dict[str, np.ndarray]:
    """Copy BodyPix's weights into `backbone` from `folder` (`model-stride16.json`, its shard).

    Returns all weights that are there, as `read_tfjs_weights` does.
    """
    weights = read_tfjs_weights(folder / "model-stride16.json")
    prefix = "MobilenetV1/Conv2d_"
    assign(backbone.stem, weights[f"{prefix}0/weights"], weights[f"{prefix}0/Conv2D_bias"])
    for block, (depthwise, pointwise) in enumerate(
        zip(backbone.depthwise, backbone.pointwise, strict=True), start=1
    ):
        name = f"{prefix}{block}_depthwise/depthwise"
        # TensorFlow keeps depthwise kernels as [height, width, channel, 1].
        assign(depthwise, weights[f"{name}_weights"].swapaxes(2, 3), weights[f"{name}_bias"])
        name = f"{prefix}{block}_pointwise"
        assign(pointwise, weights[f"{name}/weights"], weights[f"{name}/Conv2D_bias"])
    return weights


def read_tfjs_weights(graph: Path) -> dict[str, np.ndarray]:
    """Weights of a TensorFlow.js graph model, dequantised to float32, by name."""
    weights: dict[str, np.ndarray] = {}
    for group in json.loads(graph.read_text())["weightsManifest"]:
        data = b"".join((graph.parent / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            quantization = entry["quantization"]
            stored = np.dtype(quantization["dtype"])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(data, stored, count, offset).astype(np.float32)
            offset += count * stored.itemsize
            values = values * np.float32(quantization["scale"]) + np.float32(quantization["min"])
            weights[entry["name"]] = values.reshape(entry["shape"])
    return weights


def assign(conv: nn.Module, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Copy a kernel [height, width, in, out] and its bias into a convolution."""
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        conv.bias.copy_(torch.from_numpy(bias.copy()))
