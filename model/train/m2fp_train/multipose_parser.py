"""The parser of two parts: multipose's people, nano's garments, and what is learned on top."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.classes import NUM_CLASSES, NUM_PARTS
from m2fp_train.multipose import BLOCKS, MULTIPOSE_STRIDE, PYRAMID, TAPS, Heads, Multipose
from m2fp_train.network import (
    CONTEXT_DILATIONS,
    WIDTH,
    WIDTH4,
    PartNetwork,
    SeparableConv,
    double,
    projection,
)
from m2fp_train.persons import FEATURES, KERNEL, at_cells, person_masks, pixel_positions

PEOPLE_STRIDE = 8
"""Photo pixels per place of the map that says what people look like."""
KERNEL_WIDTH = 192
FINE_WIDTH = 80
"""Channels at stride 4."""
REGION_WIDTH = 64
SMALLEST_SIDE = 8.0
"""Pixels; least height and width of a box that a mask is drawn by."""
OUTSIDE = 1.2
"""Half sides of its box from a person's centre, from where on a pixel is less and less its own."""
MOST_OUTSIDE = 1.5
OUTSIDE_WEIGHT = 6.0
"""What a pixel's logit loses for each half side beyond `OUTSIDE`, as far as `MOST_OUTSIDE`: people
are told apart by their boxes from the first step."""


PEAK_WINDOW = 5
"""Side of the square of cells of which a person's centre scores best."""
CLIMBS = 3
"""Steps of at most half a window from where a person's centre should be to where multipose sees
it."""


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


