"""The graph's second part: the deformable encoder and the step up to stride 4."""

import math
from dataclasses import dataclass

from m2fp_export import deform_attn, position
from m2fp_export.architecture import LEVELS
from m2fp_export.graph_parts import Graph

FEED_FORWARD_SLICES = 3
"""The encoder's hidden layer is computed for a part of the pixels at a time. It divides the pixels'
number, which is 21 times that of the coarsest level."""
STRIPES = 4
"""The last 3×3 convolution is computed for a part of the rows at a time: in 8 bits ONNX Runtime
writes each pixel's neighbourhood out, 106 MB for a 1138×640 image at once. It divides the rows'
number, which is a multiple of 8."""
ADD_RESIZED = "AddResized"
"""`m2fp::AddResized`, version 1: input 0 fine, float [1, C, H, W], input 1 coarse, float
[1, C, h, w]; output fine + coarse resized as `Resize` does with mode linear, half_pixel."""
DECODER = "sem_seg_head.pixel_decoder"


@dataclass(frozen=True)
class Pixels:
    """What the query decoder reads.

    tokens, placed: for each level float [C, Hₗ·Wₗ], encoded pixels without and with position (and
    the encoder's level embedding). A pixel is a column here: as a map they serve the pyramid, and
    keys come out of a product the way that scores need them.
    finest: float [1, C, H/4, W/4]; mask features are a 1×1 convolution of it.
    """

    tokens: list[str]
    placed: list[str]
    finest: str


def pixel_decoder(graph: Graph, features: list[str], portable: bool) -> Pixels:
    res2, *coarse = features
    maps = []
    for level, feature in enumerate(reversed(coarse)):
        name = f"{DECODER}.input_proj.{level}"
        with graph.scope(name):
            source = graph.source
            weight, bias = source[f"{name}.0.weight"], source[f"{name}.0.bias"]
            x = graph.conv1x1(feature, f"{name}.0", weight, bias)
            maps.append(graph.group_norm(x, f"{name}.1", portable))
    levels = _Levels(graph, maps)
    tokens = graph.node("Concat", *[_map_to_rows(graph, x) for x in maps], axis=0)
    positions = _positions(graph, maps)
    for layer in range(graph.source.sizes.encoder_layers):
        name = f"{DECODER}.transformer.encoder.layers.{layer}"
        with graph.scope(name):
            tokens = _encoder_layer(graph, tokens, positions, levels, name, portable)
    # Split first, added level by level: the wholes are gone while the pyramid needs its memory.
    columns = graph.node("Transpose", tokens, perm=[1, 0])
    parts = graph.split(columns, 1, levels.counts, LEVELS)
    finest = _finest(graph, _delayed(graph, res2, tokens, levels), parts[-1], levels, portable)
    places = graph.node("Transpose", positions, perm=[1, 0])
    own = graph.split(places, 1, levels.counts, LEVELS)
    placed = [graph.node("Add", *pair) for pair in zip(own, parts, strict=True)]
    return Pixels(parts, placed, finest)


def _delayed(graph: Graph, x: str, tokens: str, levels: "_Levels") -> str:
    """`x` itself, but not before `tokens` are there: they are S rows, so what is added is 0.

    ONNX Runtime would compute the lateral map at once, where it needs the memory thrice.
    """
    with graph.scope(f"{DECODER}.delay"):
        rows = graph.node("Shape", tokens, end=1)
        zero = graph.node("Sub", rows, levels.total)
        return graph.node("Reshape", x, graph.node("Add", graph.node("Shape", x), zero))


class _Levels:
    """Int64 tensors: the levels' sides [2] each, shapes [L, 2], counts of pixels [L], their total
    [1], and the bounds of the slices of the feed-forward layers, [1] each."""

    def __init__(self, graph: Graph, maps: list[str]) -> None:
        with graph.scope("levels"):
            sides = [graph.node("Shape", x, start=2) for x in maps]
            self.sides = sides
            rows = [graph.node("Unsqueeze", side, graph.ints(0)) for side in sides]
            self.shapes = graph.node("Concat", *rows, axis=0)
            self._references = ""
            self.counts = graph.node("ReduceProd", self.shapes, axes=[1], keepdims=0)
            self.total = graph.node("ReduceSum", self.counts, keepdims=1)
            step = graph.node("Div", self.total, graph.ints(FEED_FORWARD_SLICES))
            self.bounds = [
                graph.node("Mul", step, graph.ints(index))
                for index in range(FEED_FORWARD_SLICES + 1)
            ]

    def references(self, graph: Graph) -> str:
        """[S, 1, 2]: (x, y) of every pixel's centre, 0 to 1 across its level."""
        if not self._references:
            parts = [_reference_points(graph, side) for side in self.sides]
            joined = graph.node("Concat", *parts, axis=0)
            self._references = graph.node("Unsqueeze", joined, graph.ints(1))
        return self._references


