import pytest
import torch
from torch import Tensor

from m2fp_train.classes import BACKGROUND_ID, CLASS_NAMES, NUM_PARTS
from m2fp_train.garments import settled_garments
from m2fp_train.persons import shares_of_somebody

COAT, SHIRT, DRESS, FACE = map(CLASS_NAMES.index, ("Coat", "UpperClothes", "Dress", "Face"))
SURE, NOWHERE = 8.0, -12.0


def someone(height: int = 32, width: int = 32) -> Tensor:
    """Logits of parts [1, 20, h, w] of somebody who wears garments all over."""
    parts = torch.full((1, NUM_PARTS, height, width), NOWHERE)
    parts[:, [COAT, SHIRT, DRESS]] = 0.0
    return parts


def nobody(count: int = 2) -> tuple[Tensor, Tensor]:
    """Masks and scores of people who are not there."""
    return torch.full((1, count, 32, 32), NOWHERE), torch.full((1, count), 1e-6)


def settled(parts: Tensor, masks: Tensor, scores: Tensor) -> Tensor:
    """Logits of the parts, whose garments are settled."""
    shares, anybody = shares_of_somebody(parts)
    return torch.cat([-anybody, settled_garments(shares, anybody, masks, scores)], 1)


def test_a_patch_takes_the_garment_around_it() -> None:
    parts = someone()
    parts[:, COAT] = 1.0
    parts[:, DRESS, 8:14, 8:14] = 2.0
    labels = settled(parts, *nobody()).argmax(1)
    assert (parts.argmax(1) == DRESS).sum() == 36
    assert (labels == COAT).all()


def test_what_is_seen_surely_stays() -> None:
    parts = someone()
    parts[:, COAT] = SURE
    parts[:, DRESS, 16:] = 3 * SURE
    labels = settled(parts, *nobody()).argmax(1)[0]
    assert (labels[:15] == COAT).all() and (labels[17:] == DRESS).all()


def test_what_is_no_garment_is_as_likely_as_before() -> None:
    torch.manual_seed(0)
    parts = 3 * torch.randn(2, NUM_PARTS, 16, 24)
    masks, scores = torch.randn(2, 3, 16, 24), torch.rand(2, 3)
    before, after = parts.softmax(1), settled(parts, masks, scores).softmax(1)
    for part in (BACKGROUND_ID, FACE):
        torch.testing.assert_close(after[:, part], before[:, part], rtol=1e-4, atol=1e-6)
    assert (after[:, COAT] - before[:, COAT]).abs().max() > 0.1


@pytest.mark.parametrize("told_apart", [False, True])
def test_each_person_wears_its_own(told_apart: bool) -> None:
    """Of two people, the left one in a coat; the right one is unsure in one corner, far away."""
    parts = someone(32, 96)
    parts[:, COAT, :, :64] = 2.0
    parts[:, SHIRT, :, 64:] = 2.0
    parts[:, SHIRT, 20:, 84:] = 0.0
    parts[:, COAT, 20:, 84:] = 0.6
    masks = torch.full((1, 2, 32, 96), NOWHERE)
    masks[:, 0, :, :64], masks[:, 1, :, 64:] = SURE, SURE
    scores = torch.full((1, 2), 0.9 if told_apart else 1e-6)
    labels = settled(parts, masks, scores).argmax(1)[0]
    assert (labels[:, :60] == COAT).all()
    corner = (labels[24:, 88:] == SHIRT).float().mean()
    assert corner == 1 if told_apart else corner < 1


def test_nothing_is_still_nothing() -> None:
    parts = torch.full((1, NUM_PARTS, 8, 8), -60.0)
    parts[:, BACKGROUND_ID] = 60.0
    after = settled(parts, torch.full((1, 1, 8, 8), -90.0), torch.zeros(1, 1))
    assert torch.isfinite(after).all() and (after.argmax(1) == BACKGROUND_ID).all()
