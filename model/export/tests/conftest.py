"""Networks and folders that tests share: shrunken, and of true size for tests marked full."""

from pathlib import Path

import pytest
import torch

import shrunken
from m2fp_export.architecture import Architecture
from m2fp_export.export import export
from m2fp_export.model import M2FP
from m2fp_export.random_checkpoint import random_network, write_folder
from m2fp_export.variants import CIHP, PASCAL_PERSON_PART


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def network() -> M2FP:
    return random_network(shrunken.SIZES, seed=0)


@pytest.fixture(scope="session")
def folder(network: M2FP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ModelScope has them; not to be changed."""
    path = tmp_path_factory.mktemp("modelscope")
    write_folder(network, path, PASCAL_PERSON_PART)
    return path


@pytest.fixture(scope="session")
def full_network() -> M2FP:
    return random_network(Architecture(), seed=0)


@pytest.fixture(scope="session")
def full_folder(full_network: M2FP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnet101")
    write_folder(full_network, path, CIHP)
    return path


@pytest.fixture(scope="module", params=["fused", "portable"])
def model(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Of the module's `checkpoint`, a model folder of either form that the function can serve."""
    out = tmp_path_factory.mktemp("models") / request.param
    export(checkpoint, out, portable=request.param == "portable", sizes=())
    return out
