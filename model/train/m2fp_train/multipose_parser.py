"""The parser on multipose: its people are kept, parts and masks are hung on its features."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.classes import NUM_CLASSES
from m2fp_train.multipose import BLOCKS, MULTIPOSE_STRIDE, PYRAMID, TAPS, Heads, Multipose
from m2fp_train.network import CONTEXT_DILATIONS, WIDTH, SeparableConv, projection
from m2fp_train.persons import FEATURES, KERNEL, at_cells, person_masks, pixel_positions

PEOPLE_STRIDE = 8
"""Photo pixels per place of the map that says what people look like."""
KERNEL_WIDTH = 192
SMALLEST_SIDE = 8.0
"""Pixels; least height and width of a box that a mask is drawn by."""
OUTSIDE = 1.2
"""Half sides of its box from a person's centre, from where on a pixel is less and less its own."""
MOST_OUTSIDE = 1.5
OUTSIDE_WEIGHT = 6.0
"""What a pixel's logit loses for each half side beyond `OUTSIDE`, as far as `MOST_OUTSIDE`: people
are told apart by their boxes from the first step."""


class PersonBoxes(NamedTuple):
    """Boxes of M people in each of N images, in pixels: centre x and y, width and height, each
    [N, M, 2]."""

    centres: Tensor
    sizes: Tensor


class MultiposeAnswer(NamedTuple):
    """What the network says of N images of H x W pixels.

    logits: [N, 21, H/4, W/4]. 0..19 are the parts, to be read by a softmax; 20 is anybody, by a
        sigmoid: it teaches the features, and is not exported.
    heads: multipose's, at stride 4.
    people: [N, WIDTH, H/8, W/8] and pyramid: [N, C, H/4, W/4], what a person's kernel is made of.
    features: [N, FEATURES, H/4, W/4], what masks are drawn from.
    """

    logits: Tensor
    heads: Heads
    people: Tensor
    pyramid: Tensor
    features: Tensor


class MultiposeParser(nn.Module):
    """RGB [N, 3, H, W] in -1..1, H and W multiples of 32 -> `MultiposeAnswer`."""

    def __init__(self) -> None:
        super().__init__()
        stride4, stride8, stride16, stride32 = (BLOCKS[block][0] for block in TAPS.values())
        pyramid = PYRAMID[-1][1]
        self.multipose = Multipose()
        self.reduce32 = projection(stride32, WIDTH)
        self.reduce16 = projection(stride16, WIDTH)
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
            SeparableConv(WIDTH + 48 + pyramid, 96, kernel=5), SeparableConv(96, 96, kernel=5)
        )
        self.classifier = nn.Conv2d(96, NUM_CLASSES, 1)
        self.people = SeparableConv(WIDTH, WIDTH, kernel=5)
        self.kernel = nn.Sequential(
            nn.Linear(WIDTH + pyramid + 2, KERNEL_WIDTH), nn.ReLU(), nn.Linear(KERNEL_WIDTH, KERNEL)
        )
        self.features = nn.Sequential(SeparableConv(96, 48, kernel=5), nn.Conv2d(48, FEATURES, 1))

    def forward(self, image: Tensor) -> MultiposeAnswer:
        seen, heads = self.multipose(image)
        x = self.reduce16(seen.stride16) + _double(self.reduce32(seen.stride32))
        scene = self.scene(x.mean((2, 3), keepdim=True)).expand_as(x)
        x = self.fuse(torch.cat([x, scene, *(branch(x) for branch in self.context)], 1))
        x = self.refine8(torch.cat([_double(x), self.lateral8(seen.stride8)], 1))
        people = self.people(x)
        x = self.refine4(torch.cat([_double(x), self.lateral4(seen.stride4), seen.pyramid], 1))
        return MultiposeAnswer(self.classifier(x), heads, people, seen.pyramid, self.features(x))

    def masks(self, answer: MultiposeAnswer, cells: Tensor) -> tuple[Tensor, PersonBoxes]:
        """Mask logits [N, M, H/4, W/4] and boxes of the people at stride-4 cells int64 [N, M]."""
        places, boxes = person_boxes(answer.heads, cells)
        near = torch.div(places, PEOPLE_STRIDE, rounding_mode="floor").long()
        near = near[..., 1] * answer.people.shape[3] + near[..., 0]
        looks = [at_cells(answer.people, near), at_cells(answer.pyramid, cells), boxes.sizes.log()]
        kernels = self.kernel(torch.cat(looks, 2))
        masks = person_masks(
            answer.features, kernels, boxes.centres, MULTIPOSE_STRIDE, boxes.sizes / 2
        )
        return masks - outside(answer.features, boxes), boxes


def person_boxes(heads: Heads, cells: Tensor) -> tuple[Tensor, PersonBoxes]:
    """The middles of cells int64 [N, M] in pixels [N, M, 2], and the boxes of the people there."""
    places = at_cells(pixel_positions(heads.centres, MULTIPOSE_STRIDE), cells)
    offsets = at_cells(heads.offsets, cells).flip(2)
    sizes = at_cells(heads.boxes, cells).flip(2) * MULTIPOSE_STRIDE
    centres = places + (offsets - 0.5) * MULTIPOSE_STRIDE
    return places, PersonBoxes(centres, sizes.clamp(min=SMALLEST_SIDE))


def outside(like: Tensor, boxes: PersonBoxes) -> Tensor:
    """What [N, M, h, w] mask logits lose outside the people's boxes."""
    x, y = pixel_positions(like, MULTIPOSE_STRIDE).split(1, 1)
    lost = []
    for axis, positions in enumerate((x[:, :, :1], y[:, :, :, :1])):
        centre, half = boxes.centres[..., axis], boxes.sizes[..., axis] / 2
        way = (positions - centre[..., None, None]).abs() / half[..., None, None]
        lost.append((way - OUTSIDE).clamp(0, MOST_OUTSIDE))
    return OUTSIDE_WEIGHT * (lost[0] + lost[1])


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
