"""The parser of three parts: multipose's people, nano's garments, BodyPix's anybody, and what is
learned on top."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.backbone import BLOCK_CHANNELS, BodyPix
from m2fp_train.classes import NUM_CLASSES, NUM_PARTS
from m2fp_train.garment_classifier import GarmentClassifier, Usual
from m2fp_train.multipose import (
    BLOCKS,
    KEYPOINTS,
    MULTIPOSE_DIVISOR,
    MULTIPOSE_STRIDE,
    PYRAMID,
    TAPS,
    Features,
    Heads,
    Multipose,
    PeopleMaps,
)
from m2fp_train.network import (
    CONTEXT_DILATIONS,
    WIDTH,
    WIDTH4,
    Maps,
    NanoParser,
    SeenPeople,
    SeparableConv,
    double,
    projection,
)
from m2fp_train.onnx_weights import assign_convolution, biases, layers, make_idle
from m2fp_train.persons import FEATURES, KERNEL, at_cells, person_masks, pixel_positions
from m2fp_train.queries import PERSON_QUERIES, pad_to, peaks

PEOPLE_STRIDE = 8
"""Photo pixels per place of the map that says what people look like."""
KERNEL_WIDTH = 192
FINE_WIDTH = 80
"""Channels at stride 4."""
REGION_WIDTH = 64
SMALLEST_SIDE = 8.0
"""Pixels; least height and width of a box that a mask is drawn by."""
BOX_EDGE = 8.0
"""How steeply a pixel leaves a box: at 1.2 half sides it is in it by a sixth."""
OUTSIDE = 1.2
"""Half sides of its box from a person's centre, from where on a pixel is less and less its own."""
MOST_OUTSIDE = 1.5
OUTSIDE_WEIGHT = 6.0
"""What a pixel's logit loses for each half side beyond `OUTSIDE`, as far as `MOST_OUTSIDE`: people
are told apart by their boxes from the first step."""


SUREST = 8.0
"""Logit of anybody, by BodyPix, that counts as 1, and its most."""
PEAK_WINDOW = 5
"""Side of the square of cells of which a person's centre scores best."""
FAINTEST_CENTRE = math.log(0.02 / 0.98)
"""Logit of a centre under which a peak is nobody's."""
KEYPOINT_WINDOW = 5
"""Cells around where a centre thinks a keypoint is, of which the likeliest counts."""
LEAST_KEYPOINT = 0.127
"""Probability from which a keypoint counts; what the published model uses."""
LEAST_FACTOR = 1e-4
"""Floor of what the keypoints leave of a centre's probability."""
LARGEST_NEAR, SMALLEST_FAR = 160.0, 80.0
"""Side in pixels of a square as large as a box, from where on the view of the whole image, or of
its half, is not asked."""
UNLIKELY = 1e-6
"""What is left of the chance of a person that is not asked for, or there already."""
DUPLICATE = 0.5
"""Overlap of two boxes from which on they are one person's."""


class PersonBoxes(NamedTuple):
    """Boxes of M people in each of N images, in pixels: centre x and y, width and height, each
    [N, M, 2]."""

    centres: Tensor
    sizes: Tensor


class View(NamedTuple):
    """What multipose sees of N images. stride: pixels of the image per cell of the heads.

    pyramid: [N, C, h, w], what the heads look at.
    """

    heads: Heads | PeopleMaps
    pyramid: Tensor
    stride: int


class FoundPeople(NamedTuple):
    """M people in each of N images.

    chances: [N, M]. places: [N, M, 2], x and y in pixels of where they were seen. looks: [N, M, C],
    the pyramid there.
    """

    chances: Tensor
    places: Tensor
    looks: Tensor
    boxes: PersonBoxes

    def best(self, count: int) -> "FoundPeople":
        """The `count` likeliest, those last that overlap a likelier one."""
        common = overlaps(self.boxes, self.boxes)
        likelier = self.chances[:, None] > self.chances[:, :, None]
        again = ((common > DUPLICATE) & likelier).any(2)
        chances, order = self.chances.where(~again, self.chances * UNLIKELY).topk(count)

        def ordered(values: Tensor) -> Tensor:
            return values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))

        boxes = PersonBoxes(*map(ordered, self.boxes))
        return FoundPeople(chances, ordered(self.places), ordered(self.looks), boxes)


