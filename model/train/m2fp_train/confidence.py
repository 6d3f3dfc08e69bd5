"""How sure the network may be of a person: its scores against how often such a person is right."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.crowd import crowd_scenes
from m2fp_train.instances import LEAST_SCORE, InstanceScores, find_persons
from m2fp_train.queries import QueryParser
from m2fp_train.scene import Scene

PEOPLE = (2, 3, 4)
SEED = 2
"""Other scenes than those of `evaluate`, of the same people."""


def fit_confidence(parser: QueryParser, people: Sequence[Scene], count: int) -> Tensor:
    """Scale and shift [2] for `parser.confidence`, from `count` scenes composed of `people`."""
    scores = InstanceScores()
    for scene in crowd_scenes(people, PEOPLE, count, SEED):
        with torch.no_grad():
            class_logits, masks = parser(torch.from_numpy(scene.image.transpose(2, 0, 1)[None]))
        masks = F.interpolate(
            masks, scale_factor=parser.stride, mode="bilinear", align_corners=False
        )
        masks = masks[0, :, : scene.height, : scene.width]  # without the padding
        scores.add(find_persons(class_logits[0], masks, LEAST_SCORE), scene.numbers)
    return torch.tensor(scores.confidence())
