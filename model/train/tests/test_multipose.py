import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from m2fp_train.classes import BACKGROUND_ID, NUM_PARTS, PERSON_ID
from m2fp_train.confidence import UNHEARD, UNSEEN, fit_confidences
from m2fp_train.multipose import PYRAMID, Multipose, load_multipose
from m2fp_train.multipose_parser import (
    FoundPeople,
    MultiposeParser,
    PersonBoxes,
    View,
    box_maps,
    find_people,
    keypoint_factor,
    load_learned,
    overlaps,
    person_boxes,
)
from m2fp_train.multipose_queries import BY_CENTRE, MultiposeQueryParser, corrected_anybody
from m2fp_train.network import PartNetwork, SeenPeople, load_parts
from m2fp_train.onnx_graph import simplify, store_small, verify_graph, write_graph
from m2fp_train.onnx_weights import assign_convolution
from m2fp_train.persons import shares_of_somebody
from m2fp_train.queries import NUM_QUERIES, PERSON_QUERIES, scores
from synthetic import people_at, write_multipose, write_nano


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


def test_heads_asked_at_cells_say_what_their_maps_do() -> None:
    torch.manual_seed(3)
    network = Multipose().eval()
    pyramid = torch.randn(2, PYRAMID[-1][1], 5, 7)
    cells = torch.tensor([[0, 6, 17], [34, 28, 3]])  # corners, edges and the middle
    with torch.no_grad():
        whole = network.heads(pyramid)
        maps = network.people_maps(pyramid)
        some = maps.at(cells)
    assert torch.equal(maps.centres, whole.centres) and torch.equal(maps.keypoints, whole.keypoints)
    for ours, theirs in zip(some, whole.at(cells), strict=True):
        assert theirs.std() > 0.01
        torch.testing.assert_close(ours, theirs)


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


def test_boxes_overlap_by_what_they_share() -> None:
    some = PersonBoxes(torch.tensor([[[10.0, 10.0]]]), torch.tensor([[[4.0, 8.0]]]))
    others = PersonBoxes(
        torch.tensor([[[12.0, 10.0], [50.0, 50.0]]]), torch.tensor([[[4.0, 8.0]] * 2])
    )
    assert overlaps(some, others)[0, 0].tolist() == pytest.approx([16 / 48, 0])


def test_each_view_is_asked_for_its_own_sizes() -> None:
    chances = {}
    for cells in (10, 30, 50):  # a person of 40, 120 and 200 pixels, seen in either view
        near = people_at(row=3, column=5, height=cells, width=cells)
        far = people_at(row=3, column=5, height=cells / 2, width=cells / 2)
        pyramid = torch.zeros(1, 1, 16, 16)
        found = find_people((View(near, pyramid, 4), View(far, pyramid, 8)))
        chances[cells] = found.chances[0, [0, PERSON_QUERIES]] / found.chances.max()
        assert found.boxes.sizes[0, [0, PERSON_QUERIES], 0].tolist() == [4 * cells] * 2
    assert chances[10][0] == 1 and chances[10][1] < 1e-5
    assert chances[30].tolist() == pytest.approx([1, 0.999])
    assert chances[50][0] < 1e-5 and chances[50][1] == 1


def test_a_person_seen_twice_comes_last() -> None:
    found = FoundPeople(
        torch.tensor([[0.5, 0.9, 0.3]]),
        torch.zeros(1, 3, 2),
        torch.tensor([[[0.0], [1.0], [2.0]]]),
        PersonBoxes(
            torch.tensor([[[20.0, 20.0], [21.0, 20.0], [60.0, 20.0]]]), torch.full((1, 3, 2), 16.0)
        ),
    )
    best = found.best(3)
    assert best.looks.flatten().tolist() == [1, 2, 0]
    assert best.chances[0].tolist() == pytest.approx([0.9, 0.3, 0.5e-6])


def test_a_map_says_where_in_a_box_a_pixel_is() -> None:
    boxes = PersonBoxes(torch.tensor([[[28.0, 36.0]]]), torch.tensor([[[32.0, 64.0]]]))
    found = FoundPeople(torch.tensor([[0.8]]), torch.zeros(1, 1, 2), torch.zeros(1, 1, 1), boxes)
    likely, x, y = box_maps(torch.zeros(1, 1, 12, 12), found)[0]
    assert likely[4, 3].item() == pytest.approx(0.8, abs=0.01), "in the middle"
    assert x[4, 3] == y[4, 3] == 0
    assert x[4, 4].item() == pytest.approx(0.8 * 0.5, abs=0.02)
    assert y[2, 3].item() == pytest.approx(-0.8 * 0.5, abs=0.02)
    assert likely[4, 9] < 1e-3, "outside"


