"""The graph that is exported: the network in M2FP's query form, from raw bytes to mask logits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.classes import NUM_CLASSES, NUM_PARTS
from m2fp_train.network import NanoParser

OWN_CLASS_LOGIT = 8.0
"""Logit of a query's own class; every other class, and "no object", has its negative."""
SMALLEST_ODDS_AGAINST = 1e-12
"""Floor of the odds against a part, relative to the likeliest one: a mask logit is at most 27.6."""


def normalise(image: Tensor) -> Tensor:
    """uint8 RGB -> float32 in -1..1, as BodyPix takes it."""
    return image.float() / 127.5 - 1.0


class QueryParser(nn.Module):
    """uint8 RGB [1, 3, H, W] of any size -> class logits [1, 21, 22] and mask logits [1, 21, h, w].

    There is one fixed query per class. h and w are a quarter of H and W, these padded to multiples
    of `divisor`. A part's mask logit is the logit of its softmax probability.
    """

    def __init__(self, network: NanoParser, divisor: int) -> None:
        super().__init__()
        self.network = network
        self.divisor = divisor
        own_class = torch.eye(NUM_CLASSES, NUM_CLASSES + 1)
        self.register_buffer("class_logits", (2 * own_class - 1)[None] * OWN_CLASS_LOGIT)
        others = 1 - torch.eye(NUM_PARTS)
        self.register_buffer("sum_of_others", others[:, :, None, None])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self._pad(normalise(image)))
        parts, human = logits[:, :NUM_PARTS], logits[:, NUM_PARTS:]
        return self.class_logits, torch.cat([self._softmax_logits(parts), human], 1)

    def _softmax_logits(self, parts: Tensor) -> Tensor:
        """log(p / (1 - p)) of p = softmax(parts); 1 - p is a sum, for a difference would cancel."""
        parts = parts - parts.amax(1, keepdim=True)
        others = F.conv2d(parts.exp(), self.sum_of_others)
        return parts - others.clamp(min=SMALLEST_ODDS_AGAINST).log()

    def _pad(self, image: Tensor) -> Tensor:
        # Written without negative remainders, on whose sign PyTorch and ONNX need not agree.
        last = self.divisor - 1
        below = last - (image.shape[2] + last) % self.divisor
        right = last - (image.shape[3] + last) % self.divisor
        return F.pad(image, (0, right, 0, below))
