"""Our function against ModelScope's, from the photo's file to masks, with the same weights.

Everything of both runs: reading, resizing, network, post-processing. Weights are random, spread so
that parts and persons pass the thresholds (`random_checkpoint`).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

import function
import judge
import lean_reference
import photos
from answers import Answer, Tolerance, assert_same
from m2fp_export.variants import CIHP, Variant

pytestmark = pytest.mark.full

SIZES = {
    "landscape.png": (1920, 1080),
    "portrait.png": (601, 1003),
    "square.png": (512, 512),
    "panorama.png": (1500, 300),
    "smaller-than-the-output.png": (121, 90),
    "wide-quad-hd.png": (2560, 1440),
}
"""Width and height. The long side limits the panorama. At most 2560×1440: there ModelScope's
post-processing already holds 10 GB."""
JPEG, JPEG_SIZE = "photo.jpg", (1000, 750)
JPEG_TOLERANCE = Tolerance(logits=2e-2, labels=0.99, score=2e-2, iou=0.97)
"""Decoders of JPEG may differ by a grey level here and there; ours and Pillow's on one machine
mostly do not."""
ULTRA_HD, ULTRA_HD_SIZE = "ultra-hd.png", (3840, 2160)
FORMS = [("fused", name) for name in SIZES] + [
    ("portable", name) for name in SIZES if name != "wide-quad-hd.png"
]
"""Graph and photo. A large photo tries the post-processing, which the graph does not change."""
LEAN = ("portrait.png", "panorama.png", "smaller-than-the-output.png")
"""Photos on which the lean reference must be ModelScope's."""
PARTS, PERSONS = 15, 2
"""So many at least, in every photo: else a comparison says little."""


class Theirs:
    """ModelScope's answers to the photos, each computed once."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.pipeline = judge.Pipeline(checkpoint)
        self.folder = folder
        self.answer = cache(self._answer)

    def photo(self, name: str) -> Path:
        path = self.folder / name
        sizes = {**SIZES, JPEG: JPEG_SIZE, ULTRA_HD: ULTRA_HD_SIZE}
        return path if path.exists() else photos.write(path, sizes[name], list(sizes).index(name))

    def _answer(self, name: str) -> Answer:
        return self.pipeline.answer(self.photo(name))

    def lean(self, name: str) -> Answer:
        """Their reading and network, the lean reference's post-processing."""
        state = self.pipeline.infer(self.photo(name))
        photo = state["batched_inputs"][0]
        images = state["images"]
        outputs = state["outputs"]
        masks = lean_reference.Masks(
            outputs["pred_masks"][0],
            tuple(images.tensor.shape[-2:]),
            tuple(images.image_sizes[0]),
            (photo["height"], photo["width"]),
        )
        model = self.pipeline.model
        with torch.no_grad():
            return lean_reference.answer(
                outputs["pred_logits"][0], masks, model.num_parsing, model.parsing_ins_score_thr
            )


@pytest.fixture(scope="module")
def checkpoint(seeded: Callable[[Variant], Path]) -> Path:
    return seeded(CIHP)


@pytest.fixture(scope="module")
def theirs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    return Theirs(checkpoint, tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize(("model", "name"), FORMS, indirect=["model"])
def test_a_photo(theirs: Theirs, model: Path, name: str, tmp_path: Path) -> None:
    ours = function.answer(model, theirs.photo(name), tmp_path)
    expected = theirs.answer(name)
    assert_says_something(expected)
    exactly = theirs.pipeline.exactly(theirs.photo(name))
    print(f"\n{name}: {assert_same(ours, expected, exactly=exactly)}")


def test_a_jpeg(theirs: Theirs, model: Path, tmp_path: Path) -> None:
    ours = function.answer(model, theirs.photo(JPEG), tmp_path)
    print(f"\n{JPEG}: {assert_same(ours, theirs.answer(JPEG), JPEG_TOLERANCE)}")


@pytest.mark.parametrize("model", ["fused"], indirect=True)
def test_a_processor_without_avx512(
    theirs: Theirs, model: Path, without_avx512: Path, tmp_path: Path
) -> None:
    name = "portrait.png"
    ours = function.answer(model, theirs.photo(name), tmp_path, without_avx512)
    exactly = theirs.pipeline.exactly(theirs.photo(name))
    print(f"\n{name}: {assert_same(ours, theirs.answer(name), exactly=exactly)}")


@pytest.mark.parametrize("name", LEAN)
def test_the_lean_reference_is_modelscopes(theirs: Theirs, name: str) -> None:
    print(f"\n{name}: {assert_same(theirs.lean(name), theirs.answer(name))}")


@pytest.mark.parametrize("model", ["fused"], indirect=True)
def test_a_photo_of_8_megapixels(theirs: Theirs, model: Path, tmp_path: Path) -> None:
    ours = function.answer(model, theirs.photo(ULTRA_HD), tmp_path)
    expected = theirs.lean(ULTRA_HD)
    assert_says_something(expected)
    exactly = theirs.pipeline.exactly(theirs.photo(ULTRA_HD))
    print(f"\n{ULTRA_HD}: {assert_same(ours, expected, exactly=exactly)}")


def assert_says_something(answer: Answer) -> None:
    person = CIHP.classes.index("Human")
    persons = sum(entry.class_id == person for entry in answer.entries)
    assert persons >= PERSONS, persons
    assert len(answer.entries) - persons >= PARTS, len(answer.entries) - persons