def _reference_points(graph: Graph, side: str) -> str:
    axes = []
    for axis in (1, 0):
        length = graph.node("Gather", side, graph.scalar_int(axis), axis=0)
        places = graph.node("Range", graph.scalar_int(0), length, graph.scalar_int(1))
        centres = graph.node("Add", graph.node("Cast", places, to=1), graph.floats(0.5))
        shares = graph.node("Div", centres, graph.node("Cast", length, to=1))
        if axis == 0:
            shares = graph.node("Unsqueeze", shares, graph.ints(1))
        grid = graph.node("Expand", shares, side)
        axes.append(graph.node("Reshape", grid, graph.ints(-1, 1)))
    return graph.node("Concat", *axes, axis=1)


def _map_to_rows(graph: Graph, x: str) -> str:
    return graph.node("Transpose", graph.map_to_columns(x), perm=[1, 0])


def _positions(graph: Graph, maps: list[str]) -> str:
    """[S, C]: positions and level embeddings, from the levels' sizes: no table is stored."""
    embeddings = graph.source[f"{DECODER}.transformer.level_embed"]
    half = graph.source.sizes.width // 2
    parts = []
    for level, x in enumerate(maps):
        with graph.scope(f"positions.{level}"):
            axes = []
            for axis in (0, 1):
                length = graph.node("Shape", x, start=2 + axis, end=3 + axis)
                own = graph.weight(
                    f"positions.{level}.embedding{axis}",
                    embeddings[level, axis * half : (axis + 1) * half],
                )
                axes.append(graph.node("Add", _encode_axis(graph, length, half), own))
            shape = graph.node("Concat", graph.node("Shape", x, start=2), graph.ints(half), axis=0)
            rows = graph.node("Expand", graph.node("Unsqueeze", axes[0], graph.ints(1)), shape)
            columns = graph.node("Expand", axes[1], shape)
            both = graph.node("Concat", rows, columns, axis=2)
            parts.append(graph.node("Reshape", both, graph.ints(-1, 2 * half)))
    return graph.node("Concat", *parts, axis=0)


