"""The graph that is exported of the parser on multipose: the same queries as `QueryParser`'s."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from m2fp_train.multipose import KEYPOINTS, MULTIPOSE_STRIDE, Heads
from m2fp_train.multipose_parser import PEAK_WINDOW, MultiposeAnswer
from m2fp_train.persons import agreed_masks, at_cells, pixel_positions
from m2fp_train.queries import MOST_FURTHER_AGREEMENT, QueryParser

FAINTEST_CENTRE = math.log(0.02 / 0.98)
"""Logit of a centre under which a peak is nobody's."""
KEYPOINT_WINDOW = 5
"""Cells around where a centre thinks a keypoint is, of which the likeliest counts."""
LEAST_KEYPOINT = 0.127
"""Probability from which a keypoint counts; what the published model uses."""


class MultiposeQueryParser(QueryParser):
    """As `QueryParser`; a person is as likely as its centre times the mean of its keypoints.

    Without the keypoints a centre sees persons where nobody is: 53 in 67 photos, with them none.
    """

    def _persons(self, answer: MultiposeAnswer, somebody: Tensor) -> tuple[Tensor, Tensor]:
        scores, cells = self._peaks(answer.heads.centres, PEAK_WINDOW, FAINTEST_CENTRE)
        masks, _ = self.network.masks(answer, cells)
        masks = agreed_masks(agreed_masks(masks, somebody), somebody, MOST_FURTHER_AGREEMENT)
        chance = scores.sigmoid() * keypoint_factor(answer.heads, cells)
        return self._person_classes(chance, masks, somebody), masks


def keypoint_factor(heads: Heads, cells: Tensor) -> Tensor:
    """[N, M]: the mean probability of the keypoints of people at cells int64 [N, M].

    Of those above `LEAST_KEYPOINT`; 0 where there is none.
    """
    near = F.max_pool2d(heads.keypoints, KEYPOINT_WINDOW, stride=1, padding=KEYPOINT_WINDOW // 2)
    near = near.flatten(2).sigmoid()
    positions = pixel_positions(heads.centres, MULTIPOSE_STRIDE) / MULTIPOSE_STRIDE
    x, y = at_cells(positions, cells)[:, :, None].split(1, 3)
    ways = at_cells(heads.ways, cells).reshape(*cells.shape, KEYPOINTS, 2)
    # Tensors, and no sides of a tensor: a graph is traced at one size, and serves all.
    last = positions.flatten(2)[:, None, None, :, -1]
    columns = torch.minimum(x[..., 0] + ways[..., 1], last[..., 0]).clamp(min=0).floor().long()
    rows = torch.minimum(y[..., 0] + ways[..., 0], last[..., 1]).clamp(min=0).floor().long()
    places = rows * heads.centres.shape[3] + columns
    found = near.gather(2, places.transpose(1, 2)).transpose(1, 2)
    counts = (found > LEAST_KEYPOINT).to(found)
    return (found * counts).sum(2) / counts.sum(2).clamp(min=1)
