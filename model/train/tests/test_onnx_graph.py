"""The exported graph against PyTorch, with random weights: what is tested is the graph."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from m2fp_train.classes import BACKGROUND_ID, NUM_PARTS, PERSON_ID
from m2fp_train.network import NanoParser
from m2fp_train.onnx_graph import (
    INPUT_NAME,
    OPSET,
    OUTPUT_NAMES,
    open_session,
    simplify,
    store_small,
    trim_kernels,
    verify_graph,
    write_graph,
)
from m2fp_train.persons import agreed_masks, person_masks, somebody_logit
from m2fp_train.queries import (
    MOST_FURTHER_AGREEMENT,
    NUM_QUERIES,
    PERSON_QUERIES,
    SUREST_PART,
    QueryParser,
    normalise,
    softmax_logits,
)


@pytest.fixture(scope="module")
def parser() -> QueryParser:
    torch.manual_seed(0)
    network = NanoParser()
    network.centres.bias.data.zero_()  # somebody everywhere
    return QueryParser(network, divisor=32).eval()


@pytest.fixture(scope="module")
def graph(parser: QueryParser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(parser, path)
    return path


def test_onnx_runtime_computes_what_pytorch_does(parser: QueryParser, graph: Path) -> None:
    assert verify_graph(parser, graph, ((64, 32), (47, 33), (1, 1), (100, 8), (65, 64))) < 1e-3


class _Twice(torch.nn.Module):
    """A convolution whose kernel begins with a column of zeros, and with a row that is none, looks
    at an image and at what it made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 2, 4, stride=2, padding=1)
        self.conv.weight.data[..., 0] = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(self.conv(image))


def test_what_kernels_begin_with_in_vain_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, image, path = _Twice(), torch.randn(1, 2, 16, 24), tmp_path / "model.onnx"
    torch.onnx.export(module, (image,), str(path), opset_version=OPSET, input_names=["image"])
    trim_kernels(path)
    convolutions = [node for node in onnx.load(str(path)).graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        given = {attribute.name: list(attribute.ints) for attribute in node.attribute}
        assert (given["kernel_shape"], given["pads"]) == ([4, 3], [1, 0, 1, 1])
    (actual,) = open_session(path).run(None, {"image": image.numpy()})
    np.testing.assert_allclose(actual, module(image).detach().numpy(), atol=1e-5)


def test_mask_logits_of_parts_are_those_of_a_softmax_as_far_as_they_can_be_told() -> None:
    parts = torch.tensor([0.0, -2.0, -15.0, -60.0]).reshape(1, 4, 1, 1)
    odds = parts.exp()
    chances = parts.double().softmax(1)
    expected = (chances / (1 - chances)).log().clamp(max=SUREST_PART)
    actual = softmax_logits(parts, odds, odds.sum(1, keepdim=True))
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
    alone = softmax_logits(parts[:, :1], odds[:, :1], odds[:, :1])
    assert alone.item() == pytest.approx(SUREST_PART)


def test_halves_take_half_the_room_and_compute_nearly_the_same(graph: Path, tmp_path: Path) -> None:
    halved = tmp_path / "model.onnx"
    shutil.copy(graph, halved)
    store_small(halved)
    assert halved.stat().st_size < 0.55 * graph.stat().st_size
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    masks, expected = (
        open_session(path).run([OUTPUT_NAMES[1]], {INPUT_NAME: image})[0]
        for path in (halved, graph)
    )
    difference = np.abs(masks - expected)[:, :NUM_PARTS].max()
    assert 0 < difference < 0.02


def test_the_deepest_weights_are_stored_as_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(512, 512, 1, bias=False)
    conv.weight.data[0] = 0
    conv.weight.data[1] *= 100  # each channel has its own scale
    image, path = torch.randn(1, 512, 3, 3), tmp_path / "model.onnx"
    torch.onnx.export(conv, (image,), str(path), opset_version=OPSET, input_names=["image"])
    store_small(path)
    assert path.stat().st_size < 1.1 * conv.weight.numel()
    (actual,) = open_session(path).run(None, {"image": image.numpy()})
    expected = conv(image).detach().numpy()
    spread = np.abs(expected).max((0, 2, 3)) + 1e-9
    difference = np.abs(actual - expected).max((0, 2, 3))
    assert (difference < 0.02 * spread).all() and difference[2:].max() > 0


def test_a_simpler_graph_computes_the_same_and_names_every_size(
    graph: Path, tmp_path: Path
) -> None:
    simpler = tmp_path / "model.onnx"
    shutil.copy(graph, simpler)
    store_small(simpler)
    before = onnx.load(str(simpler))
    small = {tensor.name: tensor for tensor in before.graph.initializer if "small" in tensor.name}
    simplify(simpler)
    after = onnx.load(str(simpler))
    assert len(after.graph.node) < 0.7 * len(before.graph.node)
    stored = {tensor.name: tensor for tensor in after.graph.initializer}
    assert small and all(stored[name] == tensor for name, tensor in small.items())
    assert [opset.domain for opset in after.opset_import] == [""]
    assert after.graph.input == before.graph.input
    _, masks = after.graph.output
    assert [side.dim_param or side.dim_value for side in masks.type.tensor_type.shape.dim] == [
        *(1, NUM_QUERIES),
        *("mask_height", "mask_width"),
    ]
    shapes = {value.name: value.type.tensor_type.shape for value in after.graph.value_info}
    known = {*shapes, *(output.name for output in after.graph.output)}
    assert all(name in known for node in after.graph.node for name in node.output if name)
    sizes = [size for shape in shapes.values() for size in shape.dim]
    assert all(size.HasField("dim_value") or size.dim_param for size in sizes)
    for width, height in ((64, 32), (33, 129)):
        image = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
        outputs = [
            open_session(model.SerializeToString()).run(None, {INPUT_NAME: image})
            for model in (before, after)
        ]
        for expected, actual in zip(*outputs, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


def test_what_never_differs_is_not_computed_of_shapes(graph: Path, tmp_path: Path) -> None:
    simpler = tmp_path / "model.onnx"
    shutil.copy(graph, simpler)
    simplify(simpler)
    after = onnx.load(str(simpler)).graph
    free = {
        value.name: [bool(side.dim_param) for side in value.type.tensor_type.shape.dim]
        for value in after.value_info
    }
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in after.initializer}
    shapes = {node.output[0]: node.input[0] for node in after.node if node.op_type == "Shape"}
    computed = [
        node for node in after.node if node.op_type == "Reshape" and node.input[1] not in constants
    ]
    assert computed and all(sum(free[node.output[0]]) > 1 for node in computed)
    read = [node for node in after.node if node.op_type == "Gather" and node.input[0] in shapes]
    assert read and all(
        free[shapes[node.input[0]]][constants[node.input[1]].item()] for node in read
    )
    used = {name for node in after.node for name in node.input}
    assert used >= constants.keys()


def test_verification_notices_other_weights(parser: QueryParser, graph: Path) -> None:
    torch.manual_seed(1)
    other = QueryParser(NanoParser(), parser.divisor).eval()
    with pytest.raises(AssertionError, match="at 47x33"):
        verify_graph(other, graph, ((47, 33),))


def test_signature(graph: Path) -> None:
    model = onnx.load(str(graph))
    assert [entry.version for entry in model.opset_import] == [OPSET]
    session = open_session(graph)
    (image,) = session.get_inputs()
    assert (image.name, image.type) == (INPUT_NAME, "tensor(uint8)")
    assert image.shape == [1, 3, "height", "width"]
    logits, masks = session.get_outputs()
    assert (logits.name, logits.shape) == (OUTPUT_NAMES[0], [1, NUM_QUERIES, 22])
    assert masks.name == OUTPUT_NAMES[1]
    outputs = session.run(None, {INPUT_NAME: np.zeros((1, 3, 33, 65), np.uint8)})
    assert [output.shape for output in outputs] == [(1, NUM_QUERIES, 22), (1, NUM_QUERIES, 16, 24)]


def test_padding_is_zero_after_normalisation(parser: QueryParser) -> None:
    image = torch.randint(0, 256, (1, 3, 33, 40), dtype=torch.uint8)
    padded = torch.zeros(1, 3, 64, 64)
    padded[:, :, :33, :40] = normalise(image)
    with torch.no_grad():
        expected = parser(((padded + 1) * 127.5).round().to(torch.uint8))
        actual = parser(image)
    # 127.5 is no byte: the padding is half a grey level off.
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.2, rtol=0)


