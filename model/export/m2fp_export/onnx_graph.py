"""Writes M2FP as ONNX: one image of any size in, class and mask logits out."""

from pathlib import Path

from onnx import TensorProto, helper

from m2fp_export.graph_backbone import backbone, prepare
from m2fp_export.graph_parts import Graph, Source
from m2fp_export.graph_pixel_decoder import pixel_decoder
from m2fp_export.graph_query_decoder import query_decoder
from m2fp_export.model import M2FP

INPUT_NAME = "image"
OUTPUT_NAMES = ("pred_logits", "pred_masks")
GRAPH_NAME = "model.onnx"


def write_graph(
    network: M2FP, path: Path, portable: bool = False, fused: bool = False
) -> list[Path]:
    """Write `network` to `path`, weights beside it; returns both files, the graph first.

    portable: standard operators alone instead of `m2fp::DeformAttn` and the others of our own.
    fused: convolutions and linear layers as `m2fp::Conv3x3`, `Conv1x1` and `Linear`, which are of
    floats: not for 8 bits.
    """
    sizes = network.sizes
    graph = Graph(Source(sizes, network.state_dict()), fused)
    features = backbone(graph, prepare(graph, INPUT_NAME))
    pixels = pixel_decoder(graph, features, portable)
    classes, masks = query_decoder(graph, pixels)
    graph.node("Unsqueeze", classes, graph.ints(0), output=OUTPUT_NAMES[0])
    size = graph.node("Shape", pixels.finest, start=2)
    shape = graph.node("Concat", graph.ints(1, sizes.queries), size, axis=0)
    graph.node("Reshape", masks, shape, output=OUTPUT_NAMES[1])
    inputs = [
        helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [1, 3, "height", "width"])
    ]
    shapes = (
        [1, sizes.queries, sizes.classes + 1],
        [1, sizes.queries, "mask_height", "mask_width"],
    )
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(OUTPUT_NAMES, shapes, strict=True)
    ]
    return [path, graph.save(path, inputs, outputs, "m2fp_export")]
