"""Scenes in the form of CIHP say what the scenes say."""

from pathlib import Path

import numpy as np
from PIL import Image

from m2fp_train.as_cihp import write_as_cihp
from m2fp_train.classes import CLASS_NAMES, IGNORE
from m2fp_train.scene import Scene

HAT, COAT = CLASS_NAMES.index("Hat"), CLASS_NAMES.index("Coat")


def test_people_and_parts_are_numbered(tmp_path: Path) -> None:
    parts = np.zeros((4, 6), np.uint8)
    numbers = np.zeros((4, 6), np.uint8)
    numbers[:, :2], numbers[:, 4:] = 1, 2
    parts[0, :2], parts[1:, :2], parts[:, 4:] = HAT, COAT, COAT
    parts[3, 5] = IGNORE
    numbers[0, 3] = IGNORE
    image = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    assert write_as_cihp([Scene(image, parts, numbers)] * 2, tmp_path) == 2

    base = tmp_path / "Validation"

    def picture(kind: str) -> np.ndarray:
        with Image.open(base / kind / "0002.png") as read:
            return np.asarray(read)

    assert (picture("Images") == image).all()
    unknown = np.zeros((4, 6), bool)
    unknown[3, 5] = unknown[0, 3] = True
    assert (picture("Category_ids") == np.where(unknown, IGNORE, parts)).all()
    assert (picture("Human_ids") == np.where(unknown, 0, numbers)).all()
    about = (base / "Instance_ids" / "0002.txt").read_text().splitlines()
    assert about == [f"1 {HAT} 1", f"2 {COAT} 1", f"3 {COAT} 2"]
    instances = picture("Instance_ids")
    for number, class_id, human in (map(int, line.split()) for line in about):
        own = (numbers == human) & (parts == class_id)
        assert ((instances == number) == own).all()
    assert set(np.unique(instances)) == {0, 1, 2, 3}
