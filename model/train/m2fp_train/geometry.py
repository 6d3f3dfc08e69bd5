"""Sizes: from a photo to the size the network works at, and to the padded size of its graph."""

from dataclasses import dataclass

STRIDE = 4
"""Photo pixels per mask pixel, in each direction."""


@dataclass(frozen=True)
class SizeRule:
    """How large a photo is shown to the model; all values in pixels.

    The short side becomes `min_side` unless the long side would then exceed `max_side`. The graph
    pads to multiples of `divisor`. Under a short side of `smallest_side` results are of little use.
    """

    min_side: int
    max_side: int
    divisor: int
    smallest_side: int

    def working_size(self, width: int, height: int) -> tuple[int, int]:
        """Unpadded (width, height) for a photo, as detectron2's `ResizeShortestEdge` has it."""
        scale = min(self.min_side / min(width, height), self.max_side / max(width, height))
        return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))


NANO_SIZE = SizeRule(min_side=384, max_side=800, divisor=32, smallest_side=128)
MULTIPOSE_SIZE = SizeRule(min_side=384, max_side=576, divisor=32, smallest_side=128)
"""A photo of 3:2 keeps its 384 pixels; one of 16:9 is shown a sixth smaller, at 0.7 of the time: on
composed scenes of that shape, this costs 0.02 of people's AP50."""