class MultiposeAnswer(NamedTuple):
    """What the network says of N images of H x W pixels.

    logits: [N, 21, H/4, W/4]. 0..19 are the parts, to be read by a softmax; 20 is anybody, by a
        sigmoid.
    before: [N, 20, H/4, W/4], the logits of the parts as nano has them, not corrected.
    bodypix: [N, 1, H/8, W/8], logits of anybody by BodyPix.
    looks: [N, LOOKS, H/16, W/16], what all three say of a place, for the garment classifier.
    found: the people that multipose finds.
    people: [N, WIDTH, H/8, W/8], what a person's kernel is made of.
    features: [N, FEATURES, H/4, W/4], what masks are drawn from.
    by_centre: the people that nano sees.
    """

    logits: Tensor
    before: Tensor
    bodypix: Tensor
    looks: Tensor
    found: FoundPeople
    people: Tensor
    features: Tensor
    by_centre: SeenPeople


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

    Three networks that are there already look at the image and stay as they are: multipose, which
    knows people in ordinary photos, `nano`, which knows garments, and people in streets, and
    BodyPix, which knows in half of the image whether somebody is there, close to the camera, too.
    What is trained draws people's masks, and corrects the logits of the parts: by nothing at first.

    goes_on: whether the learned part was read out of a graph, into whose convolutions the
    normalisations were taken: these are idle then, in training, too.
    """

    def __init__(self, goes_on: bool = False) -> None:
        super().__init__()
        self.goes_on = goes_on
        stride4, stride8, stride16, stride32 = (BLOCKS[block][0] for block in TAPS.values())
        pyramid = PYRAMID[-1][1]
        self.multipose = Multipose().requires_grad_(False)
        self.nano = NanoParser().requires_grad_(False)
        self.bodypix = BodyPix().requires_grad_(False)
        self.reduce32 = projection(stride32 + BLOCK_CHANNELS[-1], WIDTH)
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
        self.garment_classifier = GarmentClassifier().requires_grad_(False)
        self.inside = nn.Conv2d(4, 64, 1)
        nn.init.zeros_(self.inside.weight)
        nn.init.zeros_(self.inside.bias)

    def train(self, mode: bool = True) -> "MultiposeParser":
        """As usual; the networks that stay as they are do not train."""
        super().train(mode)
        still = [self.multipose, self.nano, self.bodypix]
        if self.goes_on:
            still += [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        for module in still:
            module.eval()
        return self

    def forward(self, image: Tensor) -> MultiposeAnswer:
        # In training halves do, in half of the time where a processor has them.
        halves = torch.autocast(image.device.type, torch.bfloat16, enabled=self.training)
        with torch.no_grad(), halves:
            seen = self.multipose.features(image)
            half = F.avg_pool2d(image, 2)
            far = self.multipose.features(pad_to(half, MULTIPOSE_DIVISOR))
            known = self.nano.maps(image)
            logits = self.nano.classifier(known.stride4)
            by_centre = self.nano.seen_people(known)
            # Cells lie around the borders of those of the other maps: each of these is a mean.
            anybody, people32 = (
                F.avg_pool2d(cells, 2, 1) for cells in self.bodypix(F.pad(half, (0, 1, 0, 1)))
            )
        seen, known = Features(*_floats(seen)), Maps(*_floats(known))
        with torch.no_grad():
            views = tuple(
                View(self.multipose.people_maps(pyramid), pyramid, stride)
                for pyramid, stride in (
                    (seen.pyramid, MULTIPOSE_STRIDE),
                    (far.pyramid.float(), 2 * MULTIPOSE_STRIDE),
                )
            )
        logits, anybody, people32 = _floats((logits, anybody, people32))
        before = logits[:, :NUM_PARTS]
        deep = (F.interpolate(of, scale_factor=2.0) for of in (seen.stride32, people32))
        looks = torch.cat([known.stride16, known.deepest, seen.stride16, *deep], 1)
        parts16 = F.avg_pool2d(before, 4)
        x = self.reduce16(torch.cat([seen.stride16, known.stride16], 1))
        x = x + double(self.reduce32(torch.cat([seen.stride32, people32], 1)))
        scene = self.scene(x.mean((2, 3), keepdim=True)).expand_as(x)
        wide = [scene, self.regions(x, parts16), *(branch(x) for branch in self.context)]
        x = self.fuse(torch.cat([x, *wide], 1))
        near = self.lateral8(torch.cat([seen.stride8, known.stride8], 1))
        found = find_people(views).best(PERSON_QUERIES)
        anybody = double(double(anybody.clamp(-SUREST, SUREST)))
        near = near + self.inside(torch.cat([box_maps(near, found), anybody / SUREST], 1))
        x = self.refine8(torch.cat([double(x), near], 1))
        people = self.people(x)
        near = self.lateral4(torch.cat([seen.stride4, seen.pyramid, known.stride4], 1))
        x = self.refine4(double(x) + near)
        logits = logits + self.correction(x)
        features = self.features(x)
        return MultiposeAnswer(logits, before, anybody, looks, found, people, features, by_centre)

    def masks(self, answer: MultiposeAnswer) -> Tensor:
        """Mask logits [N, 24, H/4, W/4] of the people found."""
        found = answer.found
        near = torch.div(found.places, PEOPLE_STRIDE, rounding_mode="floor").long()
        # A tensor, and no side of a tensor: a graph is traced at one size, and serves all.
        last = pixel_positions(answer.people, PEOPLE_STRIDE).flatten(2)[:, None, :, -1]
        near = torch.minimum(near, torch.div(last, PEOPLE_STRIDE, rounding_mode="floor").long())
        cells = near[..., 1] * answer.people.shape[3] + near[..., 0]
        looks = [at_cells(answer.people, cells), found.looks, found.boxes.sizes.log()]
        kernels = self.kernel(torch.cat(looks, 2))
        masks = person_masks(
            answer.features, kernels, found.boxes.centres, MULTIPOSE_STRIDE, found.boxes.sizes / 2
        )
        return masks - outside(answer.features, found.boxes)


def load_learned(network: MultiposeParser, path: Path) -> None:
    """Copy the learned part of an exported graph into `network`, whose normalisations become idle.

    A graph of before BodyPix took part will do, and one without a garment classifier, or with one
    that is told other things: what they add is ignored at first. Raises ValueError where the graph
    lacks a layer.
    """
    found, linear_biases = layers(path), biases(path)
    hidden = "garment_classifier.hidden"
    told = network.get_submodule(hidden).weight.shape
    knows_garments = hidden in found and found[hidden][-1][0].shape == told
    modules = {
        name: module
        for name, module in network.named_modules()
        if not name.startswith(tuple(f"{still}." for still in ("multipose", "nano", "bodypix")))
    }
    make_idle(modules.values())
    for name, module in modules.items():
        if not isinstance(module, nn.Conv2d | nn.Linear | Usual):
            continue
        if name.startswith("garment_classifier.") and not knows_garments:
            continue
        if isinstance(module, Usual):
            with torch.no_grad():
                module.bias.copy_(torch.from_numpy(linear_biases[name]))
            continue
        if name not in found:
            raise ValueError(f"{path} has no layer {name}")
        # nano's layers, of which some have the same names, come first in the graph.
        tensors = found[name][-1]
        if isinstance(module, nn.Conv2d):
            assign_convolution(modules, name, tensors, may_have_grown=True)
        else:
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(tensors[0]))
                module.bias.copy_(torch.from_numpy(linear_biases[name]))


def _floats(maps: Iterable[Tensor]) -> Iterator[Tensor]:
    return (tensor.float() for tensor in maps)


def find_people(views: tuple[View, View]) -> FoundPeople:
    """Multipose's people in the whole image and in half of it: in each it is blind to the other's
    sizes.

    A person is as likely as its centre times the mean of its keypoints: without the keypoints a
    centre sees persons where nobody is, 53 in 67 photos, with them none.
    """
    near, far = (_find_in(view) for view in views)
    sides = [found.boxes.sizes.prod(2).sqrt() for found in (near, far)]
    # No two are ever equally likely: two runtimes need agree on their order.
    chances = [
        near.chances.where(sides[0] <= LARGEST_NEAR, near.chances * UNLIKELY),
        far.chances.where(sides[1] >= SMALLEST_FAR, far.chances * UNLIKELY) * 0.999,
    ]
    boxes = PersonBoxes(*(torch.cat(pair, 1) for pair in zip(near.boxes, far.boxes, strict=True)))
    return FoundPeople(
        torch.cat(chances, 1),
        torch.cat([near.places, far.places], 1),
        torch.cat([near.looks, far.looks], 1),
        boxes,
    )


def _find_in(view: View) -> FoundPeople:
    scores, cells = peaks(view.heads.centres, PEAK_WINDOW, FAINTEST_CENTRE, PERSON_QUERIES)
    places, boxes = person_boxes(view.heads, cells, view.stride)
    chances = scores.sigmoid() * keypoint_factor(view.heads, cells).clamp(min=LEAST_FACTOR)
    return FoundPeople(chances, places, at_cells(view.pyramid, cells), boxes)


def person_boxes(
    heads: Heads | PeopleMaps, cells: Tensor, stride: int = MULTIPOSE_STRIDE
) -> tuple[Tensor, PersonBoxes]:
    """The middles of cells int64 [N, M] in pixels [N, M, 2], and the boxes of the people there."""
    places = at_cells(pixel_positions(heads.centres, stride), cells)
    said = heads.at(cells)
    offsets = said.offsets.flip(2)
    sizes = said.boxes.flip(2) * stride
    centres = places + (offsets - 0.5) * stride
    return places, PersonBoxes(centres, sizes.clamp(min=SMALLEST_SIDE))


def keypoint_factor(heads: Heads | PeopleMaps, cells: Tensor) -> Tensor:
    """[N, M]: the mean probability of the keypoints of people at cells int64 [N, M].

    Of those above `LEAST_KEYPOINT`; 0 where there is none.
    """
    near = F.max_pool2d(heads.keypoints, KEYPOINT_WINDOW, stride=1, padding=KEYPOINT_WINDOW // 2)
    near = near.flatten(2).sigmoid()
    positions = pixel_positions(heads.centres, 1)
    x, y = at_cells(positions, cells)[:, :, None].split(1, 3)
    ways = heads.at(cells).ways.reshape(*cells.shape, KEYPOINTS, 2)
    last = positions.flatten(2)[:, None, None, :, -1]
    columns = torch.minimum(x[..., 0] + ways[..., 1], last[..., 0]).clamp(min=0).floor().long()
    rows = torch.minimum(y[..., 0] + ways[..., 0], last[..., 1]).clamp(min=0).floor().long()
    places = rows * heads.centres.shape[3] + columns
    found = near.gather(2, places.transpose(1, 2)).transpose(1, 2)
    counts = (found > LEAST_KEYPOINT).to(found)
    return (found * counts).sum(2) / counts.sum(2).clamp(min=1)


def overlaps(some: PersonBoxes, others: PersonBoxes) -> Tensor:
    """Intersection over union [N, M, K] of M boxes with K others."""
    corners = [
        (boxes.centres - boxes.sizes / 2, boxes.centres + boxes.sizes / 2)
        for boxes in (some, others)
    ]
    (low, high), (other_low, other_high) = corners
    sides = torch.minimum(high[:, :, None], other_high[:, None]) - torch.maximum(
        low[:, :, None], other_low[:, None]
    )
    common = sides.clamp(min=0).prod(3)
    return common / (some.sizes.prod(2)[:, :, None] + others.sizes.prod(2)[:, None] - common)


def box_maps(like: Tensor, found: FoundPeople) -> Tensor:
    """[N, 3, h, w] of a map at stride 8: how likely a pixel is in somebody's box, and where in it.

    Where: x and y from the box's centre in half sides, times how likely.
    """
    positions = pixel_positions(like, PEOPLE_STRIDE)[:, :, None]
    centres, halves = (pair.transpose(1, 2)[..., None, None] for pair in found.boxes)
    ways = (positions - centres) / (halves / 2)  # [N, 2, M, h, w]
    within = (BOX_EDGE * (1 - torch.maximum(*ways.abs().unbind(1)))).sigmoid()
    likely, which = (within * found.chances[..., None, None]).max(1, keepdim=True)
    own = ways.gather(2, which[:, None].expand(-1, 2, -1, -1, -1))[:, :, 0]
    return torch.cat([likely, own.clamp(-MOST_OUTSIDE, MOST_OUTSIDE) * likely], 1)


def outside(like: Tensor, boxes: PersonBoxes) -> Tensor:
    """What [N, M, h, w] mask logits lose outside the people's boxes."""
    x, y = pixel_positions(like, MULTIPOSE_STRIDE).split(1, 1)
    lost = []
    for axis, positions in enumerate((x[:, :, :1], y[:, :, :, :1])):
        centre, half = boxes.centres[..., axis], boxes.sizes[..., axis] / 2
        way = (positions - centre[..., None, None]).abs() / half[..., None, None]
        lost.append((way - OUTSIDE).clamp(0, MOST_OUTSIDE))
    return OUTSIDE_WEIGHT * (lost[0] + lost[1])
