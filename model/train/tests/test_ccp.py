import numpy as np
import pytest

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import IGNORE
from synthetic import draw_person


def test_splits_are_disjoint_by_the_last_digit(ccp: ClothingCoParsing) -> None:
    assert ccp.validation == ["0003", "0013"]
    assert ccp.training == ["0001", "0002", "0004"]


def test_person_is_what_is_worn_but_not_carried(ccp: ClothingCoParsing) -> None:
    scene = ccp.load("0001")
    top, left = _origin(0)
    assert scene.person[top + 20, left + 9] == 1, "a tie has no class, but is on a person"
    assert scene.parts[top + 20, left + 9] == IGNORE
    assert scene.person[top + 30, left + 18] == 0, "a bag is not a person"
    assert scene.person[2, 46] == IGNORE, "somebody whom nobody labelled"
    assert scene.person[63, 0] == 0
    assert set(np.unique(scene.person)) == {0, 1, IGNORE}


def test_scenes_are_shrunk_to_the_height_asked_for(ccp: ClothingCoParsing) -> None:
    for scene in ccp.load_shrunk(ccp.training, person_height=26):
        _, top, _, bottom = scene.person_box()
        assert abs(bottom - top - 26) <= 1
        assert scene.image.shape[:2] == scene.parts.shape == scene.person.shape == (32, 24)
    assert ccp.load_shrunk(["0001"], person_height=1000)[0].height == 64, "never enlarged"


def test_a_folder_without_labels_is_refused(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(FileNotFoundError):
        ClothingCoParsing(tmp_path)


def _origin(seed: int) -> tuple[int, int]:
    """Top and left of the person that `draw_person` draws with this seed."""
    tags, _ = draw_person(np.random.default_rng(seed))
    rows, columns = np.nonzero(tags)
    return int(rows.min()), int(columns.min()) - 2