def test_mask_logits_are_the_logits_of_softmax_probabilities(parser: QueryParser) -> None:
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = parser.network(normalise(image)).logits[:, :NUM_PARTS].softmax(1)
        class_logits, masks = parser(image)
    torch.testing.assert_close(masks[:, :NUM_PARTS].sigmoid(), expected)
    probability = class_logits.softmax(-1)[0, :, :-1]
    torch.testing.assert_close(
        probability[:NUM_PARTS], torch.eye(NUM_PARTS, NUM_PARTS + 1), atol=1e-4, rtol=0
    )


def test_person_queries_are_the_highest_peaks_with_their_own_masks(parser: QueryParser) -> None:
    image = torch.randint(0, 256, (1, 3, 96, 160), dtype=torch.uint8)
    with torch.no_grad():
        answer = parser.network(normalise(image))
        class_logits, masks = parser(image)
        kernels = parser.network.kernels(answer.people.looks)
    best = int(answer.people.centres.argmax())
    row, column = divmod(best, 20)
    mask = person_masks(
        answer.people.features,
        kernels[:, :, row, column][:, None],
        torch.tensor([[[column * 8 + 4.0, row * 8 + 4.0]]]),
        stride=4,
    )
    somebody = somebody_logit(answer.logits[:, :NUM_PARTS])
    mask = agreed_masks(agreed_masks(mask, somebody), somebody, MOST_FURTHER_AGREEMENT)
    torch.testing.assert_close(masks[:, NUM_PARTS : NUM_PARTS + 1], mask)

    # The centre's probability, of which as much counts as the parts agree with the mask.
    weights = mask[0, 0].sigmoid() ** 2
    somebody = 1 - answer.logits[0, :NUM_PARTS].softmax(0)[BACKGROUND_ID]
    expected = answer.people.centres.max().sigmoid() * (weights * somebody).sum() / weights.sum()
    score = class_logits[0, NUM_PARTS].softmax(-1)[PERSON_ID]
    torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-3)


def test_a_person_made_of_background_is_nobody(parser: QueryParser) -> None:
    image = torch.randint(0, 256, (1, 3, 96, 160), dtype=torch.uint8)
    bias = parser.network.classifier.bias
    with torch.no_grad():
        before = parser(image)[0][0, NUM_PARTS:].softmax(-1)[:, PERSON_ID]
        bias[BACKGROUND_ID] += 30
        after = parser(image)[0][0, NUM_PARTS:].softmax(-1)[:, PERSON_ID]
        bias[BACKGROUND_ID] -= 30
    assert before.max() > 1e-3 and after.max() < 1e-4


def test_a_tiny_photo_has_fewer_persons_than_queries(parser: QueryParser) -> None:
    with torch.no_grad():
        class_logits, _ = parser(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    scores = class_logits[0, NUM_PARTS:].softmax(-1)[:, PERSON_ID]
    assert len(scores) == PERSON_QUERIES and (scores[4:] < 1e-6).all()
