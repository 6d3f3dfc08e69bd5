"""Proves that ONNX Runtime computes what PyTorch does, at sizes of every kind.

Both compute in float32, so neither is right to the last digit: PyTorch in float64 judges both.

Our own operators run only inside the Lambda function. So what is compared is the graph's twin with
standard operators: the same nodes but for those, the same weights to the byte.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2fp_export import deform_attn
from m2fp_export.errors import VerificationError
from m2fp_export.graph_parts import CONV1X1, CONV3X3, GROUP_NORM, LINEAR
from m2fp_export.graph_pixel_decoder import ADD_RESIZED
from m2fp_export.model import M2FP
from m2fp_export.onnx_graph import GRAPH_NAME, INPUT_NAME, OUTPUT_NAMES, write_graph

logger = logging.getLogger("m2fp_export")

OPERATORS = (deform_attn.OP_TYPE, ADD_RESIZED, CONV1X1, CONV3X3, GROUP_NORM, LINEAR)
"""Our own, domain `m2fp`."""
SIZES = ((1, 1), (333, 61), (131, 97), (512, 512), (480, 640), (1138, 640))
"""(width, height): tiny, elongated, odd, square, portrait, landscape. The smallest come first: a
graph that is wrong is told in seconds."""
TOLERANCE = 1e-4
"""The least that is ever asked of an output's relative error, ‖ours − exact‖ / ‖exact‖."""
MULTIPLE = 4
"""Ours may be so many times as far from the exact answer as PyTorch's own float32 is: two programs
in float32 differ in the order of their sums, by processor and by version."""
SECOND_OPINIONS = 8
"""Rounding may move a pixel over the edge of an attention mask, which alone can make some 1e-4, in
one program and not in the other. Where ours is too far off, PyTorch rounds so many times more."""
ADVICE = (
    "The graph does not compute what the checkpoint says, and nothing was replaced. Try the "
    "versions that pyproject.toml names; if they fail too, please report this line. "
    "--tolerance accepts a larger error, --no-verify any"
)

Outputs = Sequence[NDArray[np.floating]]
"""In the order of OUTPUT_NAMES."""


@dataclass(frozen=True)
class Errors:
    """Relative errors of an output in float32, ours and PyTorch's own, against float64."""

    ours: float
    theirs: float

    def allowed(self, tolerance: float = TOLERANCE) -> float:
        """The greatest error that ours may have, beside theirs."""
        return max(tolerance, MULTIPLE * self.theirs)

    def acceptable(self, tolerance: float = TOLERANCE) -> bool:
        # Written so that an error that is not a number is none to accept.
        return self.ours <= self.allowed(tolerance)

    def __or__(self, other: "Errors") -> "Errors":
        """The largest of both; one that is not a number is larger than all."""
        ours, theirs = np.maximum((self.ours, self.theirs), (other.ours, other.theirs))
        return Errors(float(ours), float(theirs))

    def __str__(self) -> str:
        return f"{self.ours:.1e} off (PyTorch's own float32: {self.theirs:.1e})"


class Judge:
    """What the network computes in float64, and how far its float32 is from that."""

    def __init__(self, network: M2FP) -> None:
        self.network = network
        self.exact = deepcopy(network).double()

    def errors(
        self,
        image: Tensor,
        ours: Outputs,
        theirs: Outputs | None = None,
        tolerance: float = TOLERANCE,
    ) -> list[Errors]:
        """Of each output for `image`; theirs: another program's in float32, the network's own where
        none is given."""
        expected = outputs_of(self.exact, image)
        others = theirs or outputs_of(self.network, image)
        found = [
            Errors(relative_error(mine, right), relative_error(other, right))
            for mine, other, right in zip(ours, others, expected, strict=True)
        ]
        for seed in range(SECOND_OPINIONS):
            if all(errors.acceptable(tolerance) for errors in found):
                break
            logger.info("%s: PyTorch rounds once more", ", ".join(map(str, found)))
            others = outputs_of(stirred(self.network, seed), image)
            found = [
                errors | Errors(errors.ours, relative_error(other, right))
                for errors, other, right in zip(found, others, expected, strict=True)
            ]
        return found


def stirred(network: M2FP, seed: int) -> M2FP:
    """The same but for the last bit of its weights: what it answers differs as rounding does."""
    generator = torch.Generator().manual_seed(seed)
    other = deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            steps = torch.randint(-1, 2, parameter.shape, generator=generator)
            parameter.mul_(1 + steps * torch.finfo(parameter.dtype).eps)
    return other


def outputs_of(network: M2FP, image: Tensor) -> Outputs:
    with torch.no_grad():
        return [output.numpy() for output in network(image)]


