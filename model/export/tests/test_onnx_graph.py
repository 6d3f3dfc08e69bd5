"""The graphs against PyTorch, and the shape that the Rust engine relies on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import shrunken
from m2fp_export import deform_attn
from m2fp_export.errors import VerificationError
from m2fp_export.graph_parts import CONV1X1, CONV3X3, GROUP_NORM, LINEAR
from m2fp_export.graph_pixel_decoder import ADD_RESIZED
from m2fp_export.model import M2FP
from m2fp_export.onnx_builder import INLINE_BYTES, OPSET, PAGE
from m2fp_export.onnx_graph import GRAPH_NAME, INPUT_NAME, OUTPUT_NAMES, write_graph
from m2fp_export.random_checkpoint import random_network
from m2fp_export.verify import Judge, check_twins, open_session, verify

SIZES = ((96, 64), (64, 96), (64, 64), (131, 97), (33, 7), (1, 1))


class Interpreter:
    """Runs a graph with `m2fp::DeformAttn`: its outputs become inputs, found layer by layer."""

    def __init__(self, graph: Path, folder: Path) -> None:
        model = onnx.load(str(graph))
        _expand(model, ADD_RESIZED, _as_resize_and_add)
        _expand(model, GROUP_NORM, _as_instance_norm)
        ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
        _expand(model, CONV3X3, partial(_as_standard, ranks))
        _expand(model, CONV1X1, partial(_as_standard, ranks))
        _expand(model, LINEAR, partial(_as_standard, ranks))
        self.attentions = [n for n in model.graph.node if n.op_type == deform_attn.OP_TYPE]
        for node in self.attentions:
            model.graph.node.remove(node)
            shape = [1, None, shrunken.SIZES.width]
            found = onnx.helper.make_tensor_value_info(
                node.output[0], onnx.TensorProto.FLOAT, shape
            )
            model.graph.input.append(found)
            for name in dict.fromkeys(node.input):
                if name not in {output.name for output in model.graph.output}:
                    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        path = folder / "opened.onnx"
        onnx.save(model, str(path))
        self.session = open_session(path)
        self.seen: list[list[NDArray[Any]]] = []

    def run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        feeds: dict[str, NDArray[Any]] = {INPUT_NAME: image}
        pixels = sum(
            (-(-image.shape[2] // 32)) * (-(-image.shape[3] // 32)) * k for k in (1, 4, 16)
        )
        for node in self.attentions:
            feeds[node.output[0]] = np.zeros((1, pixels, shrunken.SIZES.width), np.float32)
        for node in self.attentions:
            inputs = self.session.run(list(node.input), feeds)
            self.seen.append(inputs)
            feeds[node.output[0]] = deform_attn.attend_by_gathering(*inputs).astype(np.float32)
        return self.session.run(list(OUTPUT_NAMES), feeds)


def _expand(
    model: onnx.ModelProto, op_type: str, expanded: Callable[[onnx.NodeProto], list[onnx.NodeProto]]
) -> None:
    """Operators of our own as what they stand for."""
    nodes = [
        part
        for node in model.graph.node
        for part in (expanded(node) if node.op_type == op_type else [node])
    ]
    assert len(nodes) > len(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _as_resize_and_add(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (fine, coarse), (result,) = node.input, node.output
    resize = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return [
        onnx.helper.make_node("Shape", [fine], ["fine/shape"]),
        onnx.helper.make_node("Resize", [coarse, "", "", "fine/shape"], ["resized"], **resize),
        onnx.helper.make_node("Add", ["resized", fine], [result]),
    ]


def _as_instance_norm(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (x, scale, bias), (result,) = node.input, node.output
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    groups, epsilon = values["groups"], values["epsilon"]
    names = [f"{result}/{i}" for i in range(9)]

    def constant(output: str, value: NDArray[Any]) -> onnx.NodeProto:
        tensor = onnx.numpy_helper.from_array(value)
        return onnx.helper.make_node("Constant", [], [output], value=tensor)

    make = onnx.helper.make_node
    return [
        constant(names[0], np.array([1, groups, -1])),
        constant(names[1], np.ones(groups, np.float32)),
        constant(names[2], np.zeros(groups, np.float32)),
        make("Shape", [x], [names[3]]),
        make("Reshape", [x, names[0]], [names[4]]),
        make("InstanceNormalization", names[4:5] + names[1:3], names[5:6], epsilon=epsilon),
        make("Reshape", [names[5], names[3]], [names[6]]),
        make("Mul", [names[6], scale], [names[7]]),
        make("Add", [names[7], bias], [names[8]]),
        make("Relu" if values["relu"] else "Identity", [names[8]], [result]),
    ]


def _as_standard(ranks: dict[str, int], node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A convolution or a linear layer, with the addition and the Relu that follow it."""
    x, weight, bias, added = [*node.input, "", ""][:4]
    (result,) = node.output
    (relu,) = (onnx.helper.get_attribute_value(a) for a in node.attribute)
    make = onnx.helper.make_node
    if node.op_type == LINEAR:
        nodes = [make("Gemm", [x, weight, bias], [f"{result}/product"])]
    elif node.op_type == CONV1X1 and ranks.get(weight) != 4:
        nodes = [make("Gemm", [weight, x, bias], [f"{result}/product"])]
    else:
        inputs = [x, weight, bias] if bias else [x, weight]
        pads = [1 if node.op_type == CONV3X3 else 0] * 4
        nodes = [make("Conv", inputs, [f"{result}/product"], pads=pads)]
    if added:
        nodes.append(make("Add", [*nodes[-1].output, added], [f"{result}/added"]))
    return [*nodes, make("Relu" if relu else "Identity", nodes[-1].output, [result])]


