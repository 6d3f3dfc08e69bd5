"""The sizes of an M2FP network: all that its weights' shapes follow from."""

from dataclasses import dataclass

STRIDE = 4
"""Pixels of the padded image per mask pixel, in each direction."""
DIVISOR = 32
"""The network takes sides that are multiples of this: the stride of res5."""
LEVELS = 3
"""Feature levels of the deformable encoder: res5, res4, res3, strides 32, 16, 8."""
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Of ImageNet, RGB 0-255."""
NORM_GROUPS = 32
"""Groups of every GroupNorm."""


@dataclass(frozen=True)
class Architecture:
    """Defaults: ResNet-101 as M2FP was published with, for CIHP.

    classes: parts, background and Human, without "no object".
    blocks: bottlenecks of res2 to res5.
    bottleneck_channels: inner channels of res2; each later stage has twice those of the one before.
    res5_dilations: dilation of the 3×3 of each block of res5.
    width: channels of encoder and decoder; mask_width: of mask features.
    """

    classes: int = 21
    blocks: tuple[int, ...] = (3, 4, 23, 3)
    stem_channels: int = 128
    bottleneck_channels: int = 64
    res2_channels: int = 256
    res5_dilations: tuple[int, ...] = (1, 1, 1)
    width: int = 256
    mask_width: int = 256
    heads: int = 8
    points: int = 4
    encoder_layers: int = 6
    encoder_hidden: int = 1024
    decoder_layers: int = 9
    decoder_hidden: int = 2048
    queries: int = 100

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def stage_channels(self, stage: int) -> int:
        """Output channels of stage 0 (res2) to 3 (res5)."""
        return self.res2_channels << stage
