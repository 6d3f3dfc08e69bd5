"""MoveNet multipose: who is where in an ordinary photo, and the loader of its published weights.

Architecture: MobileNetV2 (arXiv 1801.04381) of width 1.5, a feature pyramid from stride 32 to
stride 4, and CenterNet's heads (arXiv 1904.07850) there: centres and boxes of people, and their 17
keypoints. Batch normalisation is folded into the convolutions.
Weights: Google's MoveNet multipose (Apache-2.0), as an ONNX graph with these dense heads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.onnx_weights import convolutions
from m2fp_train.persons import at_cells

MULTIPOSE_STRIDE = 4
"""Photo pixels per cell of the heads, in each direction."""
MULTIPOSE_DIVISOR = 32
"""Sides of an image are multiples of it."""
STEM_CHANNELS = 48
EXPANSION = 6
BLOCKS = (
    (24, 1),
    (40, 2),
    (40, 1),
    (48, 2),
    (48, 1),
    (48, 1),
    (96, 2),
    (96, 1),
    (96, 1),
    (96, 1),
    (144, 1),
    (144, 1),
    (144, 1),
    (240, 2),
    (240, 1),
    (240, 1),
    (480, 1),
)
"""Channels and stride of each block."""
TAPS = {4: 2, 8: 5, 16: 12, 32: 16}
"""Stride of a feature map -> index of the last block that has it, or that the pyramid reads."""
PYRAMID_TAP16 = 9
"""The block at stride 16 that the pyramid reads; three more follow at that stride."""
LAST_CHANNELS = 1280
PYRAMID = ((64, 32), (32, 24), (24, 24))
"""Channels in and out of the pyramid's convolutions at strides 16, 8 and 4."""
HEAD_WIDTH = 96
KEYPOINTS = 17


class PersonHeads(NamedTuple):
    """What the heads say at M cells of each of N images, as `Heads` has it: [N, M, channels]."""

    boxes: Tensor
    offsets: Tensor
    ways: Tensor


class Heads(NamedTuple):
    """What multipose says at stride 4 of N images.

    centres: [N, 1, h, w], logits. boxes: [N, 2, h, w], height and width in cells. offsets:
    [N, 2, h, w], y and x of the centre in its cell. keypoints: [N, 17, h, w], logits. ways:
    [N, 34, h, w], y and x in cells from a centre to each of its person's keypoints.
    """

    centres: Tensor
    boxes: Tensor
    offsets: Tensor
    keypoints: Tensor
    ways: Tensor

    def at(self, cells: Tensor) -> PersonHeads:
        """What is said at cells int64 [N, M], counted row by row."""
        maps = (self.boxes, self.offsets, self.ways)
        return PersonHeads(*(at_cells(values, cells) for values in maps))


class PeopleMaps(NamedTuple):
    """What of `Heads` must be known everywhere to find people; the rest is computed where asked."""

    centres: Tensor
    keypoints: Tensor
    at: Callable[[Tensor], PersonHeads]


class Features(NamedTuple):
    """Feature maps by stride; `pyramid` is at stride 4, what the heads look at."""

    stride4: Tensor
    stride8: Tensor
    stride16: Tensor
    stride32: Tensor
    pyramid: Tensor


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection; what comes in is added where it fits."""

    def __init__(self, channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = nn.Conv2d(channels, wide, 1) if expansion > 1 else None
        self.depthwise = _same_conv(wide, wide, stride, groups=wide)
        self.project = nn.Conv2d(wide, out_channels, 1)
        self.adds = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds else y


class Head(nn.Module):
    """A separable convolution, ReLU, and a 1x1 convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, HEAD_WIDTH, 1)
        self.last = nn.Conv2d(HEAD_WIDTH, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.pointwise(self.depthwise(x))))

    def at(self, around: Tensor) -> Tensor:
        """[N, M, C]: the same at M places, around [N, M, 9, channels] which the map has this."""
        kernel = self.depthwise.weight.flatten(1).T  # [9, channels]
        x = (around * kernel).sum(2)
        x = F.relu(F.linear(x, self.pointwise.weight[..., 0, 0], self.pointwise.bias))
        return F.linear(x, self.last.weight[..., 0, 0], self.last.bias)


