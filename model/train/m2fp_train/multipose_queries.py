"""The graph that is exported of the parser on multipose: the same queries as `QueryParser`'s."""

from functools import partial

import torch
from torch import Tensor

from m2fp_train.classes import BACKGROUND_ID, NUM_PARTS, PERSON_ID
from m2fp_train.garments import settled_garments
from m2fp_train.multipose_parser import MultiposeAnswer, MultiposeParser
from m2fp_train.network import double
from m2fp_train.outlines import OUTLINE_STRIDE, outlined_people
from m2fp_train.persons import agreed_masks, both_heard, somebody_logit
from m2fp_train.queries import MOST_FURTHER_AGREEMENT, QueryParser, normalise, pad_to

SURE = 8.0
"""Logit of somebody, or of nobody, from which on nano's parts are hardly corrected: where nano is
sure, as on street photos, it knows outlines better."""


class MultiposeQueryParser(QueryParser):
    """As `QueryParser`, of the people that multipose finds.

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

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        shown = pad_to(normalise(image), self.divisor)
        answer = self.network(shown)
        person_classes, masks = self._persons(answer)
        scores = person_classes[..., PERSON_ID].sigmoid()
        classify = partial(self.network.garment_classifier, answer.looks)
        parts = settled_garments(self._part_logits(answer), masks, scores, classify)
        anybody = somebody_logit(parts)[:, None]
        of_masks, of_anybody = outlined_people(shown, masks, scores, anybody)
        parts = parts + self.adjustment[:, None, None]
        parts, masks = likelier_somebody(double(parts), of_anybody), double(masks) + of_masks
        return self._queries(self._softmax_logits(parts), person_classes, masks)

    def _part_logits(self, answer: MultiposeAnswer) -> Tensor:
        before = somebody_logit(answer.before)
        change = (said_of_anybody(answer) - before) * (SURE - before.abs()).sigmoid()
        return likelier_somebody(answer.before, change[:, None])

    def _persons(self, answer: MultiposeAnswer) -> tuple[Tensor, Tensor]:
        somebody = somebody_logit(answer.logits[:, :NUM_PARTS])
        masks = self.network.masks(answer)
        masks = agreed_masks(agreed_masks(masks, somebody), somebody, MOST_FURTHER_AGREEMENT)
        return self._person_classes(answer.found.chances, masks, somebody), masks


def said_of_anybody(answer: MultiposeAnswer) -> Tensor:
    """Logit [N, h, w] that anybody is at a pixel, by what was learned and by BodyPix."""
    return both_heard(answer.logits[:, NUM_PARTS], double(answer.bodypix)[:, 0])


def likelier_somebody(parts: Tensor, change: Tensor) -> Tensor:
    """Logits [N, 20, h, w] of the parts, by which somebody's logit is by [N, 1, h, w] greater."""
    background = parts[:, BACKGROUND_ID : BACKGROUND_ID + 1] - change
    return torch.cat([background, parts[:, BACKGROUND_ID + 1 :]], 1)