def test_at_first_the_parts_are_those_of_nano(graph: Path, tmp_path: Path) -> None:
    nano = write_nano(tmp_path / "nano.onnx")
    network = MultiposeParser().eval()
    load_multipose(network.multipose, graph)
    load_parts(network.nano, tmp_path / "nano.onnx")
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        expected, answer = nano(image).logits, network(image)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(answer.logits, expected, rtol=1e-4, atol=1e-4)

    # What was exported, the parts can be read out of again.
    write_graph(MultiposeQueryParser(network, 32).eval(), tmp_path / "both.onnx")
    store_small(tmp_path / "both.onnx")
    parts = PartNetwork().eval()
    load_parts(parts, tmp_path / "both.onnx")
    with torch.no_grad():
        again = parts.classifier(parts.maps(image).stride4)
    torch.testing.assert_close(again, expected, rtol=1e-2, atol=1e-2)


def test_a_graph_without_the_parts_is_refused(graph: Path) -> None:
    with pytest.raises(ValueError, match="no convolution"):
        load_parts(PartNetwork(), graph)


@pytest.mark.parametrize(("bodypix", "both"), [(50.0, 8.0), (-50.0, 0.0)])
def test_where_nano_is_unsure_the_others_say_whether_somebody_is_there(
    bodypix: float, both: float
) -> None:
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    before = torch.randn(1, NUM_PARTS, 16, 16)
    before[:, BACKGROUND_ID] += 3  # about as likely as anybody
    before[:, BACKGROUND_ID, :8] += 30  # surely nobody
    learned = torch.zeros(1, NUM_PARTS + 1, 16, 16)
    learned[:, NUM_PARTS] = 50
    with torch.no_grad():
        answer = network(torch.zeros(1, 3, 64, 64))._replace(
            before=before, logits=learned, bodypix=torch.full((1, 1, 8, 8), bodypix)
        )
    nanos = shares_of_somebody(before)[1]
    anybody = corrected_anybody(nanos, answer)
    torch.testing.assert_close(anybody[:, :, :8], nanos[:, :, :8], atol=1e-3, rtol=0)
    assert (anybody[:, :, 8:] - both).abs().max() < 0.3


def test_a_mask_that_is_nowhere_is_nobodys() -> None:
    """It has no pixels to agree with the parts; without a score of its own, no pixel has a part."""
    parser = MultiposeQueryParser(MultiposeParser(), 32).eval()
    masks = torch.full((1, PERSON_QUERIES, 16, 16), -2000.0)
    masks[:, 0, 4:8, 4:8] = 5
    somebody, chances = torch.full((1, 16, 16), 2.0), torch.full((1, PERSON_QUERIES), 0.9)
    human = scores(chances, masks, somebody, parser.confidence[0])[0].sigmoid()
    assert human[0] > 0.7 and (human[1:] < 1e-6).all()


def test_whom_nano_alone_finds_is_a_person_too(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MultiposeParser().eval()
    parser = MultiposeQueryParser(network, 32).eval()
    with torch.no_grad():
        answer = network(torch.zeros(1, 3, 64, 64))
    left, right, below = (torch.full((16, 16), -9.0) for _ in range(3))
    left[:8, :8], right[:8, 8:], below[8:] = 9, 9, 9
    found = torch.full((1, PERSON_QUERIES), 1e-9)
    found[0, 0], found[0, 1] = 0.8, 0.1  # on the left; below, where it may as well be nobody
    masks = torch.stack([left, below, *[torch.full((16, 16), -9.0)] * (PERSON_QUERIES - 2)])[None]
    monkeypatch.setattr(network, "masks", lambda _: masks)
    seen = torch.full((1, 1, 8, 8), -9.0)
    for place, chance in (((2, 2), 0.95), ((2, 6), 0.9), ((6, 4), 0.6)):
        seen[0, 0][place] = torch.tensor(chance).logit()
    people = SeenPeople(seen, torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 16, 16))
    own = torch.stack([left, right, below, *[torch.full((16, 16), -9.0)] * (BY_CENTRE - 3)])[None]
    monkeypatch.setattr(network.nano, "masks_at", lambda *_: own)
    parts = torch.zeros(1, NUM_PARTS + 1, 16, 16)
    parts[:, BACKGROUND_ID] = -9
    answer = answer._replace(
        logits=parts,
        before=parts[:, :NUM_PARTS],
        found=answer.found._replace(chances=found),
        by_centre=people,
    )
    classes, drawn = parser._persons(answer)
    human = classes[0, :, PERSON_ID].sigmoid()
    assert human[:4].tolist() == pytest.approx([0.9, 0.8, 0.6, 0.1], abs=1e-3)
    assert (human[4:] < 1e-6).all(), "nobody is on the left twice"
    assert torch.equal(drawn[0, :4] > 0, torch.stack([right, left, below, below]) > 0)


