"""The graph's first part: image to features, batch normalisation folded into the convolutions."""

import numpy as np

from m2fp_export.architecture import DIVISOR, PIXEL_MEAN, PIXEL_STD
from m2fp_export.graph_parts import EPSILON, Graph, Matrix

STEM_PARTS = 2
"""The stem's last convolution, whose output is the largest tensor of all, is computed and pooled in
so many groups of channels."""


def prepare(graph: Graph, image: str) -> str:
    """uint8 [1, 3, H, W] to normalised float, with zeros up to multiples of the divisor."""
    with graph.scope("prepare"):
        mean = graph.floats(*PIXEL_MEAN, shape=(3, 1, 1))
        std = graph.floats(*PIXEL_STD, shape=(3, 1, 1))
        pixels = graph.node("Cast", image, to=1)
        normal = graph.node("Div", graph.node("Sub", pixels, mean), std)
        size = graph.node("Shape", image, start=2)
        # Mod takes the divisor's sign, so this is what is missing to the next multiple.
        lacking = graph.node("Mod", graph.node("Neg", size), graph.ints(DIVISOR))
        pads = graph.node("Concat", graph.ints(0, 0, 0, 0, 0, 0), lacking, axis=0)
        return graph.node("Pad", normal, pads, graph.scalar(0.0))


def backbone(graph: Graph, image: str) -> list[str]:
    """Features of res2 to res5."""
    x = _stem(graph, image)
    features = []
    sizes = graph.source.sizes
    for stage, count in enumerate(sizes.blocks):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            dilation = sizes.res5_dilations[index] if stage == 3 else 1
            name = f"backbone.res{stage + 2}.{index}"
            with graph.scope(name):
                x = _bottleneck(graph, x, name, stride, dilation)
        features.append(x)
    return features


def _stem(graph: Graph, x: str) -> str:
    with graph.scope("backbone.stem"):
        x = _conv(graph, x, "backbone.stem.conv1", stride=2, relu=True)
        x = _conv(graph, x, "backbone.stem.conv2", relu=True)
        weight, bias = folded(graph, "backbone.stem.conv3")
        parts = []
        pairs = zip(np.split(weight, STEM_PARTS), np.split(bias, STEM_PARTS), strict=True)
        for index, (part_weight, part_bias) in enumerate(pairs):
            name = f"backbone.stem.conv3.part{index}"
            part = graph.conv3x3(x, name, part_weight, part_bias, relu=True)
            pooled = graph.node("MaxPool", part, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
            parts.append(pooled)
        return graph.node("Concat", *parts, axis=1)


def _bottleneck(graph: Graph, x: str, name: str, stride: int, dilation: int) -> str:
    y = _conv(graph, x, f"{name}.conv1", relu=True)
    y = _conv(graph, y, f"{name}.conv2", stride, dilation, relu=True)
    if f"{name}.shortcut.weight" in graph.source.state:
        x = _conv(graph, x, f"{name}.shortcut", stride)
    return graph.conv1x1(y, f"{name}.conv3", *folded(graph, f"{name}.conv3"), added=x, relu=True)


def _conv(
    graph: Graph, x: str, name: str, stride: int = 1, dilation: int = 1, relu: bool = False
) -> str:
    weight, bias = folded(graph, name)
    if weight.shape[2] == 3 and stride == dilation == 1:
        return graph.conv3x3(x, name, weight, bias, relu)
    if weight.shape[2] == stride == 1:
        return graph.conv1x1(x, name, weight, bias, relu=relu)
    padding = dilation * (weight.shape[2] // 2)
    y = graph.conv(
        x, name, weight, bias, strides=[stride] * 2, dilations=[dilation] * 2, pads=[padding] * 4
    )
    return graph.node("Relu", y) if relu else y


def folded(graph: Graph, name: str) -> tuple[Matrix, Matrix]:
    """Weight and bias of a convolution with its batch normalisation inside."""
    source = graph.source
    scale = source[f"{name}.norm.weight"] / np.sqrt(source[f"{name}.norm.running_var"] + EPSILON)
    shift = source[f"{name}.norm.bias"] - source[f"{name}.norm.running_mean"] * scale
    return source[f"{name}.weight"] * scale[:, None, None, None], shift
