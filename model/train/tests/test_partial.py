import numpy as np
import pytest
import torch

from m2fp_train.classes import IGNORE, NUM_PARTS
from m2fp_train.partial import (
    ANYTHING,
    SOMEBODY,
    allowed_by_garment,
    allowed_by_tags,
    partial_loss,
    without_partial,
)
from synthetic import class_id


def test_tags_rule_out_what_is_not_listed() -> None:
    allowed = allowed_by_tags(["hair", "jacket", "jeans", "skin"])
    assert allowed[
        [class_id(name) for name in ("Coat", "Pants", "Hair", "Face", "Left-shoe")]
    ].all()
    assert not allowed[[class_id(name) for name in ("Dress", "Skirt", "Scarf", "Hat")]].any()


def test_a_garments_folder_rules_out_its_rivals() -> None:
    coat, shirt, skirt = (class_id(name) for name in ("Coat", "UpperClothes", "Skirt"))
    assert allowed_by_garment("outwear")[[coat, skirt]].all()
    assert not allowed_by_garment("outwear")[shirt]
    assert not allowed_by_garment("dress")[[coat, shirt, skirt]].any()


def test_the_loss_is_what_is_given_to_the_ruled_out() -> None:
    logits = torch.zeros(1, NUM_PARTS, 1, 3)
    allowed = torch.zeros(1, NUM_PARTS, dtype=torch.bool)
    allowed[:, :5] = True
    parts = torch.tensor([[[SOMEBODY, IGNORE, 7]]])
    # Classes 1 to 4 are open to somebody: background is not.
    assert partial_loss(logits, logits, parts, allowed).item() == pytest.approx(np.log(20 / 4))
    parts = torch.tensor([[[SOMEBODY, ANYTHING, 7]]])
    expected = (np.log(20 / 4) + np.log(20 / 5)) / 2
    assert partial_loss(logits, logits, parts, allowed).item() == pytest.approx(expected)


def test_what_is_left_open_is_shared_as_before() -> None:
    before = torch.zeros(1, NUM_PARTS, 1, 1)
    before[0, 3], before[0, 4], before[0, 9] = 8.0, 7.0, 20.0
    allowed = torch.ones(1, NUM_PARTS, dtype=torch.bool)
    allowed[0, 9] = False
    parts = torch.tensor([[[SOMEBODY]]])
    as_before = before.clone()
    as_before[0, [0, 9]] = -40.0
    assert partial_loss(as_before, before, parts, allowed).item() == pytest.approx(0, abs=1e-5)
    another = as_before.clone()
    another[0, 2] = 30.0  # allowed, too, and all that is left
    assert partial_loss(another, before, parts, allowed).item() > 10


def test_no_such_pixel_no_loss() -> None:
    logits = torch.zeros(1, NUM_PARTS, 1, 2, requires_grad=True)
    loss = partial_loss(
        logits, logits.detach(), torch.tensor([[[0, IGNORE]]]), torch.ones(1, 20, dtype=torch.bool)
    )
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_whole_labels_stay() -> None:
    parts = torch.tensor([3, SOMEBODY, ANYTHING, IGNORE])
    assert without_partial(parts).tolist() == [3, IGNORE, IGNORE, IGNORE]
