"""The network: a MobileNetV1 backbone, a small feature-pyramid head, and a branch for people."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.backbone import BLOCK_CHANNELS, TAPS, MobileNetV1
from m2fp_train.classes import NUM_CLASSES
from m2fp_train.geometry import STRIDE
from m2fp_train.onnx_weights import assign_convolution, layers, make_idle
from m2fp_train.persons import (
    CENTRE_STRIDE,
    FEATURES,
    KERNEL,
    at_cells,
    person_masks,
    pixel_positions,
)

WIDTH = 128
WIDTH4 = 96
"""Channels at stride 4."""
CONTEXT_DILATIONS = (1, 2, 4, 8)
FIRST_CENTRE_SCORE = 0.01
"""Probability of a centre before anything is learned: nearly every place has none."""


class SeparableConv(nn.Module):
    """Depthwise then pointwise convolution, each normalised, with one ReLU at the end."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int = 3, dilation: int = 1
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels,
            channels,
            kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        self.depthwise_norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise_norm(self.depthwise(x))
        return F.relu(self.pointwise_norm(self.pointwise(x)))


def projection(channels: int, out_channels: int) -> nn.Sequential:
    """A 1x1 convolution, normalised, with ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class SeenPeople(NamedTuple):
    """People in N images of H x W pixels, by their centres.

    centres: [N, 1, H/8, W/8], logits of a person's centre being there.
    looks: [N, WIDTH, H/8, W/8], what is made into the kernel that draws that person.
    features: [N, FEATURES, H/4, W/4], what it is drawn from (`persons.person_masks`).
    """

    centres: Tensor
    looks: Tensor
    features: Tensor


class Answer(NamedTuple):
    """What the network says of N images of H x W pixels.

    logits: [N, 21, H/4, W/4]. 0..19 are the parts, to be read by a softmax; 20 is anybody, by a
        sigmoid: it teaches the features, and is not exported.
    """

    logits: Tensor
    people: SeenPeople


class Maps(NamedTuple):
    """Feature maps by stride; the parts are read off that of 4. deepest: the backbone's, of 16."""

    stride16: Tensor
    stride8: Tensor
    stride4: Tensor
    deepest: Tensor


class PartNetwork(nn.Module):
    """Normalised RGB [N, 3, H, W], H and W multiples of 16 -> `Maps`, and the parts' logits."""

    def __init__(self) -> None:
        super().__init__()
        stride4, stride8, stride16 = (BLOCK_CHANNELS[block] for block in TAPS.values())
        self.backbone = MobileNetV1()
        self.reduce = projection(stride16, WIDTH)
        self.context = nn.ModuleList(
            SeparableConv(WIDTH, WIDTH, dilation=dilation) for dilation in CONTEXT_DILATIONS
        )
        self.scene = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU())
        self.fuse = projection(WIDTH * (2 + len(CONTEXT_DILATIONS)), WIDTH)
        self.lateral8 = projection(stride8, 64)
        self.refine8 = nn.Sequential(
            SeparableConv(WIDTH + 64, WIDTH, kernel=5), SeparableConv(WIDTH, WIDTH, kernel=5)
        )
        self.lateral4 = projection(stride4, 48)
        self.refine4 = nn.Sequential(
            SeparableConv(WIDTH + 48, WIDTH4, kernel=5), SeparableConv(WIDTH4, WIDTH4, kernel=5)
        )
        self.classifier = nn.Conv2d(WIDTH4, NUM_CLASSES, 1)

    def maps(self, image: Tensor) -> Maps:
        features4, features8, features16 = self.backbone(image)
        x = self.reduce(features16)
        scene = self.scene(x.mean((2, 3), keepdim=True)).expand_as(x)
        x16 = self.fuse(torch.cat([x, scene, *(branch(x) for branch in self.context)], 1))
        x8 = self.refine8(torch.cat([double(x16), self.lateral8(features8)], 1))
        x4 = self.refine4(torch.cat([double(x8), self.lateral4(features4)], 1))
        return Maps(x16, x8, x4, features16)


class NanoParser(PartNetwork):
    """Normalised RGB [N, 3, H, W], H and W multiples of 16 -> `Answer`."""

    def __init__(self) -> None:
        super().__init__()
        self.people = nn.Sequential(
            SeparableConv(WIDTH, WIDTH, kernel=5), SeparableConv(WIDTH, WIDTH, kernel=5)
        )
        self.centres = nn.Conv2d(WIDTH, 1, 1)
        nn.init.constant_(self.centres.bias, math.log(FIRST_CENTRE_SCORE))
        self.kernels = nn.Conv2d(WIDTH, KERNEL, 1)
        self.features = nn.Sequential(
            SeparableConv(WIDTH4, 48, kernel=5), nn.Conv2d(48, FEATURES, 1)
        )

    def forward(self, image: Tensor) -> Answer:
        maps = self.maps(image)
        return Answer(self.classifier(maps.stride4), self.seen_people(maps))

    def seen_people(self, maps: Maps) -> SeenPeople:
        looks = self.people(maps.stride8)
        return SeenPeople(self.centres(looks), looks, self.features(maps.stride4))

    def masks_at(self, people: SeenPeople, cells: Tensor) -> Tensor:
        """Mask logits [N, M, H/4, W/4] of the people whose centres are at cells int64 [N, M]."""
        looks = at_cells(people.looks, cells).transpose(1, 2)
        kernels = self.kernels(looks[..., None])[..., 0].transpose(1, 2)
        places = at_cells(pixel_positions(people.centres, CENTRE_STRIDE), cells)
        return person_masks(people.features, kernels, places, STRIDE)


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def load_parts(network: PartNetwork, path: Path) -> None:
    """Copy the weights of an exported graph of `nano`, or one that it is a part of, into `network`.

    The graph's convolutions have taken their normalisations in, which become idle here: `network`
    is to be used in evaluation mode. Raises ValueError where the graph lacks a convolution, or has
    another of its name.
    """
    found = layers(path)
    modules = dict(network.named_modules())
    make_idle(modules.values())
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d):
            if name not in found:
                raise ValueError(f"{path} has no convolution {name}")
            assign_convolution(modules, name, found[name][0])