def _encode_axis(graph: Graph, length: str, channels: int) -> str:
    """[length, channels], as `position.encode` has it for one axis."""
    end = graph.node("Add", graph.node("Squeeze", length), graph.scalar_int(1))
    places = graph.node("Range", graph.scalar_int(1), end, graph.scalar_int(1))
    places = graph.node("Cast", places, to=1)
    extent = graph.node("Add", graph.node("Cast", length, to=1), graph.floats(position.EPSILON))
    angles = graph.node("Mul", graph.node("Div", places, extent), graph.floats(2 * math.pi))
    frequencies = graph.floats(*position.frequencies(channels // 2).tolist())
    angles = graph.node("Div", graph.node("Unsqueeze", angles, graph.ints(1)), frequencies)
    waves = [
        graph.node("Unsqueeze", graph.node(wave, angles), graph.ints(2)) for wave in ("Sin", "Cos")
    ]
    return graph.node("Reshape", graph.node("Concat", *waves, axis=2), graph.ints(-1, channels))


def _encoder_layer(
    graph: Graph, tokens: str, positions: str, levels: _Levels, name: str, portable: bool
) -> str:
    sizes = graph.source.sizes
    taps = (sizes.heads, LEVELS, sizes.points)
    attention = f"{name}.self_attn"
    queries = graph.node("Add", tokens, positions)
    offsets = graph.linear(queries, f"{attention}.sampling_offsets")
    offsets = graph.node("Reshape", offsets, graph.ints(1, -1, *taps, 2))
    logits = graph.linear(queries, f"{attention}.attention_weights")
    logits = graph.node("Reshape", logits, graph.ints(1, -1, *taps))
    value = graph.linear(tokens, f"{attention}.value_proj")
    value = graph.node("Reshape", value, graph.ints(1, -1, sizes.heads, sizes.head_width))
    attend = _attend_portably if portable else _attend
    # Of its own scope, so that all else has the same names in both forms of the graph.
    with graph.scope("attention"):
        found = attend(graph, value, offsets, logits, levels, f"{name}/attended")
    found = graph.node("Reshape", found, graph.ints(-1, sizes.width))
    tokens = graph.linear(found, f"{attention}.output_proj", added=tokens)
    tokens = graph.layer_norm(tokens, f"{name}.norm1")
    return graph.layer_norm(_feed_forward(graph, tokens, levels, name), f"{name}.norm2")


def _attend(
    graph: Graph, value: str, offsets: str, logits: str, levels: _Levels, output: str
) -> str:
    return graph.node(
        deform_attn.OP_TYPE,
        value,
        offsets,
        logits,
        levels.shapes,
        domain=deform_attn.DOMAIN,
        version=deform_attn.VERSION,
        output=output,
    )


def _attend_portably(
    graph: Graph, value: str, offsets: str, logits: str, levels: _Levels, output: str
) -> str:
    """The same by `GridSample`: any runtime has it, at the price of [M·D, S, P] floats a level."""
    sizes = graph.source.sizes
    heads, points = sizes.heads, sizes.points
    flat = graph.node("Reshape", logits, graph.ints(0, 0, heads, LEVELS * points))
    weights = graph.node(
        "Reshape", graph.node("Softmax", flat, axis=-1), graph.ints(-1, heads, LEVELS, points)
    )
    # Everything with the head in front: [M, S, L, P(, 2)].
    weights = graph.node("Transpose", weights, perm=[1, 0, 2, 3])
    offsets = graph.node("Reshape", offsets, graph.ints(-1, heads, LEVELS, points, 2))
    offsets = graph.node("Transpose", offsets, perm=[1, 0, 2, 3, 4])
    values = graph.split(value, 1, levels.counts, LEVELS)
    references = levels.references(graph)
    total = ""
    for level, part in enumerate(values):
        with graph.scope(f"level{level}"):
            at = graph.ints(level)
            width_height = graph.node("Gather", levels.sides[level], graph.ints(1, 0), axis=0)
            extent = graph.node("Cast", width_height, to=1)
            shift = graph.node("Gather", offsets, graph.scalar_int(level), axis=2)
            places = graph.node("Add", graph.node("Div", shift, extent), references)
            two, one = graph.floats(2.0), graph.floats(1.0)
            grid = graph.node("Sub", graph.node("Mul", places, two), one)
            rows = graph.node("Transpose", part, perm=[0, 2, 3, 1])
            shape = graph.node(
                "Concat", graph.ints(heads, sizes.head_width), levels.sides[level], axis=0
            )
            planes = graph.node("Reshape", rows, shape)
            sampled = graph.node(
                "GridSample", planes, grid, align_corners=0, mode="bilinear", padding_mode="zeros"
            )
            share = graph.node("Gather", weights, at, axis=2)  # [M, S, 1, P]
            share = graph.node("Transpose", share, perm=[0, 2, 1, 3])
            weighed = graph.node("Mul", sampled, share)
            summed = graph.node("ReduceSum", weighed, graph.ints(3), keepdims=0)  # [M, D, S]
            total = graph.node("Add", total, summed) if total else summed
    return graph.node("Transpose", total, perm=[2, 0, 1], output=output)


def _feed_forward(graph: Graph, tokens: str, levels: _Levels, name: str) -> str:
    """The hidden layers' output, with `tokens` added."""
    names = graph.feed_forward_names(name)
    parts = []
    for index in range(FEED_FORWARD_SLICES):
        start, end = levels.bounds[index : index + 2]
        part = graph.node("Slice", tokens, start, end, graph.ints(0))
        parts.append(graph.feed_forward(part, names, added=part))
    return graph.node("Concat", *parts, axis=0)


def _finest(graph: Graph, res2: str, columns: str, levels: _Levels, portable: bool) -> str:
    """One step of a feature pyramid, from stride 8 to stride 4."""
    source = graph.source
    with graph.scope(f"{DECODER}.pyramid"):
        name = f"{DECODER}.adapter_1"
        lateral = graph.conv1x1(res2, name, source[f"{name}.weight"], None)
        lateral = graph.group_norm(lateral, f"{name}.norm", portable)
        shape = graph.node("Concat", graph.ints(1, source.sizes.width), levels.sides[-1], axis=0)
        above = graph.node("Reshape", columns, shape)
        add = _add_resized_portably if portable else _add_resized
        with graph.scope("sum"):
            x = add(graph, lateral, above, f"{DECODER}.pyramid/summed")
        name = f"{DECODER}.layer_1"
        if graph.fused:
            x = graph.conv3x3(x, name, source[f"{name}.weight"], None)
        else:
            x = _conv_by_stripes(graph, x, name)
        return graph.group_norm(x, f"{name}.norm", portable, relu=True)


def _add_resized(graph: Graph, fine: str, coarse: str, output: str) -> str:
    """`fine` + `coarse`, bilinearly at its size: no map but the sum is written."""
    return graph.node(
        ADD_RESIZED,
        *(fine, coarse),
        domain=deform_attn.DOMAIN,
        version=deform_attn.VERSION,
        output=output,
    )


def _add_resized_portably(graph: Graph, fine: str, coarse: str, output: str) -> str:
    return graph.node("Add", graph.resize_to(coarse, fine), fine, output=output)


def _conv_by_stripes(graph: Graph, x: str, name: str) -> str:
    """A 3×3 convolution padded by one: each stripe reads a row more above and below."""
    weight = graph.weight(f"{name}.weight", graph.source[f"{name}.weight"])
    rows = graph.node("Shape", x, start=2, end=3)
    step = graph.node("Div", rows, graph.ints(STRIPES))
    one, axis = graph.ints(1), graph.ints(2)
    stripes = []
    for index in range(STRIPES):
        first, last = index == 0, index == STRIPES - 1
        start = graph.ints(0)
        if not first:
            start = graph.node("Sub", graph.node("Mul", step, graph.ints(index)), one)
        end = rows
        if not last:
            end = graph.node("Add", graph.node("Mul", step, graph.ints(index + 1)), one)
        stripe = graph.node("Slice", x, start, end, axis)
        pads = [int(first), 1, int(last), 1]
        stripes.append(graph.node("Conv", stripe, weight, pads=pads))
    return graph.node("Concat", *stripes, axis=2)
