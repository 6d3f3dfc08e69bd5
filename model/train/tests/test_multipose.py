import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from m2fp_train.multipose import Multipose, load_multipose
from m2fp_train.multipose_parser import MultiposeParser, person_boxes
from m2fp_train.multipose_queries import MultiposeQueryParser, keypoint_factor
from m2fp_train.onnx_graph import verify_graph, write_graph
from m2fp_train.queries import NUM_QUERIES
from synthetic import people_at, write_multipose


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teachers") / "movenet-multipose-heads.onnx"
    write_multipose(path)
    return path


def test_the_heads_are_those_of_the_published_graph(graph: Path) -> None:
    network = Multipose().eval()
    load_multipose(network, graph)
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"image": image})
    with torch.no_grad():
        _, ours = network(torch.from_numpy(image / 127.5 - 1))
    probabilities = (ours.centres.sigmoid(), *ours[1:3], ours.keypoints.sigmoid(), ours.ways)
    for expected, actual in zip(theirs, probabilities, strict=True):
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-2)


def test_another_graph_is_refused(graph: Path) -> None:
    network = Multipose()
    network.top = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="another shape"):
        load_multipose(network, graph)


def test_a_box_is_where_the_heads_say() -> None:
    heads = people_at(row=3, column=5, height=8, width=4)
    _, boxes = person_boxes(heads, torch.tensor([[3 * 16 + 5]]))
    assert boxes.centres.tolist() == [[[22, 14]]], "x and y of the middle of the cell"
    assert boxes.sizes.tolist() == [[[16, 32]]]


def test_keypoints_count_where_the_centre_thinks_they_are() -> None:
    heads = people_at(row=3, column=5, height=8, width=4)
    heads.ways[:, 0] = 4  # the first keypoint is four cells below
    heads.keypoints[:, 0, 7, 5] = 2.0
    cell = torch.tensor([[3 * 16 + 5]])
    assert keypoint_factor(heads, cell).item() == pytest.approx(torch.tensor(2.0).sigmoid().item())
    heads.ways[:, 0] = -3
    assert keypoint_factor(heads, cell).item() == 0


def test_masks_stay_near_their_boxes() -> None:
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    with torch.no_grad():
        answer = network(torch.zeros(1, 3, 64, 64))
        answer = answer._replace(heads=people_at(row=3, column=3, height=4, width=4))
        masks, _ = network.masks(answer, torch.tensor([[3 * 16 + 3]]))
    assert masks[0, 0, 12:, 12:].max() < masks[0, 0, 2:5, 2:5].min() - 5


def test_the_exported_graph_is_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    # Otherwise noise has a peak nowhere, or everywhere.
    torch.nn.init.constant_(network.multipose.centres.last.bias, -2.0)
    # Keypoints beyond the lower and right edges of any of these sizes.
    torch.nn.init.constant_(network.multipose.ways.last.bias, 300.0)
    torch.nn.init.constant_(network.multipose.keypoints.last.bias, 0.0)
    parser = MultiposeQueryParser(network, 32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        write_graph(parser, tmp_path / "model.onnx")
    verify_graph(parser, tmp_path / "model.onnx", ((512, 384), (96, 64), (47, 33), (1, 1)))
    with torch.no_grad():
        classes, masks = parser(torch.zeros(1, 3, 47, 33, dtype=torch.uint8))
    assert classes.shape == (1, NUM_QUERIES, 22) and masks.shape == (1, NUM_QUERIES, 16, 16)
