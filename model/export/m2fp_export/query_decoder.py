"""Transformer decoder of Mask2Former (arXiv 2112.01527, section 3.2): masked cross-attention first.

Layer i attends to the pixels of level i mod 3, within the mask that each query predicted before it.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2fp_export import position
from m2fp_export.architecture import LEVELS, Architecture


class CrossAttention(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(sizes.width, sizes.heads)
        self.norm = nn.LayerNorm(sizes.width)

    def forward(
        self, queries: Tensor, places: Tensor, pixels: Tensor, positions: Tensor, hidden: Tensor
    ) -> Tensor:
        """hidden: bool [Q, pixels], true where a query may not look."""
        found, _ = self.multihead_attn(
            queries + places, pixels + positions, pixels, attn_mask=hidden, need_weights=False
        )
        return self.norm(queries + found)


class SelfAttention(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(sizes.width, sizes.heads)
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, queries: Tensor, places: Tensor) -> Tensor:
        placed = queries + places
        found, _ = self.self_attn(placed, placed, queries, need_weights=False)
        return self.norm(queries + found)


class FeedForward(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.linear1 = nn.Linear(sizes.width, sizes.decoder_hidden)
        self.linear2 = nn.Linear(sizes.decoder_hidden, sizes.width)
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, queries: Tensor) -> Tensor:
        return self.norm(queries + self.linear2(self.linear1(queries).relu()))


class MaskEmbedding(nn.Module):
    """Three linear layers: a query to the direction of its mask among the mask features."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        widths = (sizes.width, sizes.width, sizes.width, sizes.mask_width)
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](self.layers[1](self.layers[0](x).relu()).relu())


class QueryDecoder(nn.Module):
    """Mask features and maps of three levels to class logits [Q, C+1] and masks [Q, h, w]."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        count = range(sizes.decoder_layers)
        self.transformer_self_attention_layers = nn.ModuleList(SelfAttention(sizes) for _ in count)
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttention(sizes) for _ in count
        )
        self.transformer_ffn_layers = nn.ModuleList(FeedForward(sizes) for _ in count)
        self.decoder_norm = nn.LayerNorm(sizes.width)
        self.query_feat = nn.Embedding(sizes.queries, sizes.width)
        self.query_embed = nn.Embedding(sizes.queries, sizes.width)
        self.level_embed = nn.Embedding(LEVELS, sizes.width)
        self.class_embed = nn.Linear(sizes.width, sizes.classes + 1)
        self.mask_embed = MaskEmbedding(sizes)

    def forward(self, mask_features: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        pixels = [
            x[0].flatten(1).t() + embedding
            for x, embedding in zip(maps, self.level_embed.weight, strict=True)
        ]
        positions = [position.encode(x.shape[2], x.shape[3], x.shape[1], x.dtype) for x in maps]
        places = self.query_embed.weight
        queries = self.query_feat.weight
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for index, (cross, own, feed_forward) in enumerate(layers):
            level = index % LEVELS
            masks = self.masks(queries, mask_features)
            hidden = hidden_pixels(masks, maps[level].shape[2:])
            queries = cross(queries, places, pixels[level], positions[level], hidden)
            queries = feed_forward(own(queries, places))
        return self.class_embed(self.decoder_norm(queries)), self.masks(queries, mask_features)

    def masks(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """[Q, h, w] logits."""
        embedding = self.mask_embed(self.decoder_norm(queries))
        return torch.einsum("qc,chw->qhw", embedding, mask_features[0])


def hidden_pixels(masks: Tensor, shape: torch.Size) -> Tensor:
    """bool [Q, pixels]: outside the query's mask; an empty mask hides nothing."""
    resized = F.interpolate(masks[None], shape, mode="bilinear", align_corners=False)[0]
    hidden = resized.flatten(1).sigmoid() < 0.5
    return hidden & ~hidden.all(1, keepdim=True)
