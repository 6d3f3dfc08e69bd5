"""Pixel decoder of Mask2Former (arXiv 2112.01527, section 3.2.1).

A deformable encoder over res5, res4 and res3, then one top-down step to res2's stride.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2fp_export import position
from m2fp_export.architecture import LEVELS, NORM_GROUPS, Architecture
from m2fp_export.backbone import NormedConv2d
from m2fp_export.deform_attn import Shapes, attend


class DeformableAttention(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.shape = (sizes.heads, LEVELS, sizes.points)
        taps = sizes.heads * LEVELS * sizes.points
        self.sampling_offsets = nn.Linear(sizes.width, taps * 2)
        self.attention_weights = nn.Linear(sizes.width, taps)
        self.value_proj = nn.Linear(sizes.width, sizes.width)
        self.output_proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, tokens: Tensor, queries: Tensor, shapes: Shapes) -> Tensor:
        count = len(tokens)
        value = self.value_proj(tokens).view(1, count, self.shape[0], -1)
        offsets = self.sampling_offsets(queries).view(1, count, *self.shape, 2)
        logits = self.attention_weights(queries).view(1, count, *self.shape)
        return self.output_proj(attend(value, offsets, logits, shapes)[0])


class EncoderLayer(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(sizes)
        self.norm1 = nn.LayerNorm(sizes.width)
        self.linear1 = nn.Linear(sizes.width, sizes.encoder_hidden)
        self.linear2 = nn.Linear(sizes.encoder_hidden, sizes.width)
        self.norm2 = nn.LayerNorm(sizes.width)

    def forward(self, tokens: Tensor, positions: Tensor, shapes: Shapes) -> Tensor:
        tokens = self.norm1(tokens + self.self_attn(tokens, tokens + positions, shapes))
        return self.norm2(tokens + self.linear2(self.linear1(tokens).relu()))


class LayerStack(nn.Module):
    """Holds `layers` for the name's sake."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_layers))


class Encoder(nn.Module):
    """Maps of all levels, [1, C, Hₗ, Wₗ], to their encoded pixels, [S, C]."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.encoder = LayerStack(sizes)
        self.level_embed = nn.Parameter(torch.zeros(LEVELS, sizes.width))

    def forward(self, maps: list[Tensor]) -> Tensor:
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        tokens = torch.cat([x[0].flatten(1).t() for x in maps])
        positions = torch.cat(
            [
                position.encode(*shape, tokens.shape[1], tokens.dtype) + embedding
                for shape, embedding in zip(shapes, self.level_embed, strict=True)
            ]
        )
        for layer in self.encoder.layers:
            tokens = layer(tokens, positions, shapes)
        return tokens


class PixelDecoder(nn.Module):
    """Features of res2 to res5 to mask features [1, C, H/4, W/4] and maps of strides 32, 16, 8."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        width = sizes.width
        self.input_proj = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(sizes.stage_channels(stage), width, 1), nn.GroupNorm(NORM_GROUPS, width)
            )
            for stage in (3, 2, 1)
        )
        self.transformer = Encoder(sizes)
        self.mask_features = nn.Conv2d(width, sizes.mask_width, 1)
        norms = nn.GroupNorm(NORM_GROUPS, width), nn.GroupNorm(NORM_GROUPS, width)
        self.adapter_1 = NormedConv2d(sizes.stage_channels(0), width, 1, norms[0])
        self.layer_1 = NormedConv2d(width, width, 3, norms[1])

    def forward(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        finest, *coarse = features
        maps = [project(x) for project, x in zip(self.input_proj, reversed(coarse), strict=True)]
        tokens = self.transformer(maps).split([x.shape[2] * x.shape[3] for x in maps])
        encoded = [t.t().view_as(x) for t, x in zip(tokens, maps, strict=True)]
        lateral = self.adapter_1(finest)
        above = F.interpolate(encoded[-1], lateral.shape[2:], mode="bilinear", align_corners=False)
        return self.mask_features(self.layer_1(lateral + above).relu()), encoded
