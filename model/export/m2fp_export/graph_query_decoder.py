"""The graph's last part: queries attend to pixels within their masks; classes and masks come out.

Three identities, exact but for rounding, spare most of what the published network computes here:
- Mask features F are a 1×1 convolution of the pyramid's last map y, and a mask is E·F, so
  E·F = (E·W)·y + E·b: the convolution is folded into the mask embedding.
- A bilinear resize is linear and keeps constants: resize(E·F) = E·resize(F). y is resized once to
  each level instead of nine full-size masks.
- Level embeddings are constant over a level: they are folded into the biases of keys and values,
  so that pixels with positions are what the encoder already had.
"""

import math
from dataclasses import dataclass

import numpy as np

from m2fp_export.architecture import LEVELS, STRIDE
from m2fp_export.graph_parts import Graph, Matrix
from m2fp_export.graph_pixel_decoder import DECODER, Pixels

PREDICTOR = "sem_seg_head.predictor"
HEAD_GROUPS = 8
"""Heads of a cross-attention are computed in so many groups: scores are [M, Q, pixels], the largest
tensor of the decoder."""
HIDDEN = -1e9
"""Added to the score of a pixel outside the mask: its weight becomes 0."""
EVERYTHING = -3e38
"""Under every mask logit."""


def query_decoder(graph: Graph, pixels: Pixels) -> tuple[str, str]:
    """Names of class logits [Q, C+1] and mask logits [Q, h·w]."""
    sizes = graph.source.sizes
    with graph.scope("mask_levels"):
        columns = [
            graph.map_to_columns(graph.resize(pixels.finest, STRIDE / (32 >> level)))
            for level in range(LEVELS)
        ]
    masks = _MaskHead(graph)
    queries = graph.weight(
        f"{PREDICTOR}.query_feat.weight", graph.source[f"{PREDICTOR}.query_feat.weight"]
    )
    places = graph.weight(
        f"{PREDICTOR}.query_embed.weight", graph.source[f"{PREDICTOR}.query_embed.weight"]
    )
    for layer in range(sizes.decoder_layers):
        level = layer % LEVELS
        with graph.scope(f"{PREDICTOR}.layer{layer}"):
            logits = masks.logits(masks.normed(queries), columns[level])
            queries = _cross_attention(
                graph, queries, places, pixels, level, _bias(graph, logits), layer
            )
            queries = _self_attention(graph, queries, places, layer)
            queries = _feed_forward(graph, queries, layer)
    with graph.scope(f"{PREDICTOR}.result"):
        normed = masks.normed(queries)
        classes = graph.linear(normed, f"{PREDICTOR}.class_embed")
        return classes, masks.logits(normed, graph.map_to_columns(pixels.finest))