class Regions(nn.Module):
    """What every pixel takes over from the parts of the whole picture.

    After OCR (Yuan, Chen, Wang, "Object-Contextual Representations", ECCV 2020): each part is
    described by the features where it is likeliest, and a pixel looks at the parts like itself, so
    that one garment's pixels see the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, REGION_WIDTH, 1)
        self.key = nn.Linear(channels, REGION_WIDTH)
        self.value = nn.Linear(channels, channels)

    def forward(self, x: Tensor, parts: Tensor) -> Tensor:
        """x: [N, C, h, w]; parts: logits [N, 20, h, w]."""
        regions = parts.flatten(2).softmax(2) @ x.flatten(2).transpose(1, 2)
        likeness = self.key(regions) @ self.query(x).flatten(2) / REGION_WIDTH**0.5
        seen = self.value(regions).transpose(1, 2) @ likeness.softmax(1)
        return F.relu(seen.reshape(x.shape))


class MultiposeParser(nn.Module):
    """RGB [N, 3, H, W] in -1..1, H and W multiples of 32 -> `MultiposeAnswer`.

    Two networks that are there already look at the image and stay as they are: multipose, which
    knows people in ordinary photos, and the parts of `nano`, which knows garments. What is trained
    draws people's masks, and corrects the logits of the parts: by nothing at first.
    """

    def __init__(self) -> None:
        super().__init__()
        stride4, stride8, stride16, stride32 = (BLOCKS[block][0] for block in TAPS.values())
        pyramid = PYRAMID[-1][1]
        self.multipose = Multipose().requires_grad_(False)
        self.nano = PartNetwork().requires_grad_(False)
        self.reduce32 = projection(stride32, WIDTH)
        self.reduce16 = projection(stride16 + WIDTH, WIDTH)
        self.regions = Regions(WIDTH)
        self.context = nn.ModuleList(
            SeparableConv(WIDTH, WIDTH, dilation=dilation) for dilation in CONTEXT_DILATIONS
        )
        self.scene = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU())
        self.fuse = projection(WIDTH * (3 + len(CONTEXT_DILATIONS)), WIDTH)
        self.lateral8 = projection(stride8 + WIDTH, 64)
        self.refine8 = nn.Sequential(
            SeparableConv(WIDTH + 64, WIDTH, kernel=5), SeparableConv(WIDTH, FINE_WIDTH, kernel=5)
        )
        self.lateral4 = projection(stride4 + pyramid + WIDTH4, FINE_WIDTH)
        self.refine4 = SeparableConv(FINE_WIDTH, FINE_WIDTH, kernel=5)
        self.correction = nn.Conv2d(FINE_WIDTH, NUM_CLASSES, 1)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.people = SeparableConv(FINE_WIDTH, WIDTH, kernel=5)
        self.kernel = nn.Sequential(
            nn.Linear(WIDTH + pyramid + 2, KERNEL_WIDTH), nn.ReLU(), nn.Linear(KERNEL_WIDTH, KERNEL)
        )
        self.features = nn.Conv2d(FINE_WIDTH, FEATURES, 1)

    def train(self, mode: bool = True) -> "MultiposeParser":
        """As usual; the networks that stay as they are do not train."""
        super().train(mode)
        self.multipose.eval()
        self.nano.eval()
        return self

    def forward(self, image: Tensor) -> MultiposeAnswer:
        # In training halves do, in half of the time where a processor has them.
        halves = torch.autocast(image.device.type, torch.bfloat16, enabled=self.training)
        with torch.no_grad(), halves:
            seen, heads = self.multipose(image)
            known = self.nano.maps(image)
            logits = self.nano.classifier(known.stride4)
        if self.training:
            seen, heads, known = (type(maps)(*(m.float() for m in maps)) for maps in (seen, heads, known))
            logits = logits.float()
        parts16 = F.avg_pool2d(logits[:, :NUM_PARTS], 4)
        x = self.reduce16(torch.cat([seen.stride16, known.stride16], 1))
        x = x + double(self.reduce32(seen.stride32))
        scene = self.scene(x.mean((2, 3), keepdim=True)).expand_as(x)
        wide = [scene, self.regions(x, parts16), *(branch(x) for branch in self.context)]
        x = self.fuse(torch.cat([x, *wide], 1))
        near = self.lateral8(torch.cat([seen.stride8, known.stride8], 1))
        x = self.refine8(torch.cat([double(x), near], 1))
        people = self.people(x)
        near = self.lateral4(torch.cat([seen.stride4, seen.pyramid, known.stride4], 1))
        x = self.refine4(double(x) + near)
        logits = logits + self.correction(x)
        return MultiposeAnswer(logits, heads, people, seen.pyramid, self.features(x))

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


def climbed(centres: Tensor, cells: Tensor) -> Tensor:
    """The cells int64 [N, M] of the centres' peaks [N, 1, h, w] to which one comes from `cells`."""
    _, best = F.max_pool2d(
        centres, PEAK_WINDOW, stride=1, padding=PEAK_WINDOW // 2, return_indices=True
    )
    for _ in range(CLIMBS):
        cells = best.flatten(1).gather(1, cells)
    return cells


def overlap(found: PersonBoxes, boxes: Tensor) -> Tensor:
    """Intersection over union [N, M] of people's boxes with others.

    boxes: [N, M, 4], centre x and y, width and height in pixels.
    """
    centres, sizes = boxes.split(2, 2)
    top = torch.minimum(found.centres + found.sizes / 2, centres + sizes / 2)
    low = torch.maximum(found.centres - found.sizes / 2, centres - sizes / 2)
    common = (top - low).clamp(min=0).prod(2)
    return common / (found.sizes.prod(2) + sizes.prod(2) - common)


def outside(like: Tensor, boxes: PersonBoxes) -> Tensor:
    """What [N, M, h, w] mask logits lose outside the people's boxes."""
    x, y = pixel_positions(like, MULTIPOSE_STRIDE).split(1, 1)
    lost = []
    for axis, positions in enumerate((x[:, :, :1], y[:, :, :, :1])):
        centre, half = boxes.centres[..., axis], boxes.sizes[..., axis] / 2
        way = (positions - centre[..., None, None]).abs() / half[..., None, None]
        lost.append((way - OUTSIDE).clamp(0, MOST_OUTSIDE))
    return OUTSIDE_WEIGHT * (lost[0] + lost[1])
