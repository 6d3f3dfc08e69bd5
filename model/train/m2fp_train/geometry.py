"""Sizes: from a photo to the size the network works at, and to the padded size of its graph."""

import math
from dataclasses import dataclass

STRIDE = 4
"""Photo pixels per mask pixel, in each direction."""


@dataclass(frozen=True)
class SizeRule:
    """How large a photo is shown to the model; all values in pixels.

    The short side becomes `min_side` unless the long side would then exceed `max_side`. The graph
    pads to multiples of `divisor`. Under a short side of `smallest_side` results are of little use.
    A photo becomes smaller still, by a share of at most `max_shrink`, where that saves a row or a
    column of `divisor` pixels.
    """

    min_side: int
    max_side: int
    divisor: int
    smallest_side: int
    max_shrink: float = 0.0

    def working_size(self, width: int, height: int) -> tuple[int, int]:
        """Unpadded (width, height) for a photo, as detectron2's `ResizeShortestEdge` has it, or a
        little less."""
        longest = max(width, height)
        scale = min(self.min_side / min(width, height), self.max_side / longest)
        size = _scaled(width, height, scale)
        long = max(size)
        fewest = self.padded_area(size)
        for side in range(long, math.ceil(long * (1 - self.max_shrink)) - 1, -1):
            smaller = _scaled(width, height, min(scale, side / longest))
            if self.padded_area(smaller) < fewest:
                size, fewest = smaller, self.padded_area(smaller)
        return size

    def padded_area(self, size: tuple[int, int]) -> int:
        """Pixels of what the network computes."""
        return math.prod(-(-side // self.divisor) * self.divisor for side in size)


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))


NANO_SIZE = SizeRule(min_side=384, max_side=800, divisor=32, smallest_side=128)
MULTIPOSE_SIZE = SizeRule(
    min_side=384, max_side=640, divisor=32, smallest_side=128, max_shrink=0.025
)
"""A photo of 3:2 keeps its 384 pixels; one of 16:9 is shown a twelfth smaller, at 0.84 of the
pixels: on composed scenes of that shape, this costs 0.006 of people's AP50."""
