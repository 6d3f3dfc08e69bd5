"""How sure the network may be of a person: its scores against how often such a person is right."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.crowd import crowd_scenes
from m2fp_train.instances import LEAST_SCORE, InstanceScores, find_persons
from m2fp_train.multipose_queries import MultiposeQueryParser
from m2fp_train.queries import QueryParser
from m2fp_train.scene import Scene

PEOPLE = (2, 3, 4)
SEED = 2
"""Other scenes than those of `evaluate`, of the same people."""
UNSEEN = 1.0
"""Taken off the logit of a person whom multipose does not see. Composed scenes are of the kind that
nano was trained on; in ordinary photos it is more often wrong. Chosen on the validation photos."""
UNHEARD = -1e3
"""Shift of a score that counts for nothing."""


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


def fit_confidences(parser: MultiposeQueryParser, people: Sequence[Scene], count: int) -> Tensor:
    """As `fit_confidence`, [2, 2]: of multipose's people and of nano's, each heard alone."""
    fitted = []
    for finder in range(len(parser.confidence)):
        parser.confidence[:, 0], parser.confidence[:, 1] = 1.0, UNHEARD
        parser.confidence[finder, 1] = 0.0
        fitted.append(fit_confidence(parser, people, count))
    return torch.stack(fitted) - torch.tensor([[0.0, 0.0], [0.0, UNSEEN]])
