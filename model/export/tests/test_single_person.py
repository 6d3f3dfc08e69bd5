"""The function against ModelScope's pipeline where a photo holds one person (LIP).

Random weights of true size, PNG photos: both sides see the same pixels. ModelScope answers with a
label map and nothing else.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import function
import judge
import photos
from answers import LABELS_AGREEING, LOGITS_TOLERANCE, assert_same_logits
from m2fp_export.variants import LIP, Variant

pytestmark = pytest.mark.full

SIZES = {
    "bars-above-and-below.png": (1920, 1080),
    "bars-left-and-right.png": (601, 1003),
    "bars-all-around.png": (97, 141),
    "no-bars.png": (1200, 1600),
    "a-column-short.png": (767, 1024),
    "elongated.png": (150, 1400),
    "large.png": (3000, 4000),
}
"""Width and height. The one in bars all around is not shrunk; where a single column is missing,
ModelScope adds none, and the network pads with zeros."""
CLASSES = 8
"""So many at least, in every label map: else a comparison says little."""


class Theirs:
    """ModelScope's answers to the photos, each computed once."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.pipeline = judge.Pipeline(checkpoint)
        self.folder = folder
        self.answer = cache(self._answer)

    def photo(self, name: str) -> Path:
        path = self.folder / name
        return path if path.exists() else photos.write(path, SIZES[name], list(SIZES).index(name))

    def _answer(self, name: str) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
        """Class and mask logits; the label map."""
        state = self.pipeline.infer(self.photo(name))
        logits = [state["outputs"][key][0].numpy() for key in ("pred_logits", "pred_masks")]
        with torch.no_grad():
            classes = self.pipeline.model.postprocess(state)["eval_result"][0]["sem_seg"]
        return logits, classes.argmax(0).numpy()


@pytest.fixture(scope="module")
def checkpoint(seeded: Callable[[Variant], Path]) -> Path:
    return seeded(LIP)


@pytest.fixture(scope="module")
def theirs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    return Theirs(checkpoint, tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize("name", SIZES)
def test_a_photo(theirs: Theirs, model: Path, name: str, tmp_path: Path) -> None:
    ours = function.answer(model, theirs.photo(name), tmp_path)
    logits, labels = theirs.answer(name)
    exactly = theirs.pipeline.exactly(theirs.photo(name))
    mine = (ours.class_logits, ours.mask_logits)
    error = assert_same_logits(mine, logits, LOGITS_TOLERANCE, exactly)
    assert ours.labels.shape == labels.shape
    agreeing = float((ours.labels == labels).mean())
    classes = len(np.unique(labels))
    print(f"\n{name}: logits {error:.1e} off; label map {1 - agreeing:.1e} of the pixels")
    assert classes >= CLASSES, classes
    assert agreeing >= LABELS_AGREEING, f"only {agreeing:.4%} of the pixels agree"
