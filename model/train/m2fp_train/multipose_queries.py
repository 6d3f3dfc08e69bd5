"""The graph that is exported of the parser on multipose: the same queries as `QueryParser`'s."""

import torch
from torch import Tensor

from m2fp_train.classes import BACKGROUND_ID, NUM_PARTS
from m2fp_train.multipose_parser import MultiposeAnswer
from m2fp_train.persons import agreed_masks, somebody_logit
from m2fp_train.queries import MOST_FURTHER_AGREEMENT, QueryParser

SURE = 5.0
"""Logit of somebody, or of nobody, from which on nano's parts are hardly corrected: where nano is
sure, as on street photos, it knows outlines better."""


class MultiposeQueryParser(QueryParser):
    """As `QueryParser`, of the people that multipose finds.

    Of what the correction says of the parts, whether somebody is there is taken: which garment it
    is, nano alone knows better. People's masks agree with the correction, sure or not.
    """

    def _part_logits(self, answer: MultiposeAnswer) -> Tensor:
        before = somebody_logit(answer.before)
        change = somebody_logit(answer.logits[:, :NUM_PARTS]) - before
        change = change * (SURE - before.abs()).sigmoid()
        background = answer.before[:, BACKGROUND_ID : BACKGROUND_ID + 1] - change[:, None]
        return torch.cat([background, answer.before[:, BACKGROUND_ID + 1 :]], 1)

    def _persons(self, answer: MultiposeAnswer, somebody: Tensor) -> tuple[Tensor, Tensor]:
        somebody = somebody_logit(answer.logits[:, :NUM_PARTS])
        masks = self.network.masks(answer)
        masks = agreed_masks(agreed_masks(masks, somebody), somebody, MOST_FURTHER_AGREEMENT)
        return self._person_classes(answer.found.chances, masks, somebody), masks
