"""Training of the parser of three parts: it learns to draw people and to correct garments.

Multipose, nano and BodyPix stay as they are, so that what they know is kept.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from m2fp_train.backbone import load_bodypix
from m2fp_train.classes import IGNORE, NUM_PARTS
from m2fp_train.losses import garment_loss, mask_loss, parsing_loss
from m2fp_train.multipose import MULTIPOSE_STRIDE, load_multipose
from m2fp_train.multipose_parser import MultiposeParser, PersonBoxes, load_learned, overlaps
from m2fp_train.network import load_parts
from m2fp_train.partial import SOMEBODY, partial_loss, without_partial
from m2fp_train.persons import agreed_masks, somebody_logit
from m2fp_train.queries import normalise
from m2fp_train.training import Recipe, Run

LOSSES = ("parts", "partial", "garments", "masks")
GARMENT_WEIGHT = 0.5
MIDDLE = MULTIPOSE_STRIDE // 2
"""Of the pixels of a cell: the losses of parts are taken there, for what is finer, nano knows."""
REFINING_RATE = 8e-4
"""Learning rate of a run that goes on from what was learned."""
LEAST_OVERLAP = 0.4
"""Of the box that multipose finds and a person's, from which on it finds this person."""


class Published(NamedTuple):
    """The weights of the networks that are built upon: graphs, and BodyPix's folder.

    learned: the exported graph of an earlier run, whose learned part a run goes on from; None for
    one that starts anew.
    """

    multipose: Path
    nano: Path
    bodypix: Path
    learned: Path | None = None


@dataclass(frozen=True)
class MultiposeRecipe(Recipe):
    """As `Recipe`. crop: a multiple of 384. goes_on: whether `Published.learned` is given."""

    network: str = "multipose"
    goes_on: bool = False

    @classmethod
    def going_on(cls, **settings: int) -> "MultiposeRecipe":
        """What has been learned is refined, not learned again: more slowly."""
        return cls(goes_on=True, head_rate=REFINING_RATE, **settings)


class MultiposeRun(Run):
    """As `Run`, from `Published`."""

    loss_names = LOSSES

    def _new_network(self) -> nn.Module:
        return MultiposeParser(self.recipe.goes_on)

    def _load_published(self, published: Published) -> None:
        if published.learned is not None:
            load_learned(self.network, published.learned)
        load_multipose(self.network.multipose, published.multipose)
        load_parts(self.network.nano, published.nano)
        load_bodypix(self.network.bodypix, published.bodypix)

    def _losses(
        self,
        image: Tensor,
        parts: Tensor,
        numbers: Tensor,
        allowed: Tensor,
        boxes: Tensor,
        people: Tensor,
    ) -> Tensor:
        """[4], as `LOSSES` names them, of a batch of `AllScenes`."""
        answer = self.network(normalise(image))
        logits = answer.logits
        every = np.s_[:, MIDDLE::MULTIPOSE_STRIDE, MIDDLE::MULTIPOSE_STRIDE]
        parts = parts[every]
        person = numbers.where(numbers == IGNORE, numbers.clamp(max=1))[every]
        # Whose part is unknown is somebody all the same, though nobody numbered it.
        person = person.masked_fill(parts == SOMEBODY, 1)

        drawn = whom(answer.found.boxes, PersonBoxes(*boxes.split(2, 2)), people)
        masks = self.network.masks(answer)
        masks = agreed_masks(masks, somebody_logit(answer.logits[:, :NUM_PARTS]))
        return torch.stack(
            [
                parsing_loss(logits, without_partial(parts), person),
                partial_loss(logits[:, :NUM_PARTS], answer.before, parts, allowed),
                GARMENT_WEIGHT * garment_loss(logits[:, :NUM_PARTS], parts),
                mask_loss(masks, numbers, drawn, MULTIPOSE_STRIDE),
            ]
        )


def whom(found: PersonBoxes, boxes: PersonBoxes, people: Tensor) -> Tensor:
    """int64 [N, M]: whom the people found are, 0 for nobody who is there.

    boxes: of K people; people: int64 [N, K], their numbers, 0 where there is none.
    """
    share, best = (overlaps(found, boxes) * (people > 0)[:, None]).max(2)
    return people.gather(1, best) * (share > LEAST_OVERLAP)
