"""The graph that is exported of the parser on multipose: the same queries as `QueryParser`'s."""

from functools import partial

import torch
from torch import Tensor

from m2fp_train.classes import NUM_PARTS, PERSON_ID
from m2fp_train.garments import settled_garments
from m2fp_train.multipose_parser import MultiposeAnswer, MultiposeParser
from m2fp_train.network import double
from m2fp_train.outlines import OUTLINE_STRIDE, outlined_people
from m2fp_train.persons import both_heard, mask_overlaps, shares_of_somebody, somebody_logit
from m2fp_train.queries import (
    NEVER,
    PERSON_QUERIES,
    SUREST_PART,
    QueryParser,
    agreed_twice,
    normalise,
    pad_to,
    people_by_centre,
    scores,
    softmax_logits,
)

SURE = 8.0
"""Logit of somebody, or of nobody, from which on nano's parts are hardly corrected: where nano is
sure, as on street photos, it knows outlines better."""
BY_CENTRE = 12
"""People that nano is asked for."""
THERE = 0.35
"""Score of a person from which on whoever is at the same place is nobody else."""
SAME = 0.5
"""Overlap of two masks from which on they are at the same place."""
APART = 1e-4
"""Between the logits of two people who are as likely, so that two runtimes agree on their order."""


class MultiposeQueryParser(QueryParser):
    """As `QueryParser`, of the people that multipose finds, and of those that nano alone finds.

    Multipose knows people in ordinary photos; nano sees the tiny ones, and those of whom little
    more than legs is left. `confidence` has scale and shift of multipose's scores, then of nano's.

    Whether somebody is at a pixel, where nano is not sure of it, the learned network and BodyPix
    say: each sees people that the other misses. Which garment it is, nano says, helped by what the
    same person wears there and elsewhere, and by what all of that person looks like. People's masks
    agree with the learned parts; where people end, both follow the image, at stride 2. What
    `logit_adjustment` adds, `adjustment`, changes parts alone, and no person.
    """

    stride = OUTLINE_STRIDE

    def __init__(self, network: MultiposeParser, divisor: int) -> None:
        super().__init__(network, divisor)
        self.register_buffer("adjustment", torch.zeros(NUM_PARTS))
        self.confidence = torch.tensor([[1.0, 0.0]] * 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        shown = pad_to(normalise(image), self.divisor)
        answer = self.network(shown)
        person_classes, masks = self._persons(answer)
        chances = person_classes[..., PERSON_ID].sigmoid()
        shares, before = shares_of_somebody(answer.before)
        anybody = corrected_anybody(before, answer)
        classify = partial(self.network.garment_classifier, answer.looks)
        shares = settled_garments(shares, anybody, masks, chances, classify)
        of_masks, anybody = outlined_people(shown, masks, chances, anybody)
        of_background, of_parts = self.adjustment[:, None, None].split((1, NUM_PARTS - 1))
        parts = double(shares + of_parts)
        return self._queries(
            person_classes,
            *_logits_of_parts(of_background - anybody, parts),
            double(masks) + of_masks,
        )

    def _persons(self, answer: MultiposeAnswer) -> tuple[Tensor, Tensor]:
        somebody = somebody_logit(answer.logits[:, :NUM_PARTS])
        masks = agreed_twice(self.network.masks(answer), somebody)
        human = scores(answer.found.chances, masks, somebody, self.confidence[0])
        chances, further_masks = people_by_centre(self.network.nano, answer.by_centre, BY_CENTRE)
        # Learned masks agree with the parts that they were learned with.
        further_masks = agreed_twice(further_masks, somebody_logit(answer.before))
        again = (mask_overlaps(further_masks, masks) > SAME) & (human.sigmoid() > THERE)[:, None]
        again = again.any(2)
        # Last, so that ONNX Runtime has multipose look at the image first, while little else is
        # kept: of what a node needs it computes first what comes last, in an order that
        # `onnx_graph.simplify` has turned round once.
        further = scores(chances, further_masks, somebody, self.confidence[1])
        human = torch.cat([human, further.masked_fill(again, -NEVER)], 1).clamp(min=-NEVER)
        human, order = (human - APART * torch.ones_like(human).cumsum(1)).topk(PERSON_QUERIES)
        return self._person_classes(human), torch.cat([masks, further_masks], 1)[:, order[0]]


def corrected_anybody(before: Tensor, answer: MultiposeAnswer) -> Tensor:
    """Logit [N, 1, h, w] that anybody is at a pixel: `before`, which nano has, changed to what was
    learned and BodyPix say together, as far as nano is not sure."""
    said = both_heard(answer.logits[:, NUM_PARTS:], double(answer.bodypix))
    return before + (said - before) * (SURE - before.abs()).sigmoid()


def _logits_of_parts(background: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """As `softmax_logits`, of the background [N, 1, h, w] and of all other parts [N, 19, h, w]."""
    odds = parts.exp()
    somebody = odds.sum(1, keepdim=True)
    nobody = background - somebody.log()
    return nobody.clamp(max=SUREST_PART), softmax_logits(parts, odds, somebody + background.exp())
