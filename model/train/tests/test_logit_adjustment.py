import numpy as np
import torch
from torch import Tensor

from m2fp_train.classes import CLASS_NAMES, IGNORE, NUM_PARTS
from m2fp_train.geometry import SizeRule
from m2fp_train.logit_adjustment import best_adjustment, fit_adjustment
from m2fp_train.multipose_parser import MultiposeParser
from m2fp_train.multipose_queries import MultiposeQueryParser
from m2fp_train.queries import QueryParser
from m2fp_train.scene import Scene

BACKGROUND, HAT, GLOVES, LEFT_ARM, RIGHT_ARM = (
    CLASS_NAMES.index(name) for name in ("Background", "Hat", "Gloves", "Left-arm", "Right-arm")
)


def chances(count: int, **parts: float) -> Tensor:
    """Log chances [count, 20] of places that all look the same."""
    row = torch.full((NUM_PARTS,), 1e-6)
    for name, chance in parts.items():
        row[CLASS_NAMES.index(name.replace("_", "-"))] = chance
    return row.log().expand(count, -1)


def labels(**counts: int) -> Tensor:
    ids = [CLASS_NAMES.index(name.replace("_", "-")) for name in counts]
    return torch.repeat_interleave(torch.tensor(ids), torch.tensor(list(counts.values())))


def test_a_part_that_is_likely_nowhere_is_found_where_it_is_likelier_than_elsewhere() -> None:
    """Where it is a hat by 0.4, likelihood says background; a hat found by 0.4 is better than
    none, by the mean over parts."""
    seen = torch.cat([chances(9000, Background=0.99), chances(1000, Background=0.6, Hat=0.4)])
    true = torch.cat([labels(Background=9000), labels(Background=600, Hat=400)])
    found = (seen + best_adjustment(seen, true)).argmax(1)
    assert (found[:9000] == BACKGROUND).all() and (found[9000:] == HAT).all()


def test_nothing_is_added_where_all_is_right() -> None:
    seen = torch.cat([chances(500, Background=0.9), chances(500, Pants=0.6, Background=0.4)])
    assert not best_adjustment(seen, labels(Background=500, Pants=500)).any()


def test_left_and_right_are_added_the_same() -> None:
    """Of the left one alone it would do."""
    doubtful = chances(1000, Background=0.6, Left_arm=0.4)
    seen = torch.cat([chances(8000, Background=0.99), doubtful, chances(1000, Right_arm=0.9)])
    true = torch.cat(
        [labels(Background=8000), labels(Background=600, Left_arm=400), labels(Right_arm=1000)]
    )
    best = best_adjustment(seen, true)
    assert best[LEFT_ARM] == best[RIGHT_ARM]
    assert best[LEFT_ARM] - best[BACKGROUND] > 0.4


def test_a_part_that_hardly_occurs_is_left_alone() -> None:
    seen = torch.cat([chances(9995, Background=0.99), chances(5, Background=0.6, Gloves=0.4)])
    true = torch.cat([labels(Background=9995), labels(Background=1, Gloves=4)])
    assert best_adjustment(seen, true)[GLOVES] == 0


class HalfHat(QueryParser):
    """Says of the upper half of any photo what `chances` has of a doubtful hat."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        # Padded, as the graph's answers are.
        parts = chances(16 * 16, Background=0.99).T.reshape(NUM_PARTS, 16, 16).clone()
        parts[:, :4] = chances(4 * 16, Background=0.6, Hat=0.4).T.reshape(NUM_PARTS, 4, 16)
        self.shown = tuple(image.shape)
        return torch.zeros(1, NUM_PARTS, 22), torch.logit(parts.exp())[None]


def test_photos_are_judged_at_their_own_size_without_what_is_padded() -> None:
    true = np.zeros((64, 48), np.uint8)
    true[:32, ::2] = HAT
    true[40:] = IGNORE
    photo = Scene(np.zeros((64, 48, 3), np.uint8), true, true)
    parser = HalfHat()
    best = fit_adjustment(parser, [photo], SizeRule(24, 32, 32, 8))
    assert parser.shown == (1, 3, 32, 24)
    assert best[HAT] - best[BACKGROUND] > 0.4


def test_the_adjustment_changes_parts_and_no_person() -> None:
    torch.manual_seed(0)
    parser = MultiposeQueryParser(MultiposeParser(), 32).eval()
    adjustment = torch.linspace(-1, 1, NUM_PARTS)
    image = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        classes, masks = parser(image)
        parser.adjustment.copy_(adjustment)
        changed_classes, changed_masks = parser(image)
    assert classes.equal(changed_classes)
    assert masks[:, NUM_PARTS:].equal(changed_masks[:, NUM_PARTS:])
    wanted = masks[0, :NUM_PARTS].sigmoid().log() + adjustment[:, None, None]
    found = changed_masks[0, :NUM_PARTS].sigmoid()
    assert torch.allclose(wanted.softmax(0), found, atol=1e-5)
