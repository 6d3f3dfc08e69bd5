"""The graph that is exported: the network in M2FP's query form, from raw bytes to mask logits."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.classes import NUM_CLASSES, NUM_PARTS
from m2fp_train.geometry import STRIDE
from m2fp_train.network import Answer, NanoParser, SeenPeople
from m2fp_train.persons import LEAST_AREA, agreed_masks, log_odds, somebody_logit

PERSON_QUERIES = 24
"""The most people in one photo."""
NUM_QUERIES = NUM_PARTS + PERSON_QUERIES
NEVER = 20.0
"""The negative of the logit of a class that a query never has, and of a place that is no peak."""
FAINTEST = -4.0
"""Logit of a centre under which a peak is nobody's."""
MOST_FURTHER_AGREEMENT = 1.0
"""On photos that were not trained on, kernels know outlines less well than in training: there the
parts count once more. On the validation photos the person IoU gains 0.004 by it, and people are
told apart as before; from 2 on they are not."""
PEAK_WINDOW = 3
"""Side of the square of cells of which a person's centre scores best."""
SURE = (1e-8, 1 - 1e-6)
"""Least and greatest probability of a person, so that its logit is finite."""
OWN_CLASS_LOGIT = 8.0
"""Logit of a part query's own class; every other class, and "no object", has its negative."""
SUREST_PART = math.log(1e3)
"""The greatest mask logit of a part. Beyond it, what speaks against the part is the rounding of a
difference."""
LEAST_AGAINST = 1e-30
"""Odds, so that their log is finite."""


def normalise(image: Tensor) -> Tensor:
    """uint8 RGB -> float32 in -1..1, as BodyPix takes it."""
    return image.float() / 127.5 - 1.0


class QueryParser(nn.Module):
    """uint8 RGB [1, 3, H, W] of any size -> class logits [1, 44, 22], mask logits [1, 44, h, w].

    One fixed query per part, then one for each of the best places for a person's centre. h and w
    are H and W, padded to multiples of `divisor`, over `stride`. A part's mask logit is the
    logit of its softmax probability. A person's class logit is that of the centre's probability
    times the share of its mask that the parts call anything but background, scaled and shifted by
    `confidence`.
    """

    stride = STRIDE

    def __init__(self, network: NanoParser, divisor: int) -> None:
        super().__init__()
        self.network = network
        self.divisor = divisor
        own_class = torch.eye(NUM_PARTS, NUM_CLASSES + 1)
        self.register_buffer("part_classes", (2 * own_class - 1)[None] * OWN_CLASS_LOGIT)
        self.register_buffer("no_part", torch.full((1, PERSON_QUERIES, NUM_PARTS), -NEVER))
        self.register_buffer("no_object", torch.zeros(1, PERSON_QUERIES, 1))
        self.register_buffer("confidence", torch.tensor([1.0, 0.0]))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        answer = self.network(pad_to(normalise(image), self.divisor))
        parts = self._part_logits(answer)
        person_classes, masks = self._persons(answer, somebody_logit(parts))
        parts = parts - parts.amax(1, keepdim=True)
        odds = parts.exp()
        return self._queries(
            person_classes, softmax_logits(parts, odds, odds.sum(1, keepdim=True)), masks
        )

    def _queries(self, person_classes: Tensor, *masks: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([self.part_classes, person_classes], 1), torch.cat(masks, 1)

    def _part_logits(self, answer: Answer) -> Tensor:
        return answer.logits[:, :NUM_PARTS]

    def _persons(self, answer: Answer, somebody: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and masks of the best peaks among the centres.

        somebody: logit [1, h, w] that a pixel is no background.
        """
        chances, masks = people_by_centre(self.network, answer.people, PERSON_QUERIES)
        masks = agreed_twice(masks, somebody)
        return self._person_classes(scores(chances, masks, somebody, self.confidence)), masks

    def _person_classes(self, human: Tensor) -> Tensor:
        """Class logits [1, 24, 22] of people whose scores have logits [1, 24]."""
        return torch.cat([self.no_part, human[..., None], self.no_object], 2)


def softmax_logits(parts: Tensor, odds: Tensor, total: Tensor) -> Tensor:
    """log(p / (1 - p)), at most `SUREST_PART`, of p = `odds` / `total`, where `odds` are the
    exponentials of `parts`, and the greatest of these is near 0."""
    against = (total - odds).clamp(min=LEAST_AGAINST)
    return (parts - against.log()).clamp(max=SUREST_PART)


def scores(chances: Tensor, masks: Tensor, somebody: Tensor, confidence: Tensor) -> Tensor:
    """Logits [1, M] of the scores of M people who are there by chances of [1, M]: as far as the
    parts agree, by their logit `somebody` [1, h, w] that a pixel is no background.

    confidence: scale and shift [2] of the logits.
    """
    # Squared, so that the faint rest of a photo does not outweigh a small person; as a product, for
    # a power takes ONNX Runtime three times as long.
    weights = masks.flatten(2).sigmoid()
    weights = weights * weights
    area = weights.sum(2, keepdim=True).clamp(min=LEAST_AREA)
    agreed = weights @ somebody.sigmoid().flatten(1)[..., None] / area
    return log_odds(chances * agreed[..., 0], *SURE) * confidence[0] + confidence[1]


def agreed_twice(masks: Tensor, somebody: Tensor) -> Tensor:
    """Mask logits as they are exported: what `agreed_masks` adds in training, and once more."""
    return agreed_masks(agreed_masks(masks, somebody), somebody, MOST_FURTHER_AGREEMENT)


def people_by_centre(network: NanoParser, people: SeenPeople, count: int) -> tuple[Tensor, Tensor]:
    """Chances [N, count] and mask logits [N, count, h, w] of the people likeliest to be there."""
    logits, cells = peaks(people.centres, PEAK_WINDOW, FAINTEST, count)
    return logits.sigmoid(), network.masks_at(people, cells)


def pad_to(image: Tensor, divisor: int) -> Tensor:
    """[N, C, H, W] with zeros below and on the right, until its sides are multiples."""
    # Written without negative remainders, on whose sign PyTorch and ONNX need not agree.
    last = divisor - 1
    below = last - (image.shape[2] + last) % divisor
    right = last - (image.shape[3] + last) % divisor
    padded = F.pad(image, (0, right, 0, below))
    # So that a graph can know which sides stay as they are: what is computed of them is constant.
    height, width = image.shape[2] + below, image.shape[3] + right
    return padded.reshape(*image.shape[:2], height, width)


def peaks(centres: Tensor, window: int, faintest: float, count: int) -> tuple[Tensor, Tensor]:
    """Logits and cells [N, count] of the best of the peaks of logits [N, 1, h, w] above `faintest`.

    A peak is the greatest of a square of `window` cells.
    """
    is_peak = centres == F.max_pool2d(centres, window, stride=1, padding=window // 2)
    is_person = is_peak & (centres > faintest)
    # The last place stands in where there are fewer people than asked for: in what order faint
    # peaks come, and what is one on a plain, is nothing that two runtimes need agree on.
    logits = centres.masked_fill(~is_person, -NEVER).flatten(1)
    stand_ins = torch.full_like(logits[:, :1], -NEVER).expand(-1, count)
    logits, cells = torch.cat([logits, stand_ins], 1).topk(count)
    last = centres.shape[2] * centres.shape[3] - 1
    return logits, cells.clamp(max=last).masked_fill(logits <= -NEVER, last)
