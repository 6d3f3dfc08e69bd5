import pytest
import torch
from torch.nn import functional as F

from m2fp_train.classes import CLASS_NAMES, IGNORE, NUM_CLASSES, NUM_PARTS, PERSON_ID
from m2fp_train.losses import (
    centre_loss,
    dice_loss,
    garment_loss,
    human_loss,
    mask_loss,
    parsing_loss,
)

PARTS = torch.tensor([[[0, 5], [9, IGNORE]]])
PERSON = torch.tensor([[[0, 1], [1, IGNORE]]])


def _perfect_logits() -> torch.Tensor:
    known = PARTS.masked_fill(PARTS == IGNORE, 0)
    logits = torch.zeros(1, NUM_CLASSES, 2, 2)
    logits[:, :NUM_PARTS] = F.one_hot(known, NUM_PARTS).permute(0, 3, 1, 2) * 40.0
    logits[:, PERSON_ID] = PERSON * 80.0 - 40.0
    return logits


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_does() -> None:
    logits = _perfect_logits()
    assert parsing_loss(logits, PARTS, PERSON) < 1e-6
    assert parsing_loss(-logits, PARTS, PERSON) > 10


def test_a_garment_costs_what_is_in_patches_and_what_is_wrong() -> None:
    coat, dress = CLASS_NAMES.index("Coat"), CLASS_NAMES.index("Dress")
    parts = torch.full((1, 10, 10), coat)
    answers = {}
    for name, wrong in (("right", 0), ("patches", 5), ("wrong", 10)):
        labels = parts.clone()
        labels[:, :wrong] = dress
        # In float32, by how much a sum of shares misses 1 depends on the processor.
        logits = F.one_hot(labels, NUM_PARTS).permute(0, 3, 1, 2).double() * 40.0
        answers[name] = garment_loss(logits, parts).item()
    assert answers["right"] < 1e-6
    half = torch.tensor(2.0).log().item()
    assert answers["patches"] == pytest.approx(2 * half, abs=1e-4), "divergence, and what is missed"
    assert answers["wrong"] > answers["patches"], "in one piece, and of the wrong class"


def test_garments_of_a_few_pixels_are_not_judged() -> None:
    logits = torch.randn(1, NUM_PARTS, 2, 2, requires_grad=True)
    loss = garment_loss(logits, PARTS)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_ignored_pixels_have_no_gradient() -> None:
    logits = torch.randn(1, NUM_CLASSES, 2, 2, requires_grad=True)
    parsing_loss(logits, PARTS, PERSON).backward()
    assert (logits.grad[..., 1, 1] == 0).all()
    assert (logits.grad[..., 0, 0] != 0).any()


def test_dice_counts_only_classes_that_are_present() -> None:
    parts = torch.zeros(1, 2, 2, dtype=torch.int64)
    logits = torch.zeros(1, NUM_PARTS, 2, 2)
    overlap = 4 / NUM_PARTS
    expected = 1 - (2 * overlap + 1) / (overlap + 4 + 1)
    torch.testing.assert_close(dice_loss(logits, parts), torch.tensor(expected))


def test_nothing_known_is_no_loss() -> None:
    nothing = torch.full((1, 2, 2), IGNORE)
    assert dice_loss(torch.zeros(1, NUM_PARTS, 2, 2), nothing) == 0
    assert human_loss(torch.zeros(1, 2, 2), nothing) == 0


def test_a_centre_costs_where_it_is_missed_or_made_up() -> None:
    centres = torch.tensor([[[1.0, 0.5], [0.0, -1.0]]])
    right = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])
    assert centre_loss(right, centres) < 1e-3
    missed, made_up, near, unknown = (right.clone() for _ in range(4))
    missed[0, 0, 0], made_up[0, 1, 0], near[0, 0, 1], unknown[0, 1, 1] = -9, 9, 9, -9
    assert centre_loss(missed, centres) > 8 and centre_loss(made_up, centres) > 8
    assert 0.1 < centre_loss(near, centres) < 1, "beside a centre a mistake costs little"
    assert centre_loss(unknown, centres) == centre_loss(right, centres)


def test_a_mask_is_judged_by_the_person_it_draws() -> None:
    numbers = torch.zeros(1, 8, 8, dtype=torch.int64)
    numbers[:, :4, :4], numbers[:, 4:, 4:], numbers[:, :4, 4:] = 1, 2, IGNORE
    first = torch.tensor([[[[9.0, 9.0], [-9.0, -9.0]]]])  # unknown is free
    assert mask_loss(first, numbers, torch.tensor([[1]]), stride=4) < 1e-3
    assert mask_loss(first, numbers, torch.tensor([[2]]), stride=4) > 3
    assert mask_loss(first, numbers, torch.tensor([[0]]), stride=4) == 0
