"""Training of the parser on multipose: parts and masks are learned, and what it knew is kept.

A frozen multipose looks at every crop, pasted people and all, and the one in training must say the
same of centres, boxes and keypoints wherever no label says otherwise.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.classes import IGNORE, NUM_PARTS
from m2fp_train.losses import centre_loss, mask_loss, parsing_loss
from m2fp_train.multipose import MULTIPOSE_STRIDE, Heads, load_multipose
from m2fp_train.multipose_parser import MultiposeParser, PersonBoxes
from m2fp_train.partial import SOMEBODY, partial_loss, without_partial
from m2fp_train.persons import agreed_masks, somebody_logit
from m2fp_train.queries import normalise
from m2fp_train.training import LOSS_STRIDE, Recipe, Run

LOSSES = ("parts", "partial", "centres", "boxes", "masks", "kept")
CENTRE_WEIGHT = 0.2
"""Of the labels' word on centres: pasted people are not as people stand in a photo."""
BOX_WEIGHT = 0.2
KEPT_WEIGHT = 2.0


@dataclass(frozen=True)
class MultiposeRecipe(Recipe):
    """As `Recipe`, with a backbone that moves slowly. crop: a multiple of 384."""

    backbone_rate: float = 2e-5
    network: str = "multipose"


class MultiposeRun(Run):
    """As `Run`; `published` is the ONNX graph of multipose's weights."""

    loss_names = LOSSES

    def __init__(
        self,
        folder: Path,
        recipe: MultiposeRecipe,
        published: Path,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(folder, recipe, published, device or torch.device("cpu"))
        # A resumed run's own multipose has moved: the teacher is read anew.
        teacher = copy.deepcopy(self.network.multipose).to("cpu")
        load_multipose(teacher, published)
        self.teacher = teacher.to(self.device).eval().requires_grad_(False)

    def _new_network(self) -> nn.Module:
        network = MultiposeParser()
        network.multipose.freeze_first_blocks()
        return network

    def _load_published(self, published: Path) -> None:
        load_multipose(self.network.multipose, published)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer_of("multipose.")

    def _losses(
        self,
        image: Tensor,
        parts: Tensor,
        numbers: Tensor,
        allowed: Tensor,
        centres: Tensor,
        cells: Tensor,
        drawn: Tensor,
        boxes: Tensor,
    ) -> Tensor:
        """[6], as `LOSSES` names them, of a batch of `AllScenes`."""
        image = normalise(image)
        answer = self.network(image)
        with torch.no_grad():
            _, said = self.teacher(image)
        logits = F.interpolate(
            answer.logits,
            scale_factor=MULTIPOSE_STRIDE / LOSS_STRIDE,
            mode="bilinear",
            align_corners=False,
        )
        every = np.s_[:, ::LOSS_STRIDE, ::LOSS_STRIDE]
        parts = parts[every]
        person = numbers.where(numbers == IGNORE, numbers.clamp(max=1))[every]
        # Whose part is unknown is somebody all the same, though nobody numbered it.
        person = person.masked_fill(parts == SOMEBODY, 1)

        most = max(1, int((drawn > 0).sum(1).max()))
        cells, drawn, boxes = cells[:, :most], drawn[:, :most], boxes[:, :most]
        masks, found = self.network.masks(answer, cells)
        masks = agreed_masks(masks, somebody_logit(answer.logits[:, :NUM_PARTS]))
        return torch.stack(
            [
                parsing_loss(logits, without_partial(parts), person),
                partial_loss(logits[:, :NUM_PARTS], parts, allowed),
                CENTRE_WEIGHT * centre_loss(answer.heads.centres[:, 0], centres),
                BOX_WEIGHT * box_loss(found, boxes, drawn > 0),
                mask_loss(masks, numbers, drawn, MULTIPOSE_STRIDE),
                KEPT_WEIGHT * kept_loss(answer.heads, said),
            ]
        )


def box_loss(found: PersonBoxes, boxes: Tensor, used: Tensor) -> Tensor:
    """Mean difference of the sides of people's boxes, and of their centres, in sides.

    boxes: [N, M, 4], centre x and y, width and height in pixels; used: bool [N, M].
    """
    centres, sizes = boxes.split(2, 2)
    way = (found.centres - centres).abs() / sizes
    side = (found.sizes.log() - sizes.clamp(min=1).log()).abs()
    loss = (way + side).mean(2).clamp(max=2) * used
    return loss.sum() / used.sum().clamp(min=1)


def kept_loss(heads: Heads, said: Heads) -> Tensor:
    """How far the heads are from what the teacher says; boxes and ways where it sees a centre.

    Centres and keypoints: cross-entropy less the teacher's own entropy, over the mass it gives.
    """
    total = heads.centres.sum() * 0
    for ours, theirs in ((heads.centres, said.centres), (heads.keypoints, said.keypoints)):
        target = theirs.sigmoid()
        cross = F.binary_cross_entropy_with_logits(ours, target, reduction="none")
        own = F.binary_cross_entropy_with_logits(theirs, target, reduction="none")
        total = total + (cross - own).sum() / target.sum().clamp(min=1)
    centre = said.centres.sigmoid()
    centre = centre * (centre > 0.1)
    for ours, theirs in ((heads.boxes, said.boxes), (heads.ways, said.ways)):
        way = (ours - theirs).abs() / (1 + theirs.abs())
        total = total + (way.mean(1, keepdim=True) * centre).sum() / centre.sum().clamp(min=1)
    return total
