"""Proves that ONNX Runtime computes what PyTorch does, at sizes of every kind.

Our own operators run only inside the Lambda function. So what is compared is the graph's twin with
standard operators: the same nodes but for those, the same weights to the byte.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from m2fp_export import deform_attn
from m2fp_export.errors import VerificationError
from m2fp_export.graph_parts import GROUP_NORM
from m2fp_export.graph_pixel_decoder import ADD_RESIZED
from m2fp_export.model import M2FP
from m2fp_export.onnx_graph import GRAPH_NAME, INPUT_NAME, OUTPUT_NAMES, write_graph

OPERATORS = (deform_attn.OP_TYPE, ADD_RESIZED, GROUP_NORM)
"""Our own, domain `m2fp`."""
SIZES = ((1138, 640), (480, 640), (512, 512), (131, 97), (333, 61), (1, 1))
"""(width, height): landscape, portrait, square, odd, elongated, tiny."""
TOLERANCE = 1e-4
"""Of the relative error of each output: ‖ours − theirs‖ / ‖theirs‖. Both sides compute in float32
and differ in the order of sums. Now and then that moves a pixel over the edge of an attention mask,
which alone can make some 1e-5."""


def verify(
    network: M2FP,
    graph: Path,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    tolerance: float = TOLERANCE,
) -> float:
    """The largest relative error over `sizes`; raises VerificationError above `tolerance`."""
    with TemporaryDirectory() as folder:
        runnable = graph
        if is_fused(graph):
            runnable = Path(folder) / GRAPH_NAME
            write_graph(network, runnable, portable=True)
            check_twins(network, graph, runnable)
        errors = list(relative_errors(network, runnable, sizes))
    for size, name, error in errors:
        if not error <= tolerance:
            width, height = size
            raise VerificationError(
                f"{graph}: {name} at {width}×{height} is {error:.1e} off, relative to what PyTorch "
                f"computes; at most {tolerance:.0e} is allowed"
            )
    return max(error for _, _, error in errors)


def relative_errors(
    network: M2FP, graph: Path, sizes: tuple[tuple[int, int], ...], threads: int = 2
) -> Iterator[tuple[tuple[int, int], str, float]]:
    session = open_session(graph, threads)
    generator = np.random.default_rng(0)
    for width, height in sizes:
        image = generator.integers(0, 256, (1, 3, height, width), dtype=np.uint8)
        with torch.no_grad():
            expected = [output.numpy() for output in network(torch.from_numpy(image))]
        actual = session.run(list(OUTPUT_NAMES), {INPUT_NAME: image})
        for name, theirs, ours in zip(OUTPUT_NAMES, expected, actual, strict=True):
            yield (width, height), name, relative_error(ours, theirs)


def relative_error(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    if ours.shape != theirs.shape:
        raise VerificationError(f"an output has the shape {ours.shape}, not {theirs.shape}")
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def open_session(
    path: Path, threads: int = 2, prepack: bool = False
) -> onnxruntime.InferenceSession:
    """A session that holds little memory: weights mapped, no arena, no patterns.

    prepack: copy weights into the layout of the kernels, which 8 bits need to be fast.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def is_fused(graph: Path) -> bool:
    """Whether it holds the operator that only the Lambda function has."""
    return bool(_fused_nodes(onnx.load(str(graph), load_external_data=False)))


def check_twins(network: M2FP, fused: Path, portable: Path) -> None:
    """Raises VerificationError unless both graphs differ in our own operators alone."""
    models = [onnx.load(str(path), load_external_data=False) for path in (fused, portable)]
    attentions = [n for n in _fused_nodes(models[0]) if n.op_type == deform_attn.OP_TYPE]
    if len(attentions) != network.sizes.encoder_layers:
        raise VerificationError(
            f"{fused}: it has {len(attentions)} nodes {deform_attn.DOMAIN}::{deform_attn.OP_TYPE} "
            f"where the encoder has {network.sizes.encoder_layers} layers"
        )
    for node in attentions:
        if len(node.input) != 4 or len(node.output) != 1 or node.attribute:
            raise VerificationError(f"{fused}: {node.name} does not have four inputs, one output")
    counts = [Counter(_signatures(model)) for model in models]
    missing = counts[0] - counts[1]
    missing = {key: n for key, n in missing.items() if key[0] not in OPERATORS}
    if missing:
        raise VerificationError(f"{fused}: nodes that its portable twin lacks: {missing}")
    if _digest(fused) != _digest(portable):
        raise VerificationError(f"{fused}: its weights are not those of the checkpoint")


def _fused_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == deform_attn.DOMAIN]


def _signatures(model: onnx.ModelProto) -> Iterator[tuple[str, str, bytes]]:
    """What a node does, by name: names come from the place in the network, not from a counter."""
    for node in model.graph.node:
        attributes = b"".join(sorted(a.SerializeToString() for a in node.attribute))
        scope = node.name.rpartition("/")[0]
        yield node.op_type, scope, attributes


def _digest(graph: Path) -> str:
    data = graph.with_name(graph.name + ".data")
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
