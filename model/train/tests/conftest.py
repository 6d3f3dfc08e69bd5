"""Synthetic data for every test: none needs fetched photos or weights."""

import numpy as np
import pytest

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.ordinary import OrdinaryPhoto, read_ordinary
from m2fp_train.scene import Scene
from synthetic import draw_person, scene_of, write_ccp, write_ordinary

# NumPy remembers what a float can hold. Asked once a run flushes subnormals, it would warn of it.
np.finfo(np.float64)


@pytest.fixture
def scene() -> Scene:
    """48 x 64 pixels with one person."""
    return scene_of(*draw_person(np.random.default_rng(0)))


@pytest.fixture(scope="session")
def ccp(tmp_path_factory: pytest.TempPathFactory) -> ClothingCoParsing:
    return write_ccp(tmp_path_factory.mktemp("ccp"))


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> list[OrdinaryPhoto]:
    """Two people and a crowd in one photo, nobody in another."""
    folder = tmp_path_factory.mktemp("ordinary")
    write_ordinary(folder)
    return read_ordinary(folder)
