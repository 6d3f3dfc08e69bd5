"""`--flip` against ModelScope's network run as M2FP's own code runs it on a mirrored photo.

M2FP's published figures are of `ParsingWithTTA` and `SemanticSegmentorWithTTA` (soeaver/M2FP,
`m2fp/test_time_augmentation.py`): the network sees the resized photo, and the same mirrored. The
second class maps are mirrored back, left and right exchanged, and the mean of both decides.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import function
import judge
import photos
from answers import LABELS_AGREEING
from m2fp_export.export import export
from m2fp_export.variants import CIHP, LIP, Variant

pytestmark = pytest.mark.full

M2FP = os.environ.get("M2FP", str(function.ROOT / "target" / "release" / "m2fp"))
SIDED = [("Left-arm", "Right-arm"), ("Left-leg", "Right-leg"), ("Left-shoe", "Right-shoe")]
CASES = {CIHP: (601, 1003), LIP: (1920, 1080)}
"""Width and height. Neither side of the first one's working size is a multiple of a mask's cell.
LIP's lies between two bars of its canvas; their code mirrors the canvas, ours the photo on it."""
CLASSES = 8
"""So many at least, in every label map: else a comparison says little."""
CHANGED = 0.02
"""Share of the pixels that mirroring changes at least: else it might as well be left out."""


def class_maps(pipeline: judge.Pipeline, photo: Path, *, mirrored: bool) -> Tensor:
    """[C, H, W] at the photo's size, as their network's post-processing has them."""
    state = pipeline.pipeline.preprocess(str(photo))
    if mirrored:
        image = state["batched_inputs"][0]["image"]
        state["batched_inputs"][0]["image"] = image.flip(2)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = pipeline.model.postprocess(pipeline.model(state))["eval_result"][0]
    maps = result["parsing"]["semantic_outputs"] if "parsing" in result else result["sem_seg"]
    return maps.flip(2) if mirrored else maps


def exchanged(maps: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Left and right, by their names."""
    order = list(range(len(maps)))
    for names in SIDED:
        left, right = (classes.index(name) for name in names)
        order[left], order[right] = right, left
    return maps[order]


def ours(model: Path, photo: Path, out: Path) -> NDArray[np.uint8]:
    arguments = [photo, "--model", model, "--output", "mask", "--flip", "-o", out]
    done = function.run([M2FP, "parse"], *arguments)
    assert done.returncode == 0, done.stderr
    with Image.open(out / f"{photo.name}.mask.png") as mask:
        return np.asarray(mask)


@pytest.mark.parametrize("variant", CASES, ids=lambda variant: variant.name)
def test_a_photo(variant: Variant, seeded: Callable[[Variant], Path], tmp_path: Path) -> None:
    checkpoint, model = seeded(variant), tmp_path / "model"
    export(checkpoint, model, sizes=())
    photo = photos.write(tmp_path / "photo.png", CASES[variant], 0)

    pipeline = judge.Pipeline(checkpoint)
    plain, mirrored = (class_maps(pipeline, photo, mirrored=way) for way in (False, True))
    expected = ((plain + exchanged(mirrored, variant.classes)) / 2).argmax(0).numpy()
    labels = ours(model, photo, tmp_path / "out")
    assert labels.shape == expected.shape
    agreeing = float((labels == expected).mean())
    changed = float((plain.argmax(0).numpy() != expected).mean())
    print(f"\n{variant.name}: {1 - agreeing:.1e} of the pixels differ; {changed:.1%} by mirroring")
    assert len(np.unique(expected)) >= CLASSES
    assert changed >= CHANGED
    assert agreeing >= LABELS_AGREEING, f"only {agreeing:.4%} of the pixels agree"