class Multipose(nn.Module):
    """RGB [N, 3, H, W] in -1..1, H and W multiples of 32 -> features and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _same_conv(3, STEM_CHANNELS, 2)
        self.blocks = nn.ModuleList()
        channels = STEM_CHANNELS
        for index, (out_channels, stride) in enumerate(BLOCKS):
            expansion = EXPANSION if index else 1
            self.blocks.append(InvertedResidual(channels, out_channels, stride, expansion))
            channels = out_channels
        self.last = nn.Conv2d(channels, LAST_CHANNELS, 1)
        self.top = nn.Conv2d(LAST_CHANNELS, PYRAMID[0][0], 1)
        taps = (PYRAMID_TAP16, TAPS[8], TAPS[4])
        self.laterals = nn.ModuleList(
            nn.Conv2d(BLOCKS[tap][0], width, 1)
            for tap, (width, _) in zip(taps, PYRAMID, strict=True)
        )
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for width, _ in PYRAMID
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(width, out, 1) for width, out in PYRAMID)
        out = PYRAMID[-1][1]
        self.centres = Head(out, 1)
        self.boxes = Head(out, 2)
        self.offsets = Head(out, 2)
        self.keypoints = Head(out, KEYPOINTS)
        self.ways = Head(out, 2 * KEYPOINTS)

    def forward(self, image: Tensor) -> tuple[Features, Heads]:
        features = self.features(image)
        return features, self.heads(features.pyramid)

    def features(self, image: Tensor) -> Features:
        x = F.relu6(self.stem(image))
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        up = self.top(F.relu6(self.last(x)))
        taps = (maps[PYRAMID_TAP16], maps[TAPS[8]], maps[TAPS[4]])
        for tap, lateral, depthwise, pointwise in zip(
            taps, self.laterals, self.depthwise, self.pointwise, strict=True
        ):
            up = F.interpolate(up, scale_factor=2.0, mode="bilinear", align_corners=False)
            up = F.relu(pointwise(depthwise(up + lateral(tap))))
        return Features(*(maps[tap] for tap in TAPS.values()), up)

    def heads(self, pyramid: Tensor) -> Heads:
        return Heads(
            self.centres(pyramid),
            self.boxes(pyramid),
            self.offsets(pyramid),
            self.keypoints(pyramid),
            self.ways(pyramid),
        )

    def people_maps(self, pyramid: Tensor) -> PeopleMaps:
        """As `heads`; most of what these say is asked of a few cells, and computed for them."""
        padded = F.pad(pyramid, (1, 1, 1, 1))
        width = pyramid.shape[3]

        def at(cells: Tensor) -> PersonHeads:
            corners = torch.div(cells, width, rounding_mode="floor") * 2 + cells
            near = torch.arange(9, device=cells.device)
            square = corners[..., None] + near // 3 * (width + 2) + near % 3  # [N, M, 9]
            around = at_cells(padded, square.flatten(1))
            around = around.reshape(*square.shape, around.shape[2])
            return PersonHeads(*(head.at(around) for head in (self.boxes, self.offsets, self.ways)))

        return PeopleMaps(self.centres(pyramid), self.keypoints(pyramid), at)

    def convolutions(self) -> list[nn.Conv2d]:
        """All convolutions in the order of the published graph."""
        found: list[nn.Conv2d] = [self.stem]
        for block in self.blocks:
            expand = [] if block.expand is None else [block.expand]
            found += [*expand, block.depthwise, block.project]
        found += [self.last, self.top]
        for level in zip(self.laterals, self.depthwise, self.pointwise, strict=True):
            found += level
        for head in (self.centres, self.boxes, self.offsets, self.keypoints, self.ways):
            found += [head.depthwise, head.pointwise, head.last]
        return found


def multipose_graph(data: Path) -> Path:
    """Where the published graph is in the folder of all data."""
    return data / "teachers" / "movenet-multipose-heads.onnx"


def load_multipose(network: Multipose, path: Path) -> None:
    """Copy the weights of the ONNX graph at `path` into `network`.

    Raises ValueError where the graph's convolutions are not those of `network`.
    """
    theirs = convolutions(path)
    ours = network.convolutions()
    if len(theirs) != len(ours):
        raise ValueError(f"{path} has {len(theirs)} convolutions, not {len(ours)}")
    with torch.no_grad():
        for (name, tensors), conv in zip(theirs.items(), ours, strict=True):
            tensors[0] = _as_padded(tensors[0], conv)
            parameters = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
            if [tensor.shape for tensor in tensors] != [tuple(p.shape) for p in parameters]:
                raise ValueError(f"{path}: {name} has another shape")
            for parameter, tensor in zip(parameters, tensors, strict=True):
                parameter.copy_(torch.from_numpy(tensor))


def _same_conv(channels: int, out_channels: int, stride: int, groups: int = 1) -> nn.Conv2d:
    """A convolution of 3 x 3 that TensorFlow pads as SAME.

    With stride 2 it pads even sides on the right and below only. A convolution of 4 x 4 whose first
    row and column are 0 does the same padded alike on all sides, and needs no padded copy of a map.
    """
    return nn.Conv2d(channels, out_channels, 3 if stride == 1 else 4, stride, 1, groups=groups)


def _as_padded(kernel: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """A published kernel as `_same_conv` has it."""
    missing = [
        (0, 0),
        (0, 0),
        *(
            (ours - theirs, 0)
            for ours, theirs in zip(conv.kernel_size, kernel.shape[2:], strict=True)
        ),
    ]
    return np.pad(kernel, missing)