class _MaskHead:
    """The mask embedding with the mask features' convolution inside; ten times the same weights."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        source = graph.source
        self.norm = graph.affine(f"{PREDICTOR}.decoder_norm")
        name = f"{PREDICTOR}.mask_embed.layers"
        self.hidden = [
            graph.layer_names(
                f"{name}.{index}", source[f"{name}.{index}.weight"], source[f"{name}.{index}.bias"]
            )
            for index in (0, 1)
        ]
        last, last_bias = source[f"{name}.2.weight"], source[f"{name}.2.bias"]
        features = source[f"{DECODER}.mask_features.weight"][:, :, 0, 0]
        features_bias = source[f"{DECODER}.mask_features.bias"]
        self.direction = graph.layer_names(f"{name}.2", features.T @ last, features.T @ last_bias)
        self.offset = graph.layer_names(
            f"{name}.2.offset",
            (features_bias @ last)[None],
            np.array([features_bias @ last_bias]),
        )

    def normed(self, queries: str) -> str:
        return self.graph.node("LayerNormalization", queries, *self.norm, axis=-1, epsilon=1e-5)

    def logits(self, normed: str, columns: str) -> str:
        """[Q, pixels] of the pixels whose y is `columns`, [C, pixels]."""
        graph = self.graph
        for names in self.hidden:
            normed = graph.layer(normed, names, relu=True)
        direction = graph.layer(normed, self.direction)
        offset = graph.layer(normed, self.offset)
        return graph.layer_of_columns(columns, direction, offset)


def _bias(graph: Graph, logits: str) -> str:
    """[Q, pixels]: 0 where a query may look, else `HIDDEN`; a mask without pixels hides nothing."""
    zero = graph.scalar(0.0)
    largest = graph.node("ReduceMax", logits, axes=[1], keepdims=1)
    is_empty = graph.node("Less", largest, zero)
    limit = graph.node("Where", is_empty, graph.scalar(EVERYTHING), zero)
    return graph.node("Where", graph.node("Less", logits, limit), graph.scalar(HIDDEN), zero)


@dataclass(frozen=True)
class _Projections:
    """Query, key and value parts of a multi-head attention, queries scaled by 1/√D."""

    query: tuple[Matrix, Matrix]
    key: tuple[Matrix, Matrix]
    value: tuple[Matrix, Matrix]

    @classmethod
    def read(cls, graph: Graph, name: str) -> "_Projections":
        weights = np.split(graph.source[f"{name}.in_proj_weight"], 3)
        biases = np.split(graph.source[f"{name}.in_proj_bias"], 3)
        scale = 1 / math.sqrt(graph.source.sizes.head_width)
        return cls(
            (weights[0] * scale, biases[0] * scale),
            (weights[1], biases[1]),
            (weights[2], biases[2]),
        )


def _cross_attention(
    graph: Graph, queries: str, places: str, pixels: Pixels, level: int, bias: str, layer: int
) -> str:
    sizes, source = graph.source.sizes, graph.source
    name = f"{PREDICTOR}.transformer_cross_attention_layers.{layer}"
    attention = f"{name}.multihead_attn"
    projections = _Projections.read(graph, attention)
    embedding = source[f"{PREDICTOR}.level_embed.weight"][level]
    already = source[f"{DECODER}.transformer.level_embed"][level]
    key_weight, key_bias = projections.key
    key_bias = key_bias + key_weight @ (embedding - already)
    value_weight, value_bias = projections.value
    value_bias = value_bias + value_weight @ embedding

    placed = graph.node("Add", queries, places)
    query = _heads_first(graph, graph.gemm(placed, f"{attention}.query", *projections.query))
    count = sizes.heads // HEAD_GROUPS
    parts = graph.split(query, 0, graph.ints(*[count] * HEAD_GROUPS), HEAD_GROUPS)
    width = count * sizes.head_width
    found = []
    for index, part in enumerate(parts):
        own = slice(index * width, (index + 1) * width)
        with graph.scope(f"heads{index}"):
            shape = graph.ints(count, sizes.head_width, -1)
            key = _of_columns(
                graph,
                pixels.placed[level],
                f"{attention}.key{index}",
                key_weight[own],
                key_bias[own],
            )
            key = graph.node("Reshape", key, shape)
            scores = graph.node("Add", graph.node("MatMul", part, key), bias)
            shares = graph.node("Softmax", scores, axis=-1)
            value = _of_columns(
                graph,
                pixels.tokens[level],
                f"{attention}.value{index}",
                value_weight[own],
                value_bias[own],
            )
            value = graph.node("Transpose", graph.node("Reshape", value, shape), perm=[0, 2, 1])
            found.append(graph.node("MatMul", shares, value))
    joined = _heads_last(graph, graph.node("Concat", *found, axis=0))
    queries = graph.linear(joined, f"{attention}.out_proj", added=queries)
    return graph.layer_norm(queries, f"{name}.norm")


def _of_columns(graph: Graph, columns: str, name: str, weight: Matrix, bias: Matrix) -> str:
    """A linear layer on [C, N]: weight·columns + bias."""
    names = graph.weight(f"{name}.weight", weight), graph.weight(f"{name}.bias", bias[:, None])
    return graph.layer_of_columns(columns, *names)


def _self_attention(graph: Graph, queries: str, places: str, layer: int) -> str:
    name = f"{PREDICTOR}.transformer_self_attention_layers.{layer}"
    attention = f"{name}.self_attn"
    projections = _Projections.read(graph, attention)
    placed = graph.node("Add", queries, places)
    query = _heads_first(graph, graph.gemm(placed, f"{attention}.query", *projections.query))
    keys = _heads_first(graph, graph.gemm(placed, f"{attention}.key", *projections.key))
    values = _heads_first(graph, graph.gemm(queries, f"{attention}.value", *projections.value))
    scores = graph.node("MatMul", query, graph.node("Transpose", keys, perm=[0, 2, 1]))
    found = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), values)
    queries = graph.linear(_heads_last(graph, found), f"{attention}.out_proj", added=queries)
    return graph.layer_norm(queries, f"{name}.norm")


def _feed_forward(graph: Graph, queries: str, layer: int) -> str:
    name = f"{PREDICTOR}.transformer_ffn_layers.{layer}"
    queries = graph.feed_forward(queries, graph.feed_forward_names(name), added=queries)
    return graph.layer_norm(queries, f"{name}.norm")


def _heads_first(graph: Graph, x: str) -> str:
    """[N, M·D] to [M, N, D]."""
    sizes = graph.source.sizes
    split = graph.node("Reshape", x, graph.ints(-1, sizes.heads, sizes.head_width))
    return graph.node("Transpose", split, perm=[1, 0, 2])


def _heads_last(graph: Graph, x: str) -> str:
    """[M, N, D] to [N, M·D]."""
    turned = graph.node("Transpose", x, perm=[1, 0, 2])
    return graph.node("Reshape", turned, graph.ints(-1, graph.source.sizes.width))
