import torch
from torch.nn import functional as F

from m2fp_train.classes import IGNORE, NUM_CLASSES, NUM_PARTS, PERSON_ID
from m2fp_train.losses import dice_loss, human_loss, parsing_loss

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