def test_scores_are_fitted_to_each_finder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = MultiposeQueryParser(MultiposeParser(), 32).eval()
    heard = []

    def fit(parser: MultiposeQueryParser, *_: object) -> torch.Tensor:
        heard.append(parser.confidence.tolist())
        return torch.tensor([2.0 + len(heard), 0.5])

    monkeypatch.setattr("m2fp_train.confidence.fit_confidence", fit)
    fitted = fit_confidences(parser, [], 1)
    assert heard == [[[1, 0], [1, UNHEARD]], [[1, UNHEARD], [1, 0]]]
    assert fitted.tolist() == [[3, 0.5], [4, 0.5 - UNSEEN]]


def test_what_is_there_already_does_not_train() -> None:
    network = MultiposeParser().train()
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert {"correction", "features", "kernel"} <= trained
    assert not trained & {"multipose", "nano", "bodypix"}
    assert network.fuse[1].training and not network.nano.fuse.training
    # What goes on from a graph trains its normalisations as they are.
    network = MultiposeParser(goes_on=True).train()
    assert network.fuse.training and not network.fuse[1].training


def test_what_was_learned_is_read_out_of_a_graph(graph: Path, tmp_path: Path) -> None:
    write_nano(tmp_path / "nano.onnx")
    torch.manual_seed(4)
    networks = [MultiposeParser().eval() for _ in range(2)]
    for network in networks:
        load_multipose(network.multipose, graph)
        load_parts(network.nano, tmp_path / "nano.onnx")
        network.bodypix.load_state_dict(networks[0].bodypix.state_dict())
    learned, fresh = networks
    for module in learned.fuse, learned.refine4:
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    torch.nn.init.normal_(learned.inside.weight)
    torch.nn.init.normal_(learned.correction.weight)
    torch.nn.init.normal_(learned.garment_classifier.out.weight)
    torch.nn.init.uniform_(learned.garment_classifier.usual.bias, -3, 0)
    write_graph(MultiposeQueryParser(learned, 32).eval(), tmp_path / "both.onnx")
    simplify(tmp_path / "both.onnx")
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    load_learned(fresh, tmp_path / "both.onnx")
    with torch.no_grad():
        expected, actual = learned(image), fresh(image)
        masks = [
            network.masks(answer) for network, answer in ((learned, expected), (fresh, actual))
        ]
    assert (expected.logits - expected.before.new_zeros(1)).abs().max() > 0.1
    torch.testing.assert_close(actual.logits, expected.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(*masks, rtol=1e-3, atol=1e-2)
    classifiers = (network.garment_classifier.state_dict() for network in (learned, fresh))
    for ours, theirs in zip(*(state.values() for state in classifiers), strict=True):
        torch.testing.assert_close(theirs, ours)

    # A classifier that is told other things is learned anew.
    fresh.garment_classifier.hidden = torch.nn.Linear(7, 5)
    torch.nn.init.zeros_(fresh.garment_classifier.out.weight)
    load_learned(fresh, tmp_path / "both.onnx")
    assert not fresh.garment_classifier.out.weight.any()


def test_inputs_that_were_not_there_are_ignored_at_first() -> None:
    conv = torch.nn.Conv2d(3, 2, 1)
    kernel, bias = np.full((2, 2, 1, 1), 3, np.float32), np.array([5, 6], np.float32)
    assign_convolution({"conv": conv}, "conv", [kernel, bias], may_have_grown=True)
    assert conv.weight[0, :, 0, 0].tolist() == [3, 3, 0] and conv.bias.tolist() == [5, 6]
    with pytest.raises(ValueError, match="another shape"):
        assign_convolution({"conv": torch.nn.Conv2d(1, 2, 1)}, "conv", [kernel, bias], True)
    with pytest.raises(ValueError, match="another shape"):
        assign_convolution({"conv": conv}, "conv", [kernel, bias])


def test_masks_stay_near_their_boxes() -> None:
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    pyramid = torch.zeros(1, PYRAMID[-1][1], 16, 16)
    view = View(people_at(row=3, column=3, height=4, width=4), pyramid, 4)
    with torch.no_grad():
        answer = network(torch.zeros(1, 3, 64, 64))
        masks = network.masks(answer._replace(found=find_people((view, view)).best(1)))
    assert masks[0, 0, 12:, 12:].max() < masks[0, 0, 2:5, 2:5].min() - 5


def test_the_exported_graph_is_the_network(graph: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    load_multipose(network.multipose, graph)
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
    assert classes.shape == (1, NUM_QUERIES, 22) and masks.shape == (1, NUM_QUERIES, 32, 32)