@pytest.fixture(scope="module")
def fused(network: M2FP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fused") / GRAPH_NAME
    return write_graph(network, path, fused=True)[0]


@pytest.fixture(scope="module")
def portable(network: M2FP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("portable") / GRAPH_NAME
    return write_graph(network, path, portable=True)[0]


def test_onnx_runtime_computes_what_pytorch_does(network: M2FP, portable: Path) -> None:
    assert verify(network, portable, SIZES).acceptable()


def test_the_fused_graph_computes_what_pytorch_does(
    network: M2FP, fused: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 50, 70), dtype=np.uint8)
    outputs = Interpreter(fused, tmp_path).run(image)
    for errors in Judge(network).errors(torch.from_numpy(image), outputs):
        assert errors.acceptable(), errors


def test_both_graphs_are_twins(network: M2FP, fused: Path, portable: Path) -> None:
    check_twins(network, fused, portable)
    assert verify(network, fused, ((40, 30),)).acceptable()


def test_other_weights_are_noticed(network: M2FP, fused: Path, portable: Path) -> None:
    other = random_network(network.sizes, seed=1)
    with pytest.raises(VerificationError, match="pred_logits at 33×7"):
        verify(other, portable, ((33, 7),))
    with pytest.raises(VerificationError, match="weights"):
        verify(other, fused, ((33, 7),))


@pytest.mark.parametrize("op_type", [CONV3X3, CONV1X1, LINEAR])
def test_a_product_that_differs_from_its_twins_is_noticed(
    network: M2FP, fused: Path, portable: Path, tmp_path: Path, op_type: str
) -> None:
    def spoilt(change: Callable[[onnx.NodeProto], None]) -> Path:
        model = onnx.load(str(fused), load_external_data=False)
        nodes = [node for node in model.graph.node if node.op_type == op_type]
        # One with a Relu and a bias, and with something added where the operator can do that.
        change(max(nodes, key=lambda node: (node.attribute[0].i, len(node.input))))
        path = tmp_path / GRAPH_NAME
        onnx.save(model, str(path))
        path.with_name(path.name + ".data").write_bytes(
            fused.with_name(fused.name + ".data").read_bytes()
        )
        return path

    def without_relu(node: onnx.NodeProto) -> None:
        node.attribute[0].i = 0

    def without_bias(node: onnx.NodeProto) -> None:
        node.input[2] = ""

    def with_another_bias(node: onnx.NodeProto) -> None:
        node.input[2] = "backbone.stem.conv1.bias"

    def with_another_sum(node: onnx.NodeProto) -> None:
        if len(node.input) > 3:
            del node.input[3]
        else:
            node.input.append(node.input[0])

    check_twins(network, spoilt(lambda _: None), portable)
    for change in (without_relu, without_bias, with_another_bias, with_another_sum):
        with pytest.raises(VerificationError, match="not what its twin computes"):
            check_twins(network, spoilt(change), portable)


def test_our_convolutions_are_of_stride_1(network: M2FP, fused: Path) -> None:
    model = onnx.load(str(fused), load_external_data=False)
    dims = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    ours = [node for node in model.graph.node if node.op_type == CONV3X3]
    assert all(dims[node.input[1]][2:] == [3, 3] for node in ours)
    # Two of the stem, whose last is computed in two parts, the pyramid's, and of each stage all but
    # the first block, which has stride 2 from the second stage on.
    assert len(ours) == 1 + 2 + 1 + sum(network.sizes.blocks) - 3
    left = [n for n in model.graph.node if n.op_type == "Conv" and dims[n.input[1]][2:] == [3, 3]]
    strides = [a.ints[0] for node in left for a in node.attribute if a.name == "strides"]
    assert strides == [2] * len(left) == [2] * 4
    plain = [n for n in model.graph.node if n.op_type == "Conv" and n not in left]
    strides = [a.ints[0] for node in plain for a in node.attribute if a.name == "strides"]
    assert strides == [2] * len(plain) == [2] * 3
    assert not [node for node in model.graph.node if node.op_type == "Gemm"]


def test_masks_that_are_all_empty(network: M2FP, tmp_path: Path) -> None:
    shifted = M2FP(network.sizes).eval()
    shifted.load_state_dict(network.state_dict())
    with torch.no_grad():
        shifted.sem_seg_head.predictor.mask_embed.layers[2].bias[0] = -1e3
    graph = write_graph(shifted, tmp_path / GRAPH_NAME, portable=True)[0]
    assert verify(shifted, graph, ((64, 64),)).acceptable()


def test_signature(network: M2FP, portable: Path) -> None:
    session = open_session(portable)
    (image,) = session.get_inputs()
    assert (image.name, image.type) == (INPUT_NAME, "tensor(uint8)")
    assert image.shape == [1, 3, "height", "width"]
    classes, masks = session.get_outputs()
    assert (classes.name, classes.shape) == (OUTPUT_NAMES[0], [1, 10, 9])
    assert (masks.name, masks.shape[:2]) == (OUTPUT_NAMES[1], [1, 10])
    outputs = session.run(None, {INPUT_NAME: np.zeros((1, 3, 33, 65), np.uint8)})
    assert [output.shape for output in outputs] == [(1, 10, 9), (1, 10, 16, 24)]


def test_the_operator_and_its_inputs(network: M2FP, fused: Path, tmp_path: Path) -> None:
    model = onnx.load(str(fused))
    domains = {entry.domain: entry.version for entry in model.opset_import}
    assert domains == {"": OPSET, "m2fp": 1}
    interpreter = Interpreter(fused, tmp_path)
    assert len(interpreter.attentions) == network.sizes.encoder_layers
    interpreter.run(np.zeros((1, 3, 40, 70), np.uint8))
    for value, offsets, logits, levels in interpreter.seen:
        assert value.shape == (1, 126, 8, 8)
        assert offsets.shape == (1, 126, 8, 3, 4, 2)
        assert logits.shape == (1, 126, 8, 3, 4)
        assert levels.dtype == np.int64 and levels.tolist() == [[2, 3], [4, 6], [8, 12]]


def test_weights_are_apart_and_start_at_pages(fused: Path) -> None:
    model = onnx.load(str(fused), load_external_data=False)
    data = fused.with_name("model.onnx.data")
    end = 0
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            assert len(tensor.raw_data) < INLINE_BYTES
            continue
        entry = {pair.key: pair.value for pair in tensor.external_data}
        assert entry["location"] == data.name
        offset, length = int(entry["offset"]), int(entry["length"])
        assert offset % PAGE == 0 and offset >= end
        end = offset + length
    assert end == data.stat().st_size > 0


def test_every_weight_of_the_network_is_in_the_graph_once(network: M2FP, fused: Path) -> None:
    """Folding adds biases, composes and drops little: no tensor may come twice."""
    model = onnx.load(str(fused))
    stored = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    own = sum(parameter.numel() for parameter in network.parameters())
    assert 0.95 * own < stored < 1.02 * own


def test_no_table_grows_with_the_image(fused: Path) -> None:
    """Nothing that ONNX Runtime could fold at load: every large weight is the network's own."""
    model = onnx.load(str(fused), load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("constant/"):
            assert np.prod(tensor.dims) <= 64, tensor.name


@pytest.mark.full
def test_resnet101_at_ordinary_and_odd_sizes(full_network: M2FP, tmp_path: Path) -> None:
    graph = write_graph(full_network, tmp_path / GRAPH_NAME)[0]
    sizes = ((640, 480), (256, 416), (131, 97), (1, 1))
    assert verify(full_network, graph, sizes).acceptable()
