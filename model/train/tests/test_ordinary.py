import numpy as np
import pytest

from m2fp_train.instances import FoundPerson
from m2fp_train.ordinary import OrdinaryPhoto, PeoplePixels, person_precision
from synthetic import ORDINARY_CROWD, ORDINARY_PEOPLE, box_mask

SMALL, LARGE = (box_mask(area) for area in ORDINARY_PEOPLE)


def test_who_finds_everybody_scores_one(ordinary: list[OrdinaryPhoto]) -> None:
    found = [FoundPerson(0.9, SMALL), FoundPerson(0.8, LARGE)]
    precision = person_precision(ordinary, [found, []])
    assert (precision.ap50, precision.ap) == pytest.approx((1, 1))
    assert (precision.large_ap50, precision.large_ap) == pytest.approx((1, 1))


def test_a_rough_mask_counts_at_low_thresholds_only(ordinary: list[OrdinaryPhoto]) -> None:
    rough = LARGE.copy()
    rough[20:50] = False  # IoU 0.7: found at 0.50, 0.55, … 0.70, at five of ten thresholds
    precision = person_precision(ordinary, [[FoundPerson(0.9, rough)], []])
    assert (precision.large_ap50, precision.large_ap) == pytest.approx((1, 0.5))
    assert precision.ap50 == pytest.approx(51 / 101), "recall 0 to 0.50 of 101 steps"


def test_a_person_in_a_crowd_does_not_count_and_one_in_nobodys_photo_does(
    ordinary: list[OrdinaryPhoto],
) -> None:
    everybody = [FoundPerson(0.8, SMALL), FoundPerson(0.7, LARGE)]
    crowd = FoundPerson(0.9, box_mask(ORDINARY_CROWD))
    assert person_precision(ordinary, [[crowd, *everybody], []]).ap50 == pytest.approx(1)
    false = FoundPerson(0.9, LARGE)
    assert person_precision(ordinary, [everybody, [false]]).ap50 == pytest.approx(2 / 3)


def test_nobody_found_and_nobody_there(ordinary: list[OrdinaryPhoto]) -> None:
    assert person_precision(ordinary, [[], []]).ap50 == 0
    assert np.isnan(person_precision(ordinary[1:], [[]]).ap50)


def test_pixels_of_people_leave_crowds_out(ordinary: list[OrdinaryPhoto]) -> None:
    pixels = PeoplePixels()
    pixels.add(SMALL | box_mask(ORDINARY_CROWD), ordinary[0])
    assert pixels.iou == pytest.approx(3000 / 13000)
    pixels.add(SMALL, ordinary[1])
    assert pixels.iou == pytest.approx(3000 / 16000)
