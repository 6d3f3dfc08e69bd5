from pathlib import Path

import numpy as np
import pytest
import torch

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import CLASS_NAMES, GARMENTS, NUM_PARTS
from m2fp_train.garment_classifier import DESCRIBED, LOOKS, GarmentClassifier, description
from m2fp_train.garment_training import (
    Eye,
    Looks,
    Outfit,
    Seen,
    examples,
    fit,
    piece,
    train_garments,
    views,
    whole,
)
from m2fp_train.garments import settled_garments
from m2fp_train.multipose_parser import MultiposeParser
from m2fp_train.persons import shares_of_somebody
from m2fp_train.queries import normalise

COAT, DRESS, PANTS = map(CLASS_NAMES.index, ("Coat", "Dress", "Pants"))
RARE, USUAL = GARMENTS.index(DRESS), GARMENTS.index(COAT)


def test_untrained_it_says_the_same_of_all_garments() -> None:
    torch.manual_seed(0)
    looks, worn = torch.rand(2, LOOKS, 3, 4), torch.rand(2, len(GARMENTS), 3, 4)
    said = GarmentClassifier()(looks, worn, torch.rand(2, 5, 12))
    assert said.shape == (2, 5, len(GARMENTS))
    torch.testing.assert_close(said, said[:1, :1, :1].expand_as(said))


def test_each_owner_is_described_by_its_own_cells() -> None:
    looks, worn = torch.zeros(1, LOOKS, 1, 4), torch.zeros(1, len(GARMENTS), 1, 4)
    looks[0, 0, 0] = torch.tensor([1.0, 3.0, 10.0, 50.0])
    worn[0, USUAL, 0] = torch.tensor([1.0, 0.0, 0.25, 0.0])
    worn[0, GARMENTS.index(PANTS), 0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    worn[0, RARE, 0] = torch.tensor([0.0, 0.0, 0.75, 0.0])
    owners = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]])
    described = description(looks, worn, owners)[0]
    upper, lower, deviation, shares = described.split([LOOKS] * 3 + [len(GARMENTS)], 1)
    torch.testing.assert_close(upper[:2, 0], torch.tensor([1.0, 10.0]))
    torch.testing.assert_close(lower[:2, 0], torch.tensor([3.0, 10.0]), msg="a dress is both")
    torch.testing.assert_close(deviation[:2, 0], torch.tensor([1.0, 0.01]), atol=1e-3, rtol=0)
    torch.testing.assert_close(shares[1, [USUAL, RARE]].exp(), torch.tensor([0.251, 0.751]))
    assert torch.isfinite(described).all(), "the last owner wears nothing"


def test_what_a_person_looks_like_is_learned_and_overrules_the_pixels() -> None:
    """People who look like 1 wear a dress, the others a coat; by the pixels, all wear either."""
    generator = torch.Generator().manual_seed(0)
    described, worn = [], []
    for number in range(600):
        described.append(whole(_someone(generator, number % 3 == 0)))
        worn.append(torch.zeros(len(GARMENTS)))
        worn[-1][RARE if number % 3 == 0 else USUAL] = 1
    classifier = GarmentClassifier()
    fit(classifier, torch.stack(described).repeat(10, 1), torch.stack(worn).repeat(10, 1), seed=0)
    assert classifier.usual.bias[RARE].exp().item() == pytest.approx(1 / 3)

    parts = torch.full((1, NUM_PARTS, 16, 16), -12.0)
    parts[:, DRESS], parts[:, COAT] = 0.0, 0.5
    nobody = torch.full((1, 1, 16, 16), -12.0), torch.full((1, 1), 1e-6)
    for in_a_dress, expected in ((True, DRESS), (False, COAT)):
        looks = _someone(generator, in_a_dress).looks[None]
        shares = settled_garments(
            *shares_of_somebody(parts),
            *nobody,
            lambda seen, owners, looks=looks: classifier(looks, seen, owners),
        )
        assert (shares.argmax(1) + 1 == expected).all()


def _someone(generator: torch.Generator, in_a_dress: bool) -> Seen:
    looks = torch.randn(LOOKS, 4, 4, generator=generator)
    looks[:16] += 1.0 if in_a_dress else 0.0
    worn = torch.zeros(len(GARMENTS), 4, 4)
    worn[[RARE, USUAL]] = 0.5
    return Seen(looks, worn)


