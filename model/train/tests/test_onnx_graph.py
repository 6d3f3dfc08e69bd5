"""The exported graph against PyTorch, with random weights: what is tested is the graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from m2fp_train.classes import NUM_PARTS
from m2fp_train.network import NanoParser
from m2fp_train.onnx_graph import (
    INPUT_NAME,
    OPSET,
    OUTPUT_NAMES,
    open_session,
    verify_graph,
    write_graph,
)
from m2fp_train.queries import QueryParser, normalise


@pytest.fixture(scope="module")
def parser() -> QueryParser:
    torch.manual_seed(0)
    return QueryParser(NanoParser(), divisor=32).eval()


@pytest.fixture(scope="module")
def graph(parser: QueryParser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(parser, path)
    return path


def test_onnx_runtime_computes_what_pytorch_does(parser: QueryParser, graph: Path) -> None:
    assert verify_graph(parser, graph, ((64, 32), (47, 33), (1, 1), (100, 8), (65, 64))) < 1e-3


def test_verification_notices_other_weights(parser: QueryParser, graph: Path) -> None:
    torch.manual_seed(1)
    other = QueryParser(NanoParser(), parser.divisor).eval()
    with pytest.raises(AssertionError, match="pred_masks at 47x33"):
        verify_graph(other, graph, ((47, 33),))


def test_signature(graph: Path) -> None:
    model = onnx.load(str(graph))
    assert [entry.version for entry in model.opset_import] == [OPSET]
    session = open_session(graph)
    (image,) = session.get_inputs()
    assert (image.name, image.type) == (INPUT_NAME, "tensor(uint8)")
    assert image.shape == [1, 3, "height", "width"]
    logits, masks = session.get_outputs()
    assert (logits.name, logits.shape) == (OUTPUT_NAMES[0], [1, 21, 22])
    assert masks.name == OUTPUT_NAMES[1]
    outputs = session.run(None, {INPUT_NAME: np.zeros((1, 3, 33, 65), np.uint8)})
    assert [output.shape for output in outputs] == [(1, 21, 22), (1, 21, 16, 24)]


def test_padding_is_zero_after_normalisation(parser: QueryParser) -> None:
    image = torch.randint(0, 256, (1, 3, 33, 40), dtype=torch.uint8)
    padded = torch.zeros(1, 3, 64, 64)
    padded[:, :, :33, :40] = normalise(image)
    with torch.no_grad():
        human = parser.network(padded)[:, NUM_PARTS]
        _, masks = parser(image)
    torch.testing.assert_close(masks[:, NUM_PARTS], human)


def test_mask_logits_are_the_logits_of_softmax_probabilities(parser: QueryParser) -> None:
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = parser.network(normalise(image))[:, :NUM_PARTS].softmax(1)
        class_logits, masks = parser(image)
    torch.testing.assert_close(masks[:, :NUM_PARTS].sigmoid(), expected)
    probability = class_logits.softmax(-1)[0, :, :-1]
    torch.testing.assert_close(probability, torch.eye(NUM_PARTS + 1), atol=1e-4, rtol=0)