def verify(
    network: M2FP,
    graph: Path,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    tolerance: float = TOLERANCE,
) -> Errors:
    """The largest errors over `sizes` and outputs; raises VerificationError at the first of ours
    that is above `tolerance` and above a multiple of PyTorch's own."""
    with TemporaryDirectory() as folder:
        runnable = graph
        if is_fused(graph):
            runnable = Path(folder) / GRAPH_NAME
            write_graph(network, runnable, portable=True)
            check_twins(network, graph, runnable)
        largest = Errors(0.0, 0.0)
        for (width, height), name, errors in errors_of(network, runnable, sizes, tolerance):
            largest |= errors
            if not errors.acceptable(tolerance):
                raise VerificationError(
                    f"{graph}: {name} at {width}×{height} is {errors.ours:.1e} off, relative to "
                    f"what PyTorch computes in float64; at most {errors.allowed(tolerance):.1e} is "
                    f"allowed, PyTorch's own float32 being {errors.theirs:.1e} off. {ADVICE}"
                )
    return largest


def errors_of(
    network: M2FP, graph: Path, sizes: tuple[tuple[int, int], ...], tolerance: float = TOLERANCE
) -> Iterator[tuple[tuple[int, int], str, Errors]]:
    """Of each size and output. Says how far it is: a large size takes PyTorch half a minute."""
    session = open_session(graph)
    judge = Judge(network)
    generator = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes, 1):
        image = generator.integers(0, 256, (1, 3, height, width), dtype=np.uint8)
        ours = session.run(list(OUTPUT_NAMES), {INPUT_NAME: image})
        found = judge.errors(torch.from_numpy(image), ours, tolerance=tolerance)
        named = list(zip(OUTPUT_NAMES, found, strict=True))
        told = ", ".join(f"{name} {errors}" for name, errors in named)
        logger.info("compared at %d×%d, %d of %d: %s", width, height, number, len(sizes), told)
        for name, errors in named:
            yield (width, height), name, errors


def relative_error(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    if ours.shape != theirs.shape:
        raise VerificationError(f"an output has the shape {ours.shape}, not {theirs.shape}")
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def open_session(
    path: Path, threads: int = 2, prepack: bool = False
) -> onnxruntime.InferenceSession:
    """A session that holds little memory, by `session_options`."""
    options = session_options(threads, prepack)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def session_options(threads: int = 2, prepack: bool = False) -> onnxruntime.SessionOptions:
    """Weights mapped, no arena, no patterns.

    prepack: copy weights into the layout of the kernels, which 8 bits need to be fast.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It would put into 8 bits, with one scale for all channels, what an 8-bit graph leaves float.
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "WeightBiasQuantization"
    )
    return options


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
    _check_products(fused, *models)
    if _digest(fused) != _digest(portable):
        raise VerificationError(
            f"{fused}: its weights are not those of the checkpoint. Name the checkpoint that it is "
            "made from, or export it again"
        )


def _fused_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == deform_attn.DOMAIN]


def _check_products(path: Path, fused: onnx.ModelProto, portable: onnx.ModelProto) -> None:
    """Each convolution and linear layer of ours is what the twin computes with the same weights and
    right after that, perhaps by rows."""
    twins: dict[str, list[onnx.NodeProto]] = {}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in portable.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            for name in node.input:
                twins.setdefault(name, []).append(node)
        for name in node.input:
            users.setdefault(name, []).append(node)
    stored = {tensor.name for tensor in portable.graph.initializer}
    for node in fused.graph.node:
        if node.op_type not in (CONV1X1, CONV3X3, LINEAR):
            continue
        # The product of masks and features has no weights of its own.
        weights = [name for name in node.input[1:3] if name in stored]
        own = (weights, len(node.input) > 3, _values(node))
        same = [
            _is_plain(twin) and _ended(twin, users, stored) == own
            for name in weights[:1]
            for twin in twins.get(name, [])
        ]
        if not all(same) or (weights and not same):
            raise VerificationError(f"{path}: {node.name} is not what its twin computes")


def _is_plain(node: onnx.NodeProto) -> bool:
    """Of stride 1 and not dilated; of a product, without factors and as it stands."""
    values = _values(node)
    if node.op_type == "Gemm":
        return not values
    return values.get("strides", [1, 1]) == [1, 1] and values.get("dilations", [1, 1]) == [1, 1]


def _ended(
    node: onnx.NodeProto, users: dict[str, list[onnx.NodeProto]], stored: set[str]
) -> tuple[list[str], bool, dict[str, int]]:
    """Names of a node's weights; whether something is added to its output; whether a Relu is taken,
    as our operators have it."""
    weights = [name for name in node.input if name in stored]
    following = users.get(node.output[0], [])
    # What is added comes second.
    added = [user for user in following if user.op_type == "Add" and user.input[0] in node.output]
    if added:
        following = users.get(added[0].output[0], [])
    rectified = any(user.op_type == "Relu" for user in following)
    return weights, bool(added), {"relu": int(rectified)}


def _values(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


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