def test_the_eye_sees_what_the_network_does() -> None:
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    seen = Eye(network).see(image)
    padded = torch.zeros(1, 3, 96, 96)
    padded[:, :, :70, :90] = normalise(torch.from_numpy(image.transpose(2, 0, 1).copy()))
    with torch.no_grad():
        looks, worn = Looks(network)(padded)
    torch.testing.assert_close(seen.looks, looks[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(seen.worn, worn[0], rtol=1e-3, atol=1e-4)


def test_labels_tell_what_is_worn_and_tags_where_there_are_none() -> None:
    parts = np.zeros((100, 60), np.uint8)
    parts[:10, :10] = COAT
    parts[50, 50] = DRESS
    image = np.zeros((100, 60, 3), np.uint8)
    shows = Outfit(image, None, parts).shows()
    assert shows[USUAL] == 1 and shows.sum() == 1, "a pixel is none"
    tagged = np.zeros(len(GARMENTS), bool)
    tagged[RARE] = True
    assert Outfit(image, tagged).shows().tolist() == tagged.tolist()


def test_the_first_view_is_the_photo_as_it_is_shown() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (576, 384, 3)).astype(np.uint8)
    parts = np.zeros((576, 384), np.uint8)
    first, *others = views(rng, Outfit(image, None, parts))
    assert np.array_equal(first.image, image)
    assert not any(np.array_equal(other.image, image) for other in others)
    assert others[0].parts.size < parts.size, "borders are cut"
    smallest = min(other.image.shape[0] for other in others)
    assert smallest < 350, "from far away"


def test_a_close_view_shows_a_part_of_the_person_and_what_is_worn_there() -> None:
    parts = np.zeros((400, 300), np.uint8)
    parts[40:220, 100:200] = COAT
    parts[220:360, 100:200] = DRESS
    image = np.zeros((400, 300, 3), np.uint8)
    tagged = Outfit(image, np.ones(len(GARMENTS), bool))
    found = set()
    for seed in range(8):
        every = list(views(np.random.default_rng(seed), Outfit(image, None, parts)))
        assert len(every) == len(list(views(np.random.default_rng(seed), tagged))) + 2
        for close in every[-2:]:
            height, width = close.parts.shape
            assert 0.3 * 320 <= height <= 0.7 * 320 and 100 <= width <= 120
            found.add(tuple(np.flatnonzero(close.shows())))
    assert found >= {(USUAL,), tuple(sorted((USUAL, RARE)))}, "a dress that is cut off is not there"


def test_pieces_are_some_of_the_cells() -> None:
    rng = np.random.default_rng(0)
    seen = _someone(torch.Generator().manual_seed(0), True)
    large = Seen(seen.looks.repeat(1, 4, 4), seen.worn.repeat(1, 4, 4))
    pieces = torch.stack([piece(rng, large) for _ in range(4)])
    assert len({tuple(one.tolist()) for one in pieces}) == 4
    # Of too few cells none is left out.
    torch.testing.assert_close(piece(rng, seen), whole(seen))


def test_every_view_is_an_example_of_what_is_worn() -> None:
    class Blind:
        def see(self, image: np.ndarray) -> Seen:
            return _someone(torch.Generator().manual_seed(image.shape[0]), True)

    tags = np.eye(len(GARMENTS), dtype=bool)
    photos = [Outfit(np.zeros((80, 60, 3), np.uint8), tags[n]) for n in range(2)]
    described, worn = examples(photos, Blind(), seed=0)
    assert described.shape == (2 * 5 * 4, DESCRIBED)
    assert worn.argmax(1).tolist() == [0] * 20 + [1] * 20


def test_a_network_learns_from_all_photos_and_changes_nothing_else(
    ccp: ClothingCoParsing, tmp_path: Path
) -> None:
    (tmp_path / "ccp").symlink_to(ccp.folder)
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train_garments(network, tmp_path, seed=0)
    changed = {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed and all(name.startswith("garment_classifier.") for name in changed)
    assert network.garment_classifier.usual.bias.exp().max() == 1, "all wear something"
