"""The same answers on a processor with AVX2 alone: other kernels, other operators of ours."""

from pathlib import Path

import numpy as np
import pytest

import function
import photos
from m2fp_export.export import export
from m2fp_export.verify import relative_error


@pytest.fixture(scope="module")
def m2fp(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shrunken network with all operators of ours."""
    out = tmp_path_factory.mktemp("m2fp") / "model"
    export(folder, out, portable=False, sizes=())
    return out


def assert_same_answers(model: Path, without_avx512: Path, tmp_path: Path) -> None:
    photo = photos.write(tmp_path / "photo.png", (500, 333), 1)
    with_it = function.answer(model, photo, tmp_path / "with")
    without = function.answer(model, photo, tmp_path / "without", without_avx512)
    assert relative_error(without.mask_logits, with_it.mask_logits) < 1e-4
    assert relative_error(without.class_logits, with_it.class_logits) < 1e-4
    assert np.mean(without.labels == with_it.labels) > 0.999


def test_the_packaged_model(without_avx512: Path, tmp_path: Path) -> None:
    assert_same_answers(function.NANO, without_avx512, tmp_path)


def test_the_packaged_model_in_8_bits(
    quantized: Path, without_avx512: Path, tmp_path: Path
) -> None:
    assert_same_answers(quantized, without_avx512, tmp_path)


def test_our_operators(m2fp: Path, without_avx512: Path, tmp_path: Path) -> None:
    assert_same_answers(m2fp, without_avx512, tmp_path)
