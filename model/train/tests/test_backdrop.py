import numpy as np
import pytest

from m2fp_train import backdrop
from m2fp_train.scene import Scene

SHAPE = (70, 90)


def test_a_photo_without_people_shows_no_pixel_of_theirs(scene: Scene) -> None:
    image = np.where(scene.numbers[..., None] > 0, np.uint8(255), np.uint8(60))
    empty = backdrop.without_people(Scene(image.repeat(3, 2), scene.parts, scene.numbers))
    assert empty.max() < 80
    away = np.ones(scene.numbers.shape, bool)
    rows, columns = np.nonzero(scene.numbers)
    for row, column in zip(rows, columns, strict=True):
        away[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5] = False
    np.testing.assert_array_equal(empty[away], 60)


@pytest.mark.parametrize("kind", backdrop.KINDS)
def test_every_kind_has_the_size_asked_for(
    kind: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backdrop, "KINDS", {kind: 1.0})
    for seed in range(5):
        image = backdrop.backdrop(np.random.default_rng(seed), [scene], SHAPE)
        assert image.shape == (*SHAPE, 3) and image.dtype == np.uint8


def test_a_texture_repeats_without_seams() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    made = backdrop.tiled(np.random.default_rng(1), image, SHAPE)
    assert made.shape == (*SHAPE, 3)
    side = next(n for n in range(1, 31) if (made[:, n - 1] == made[:, n]).all())
    np.testing.assert_array_equal(
        made[: 2 * side, :side], made[: 2 * side, side : 2 * side][:, ::-1]
    )
