"""Both forms of deformable attention: by `grid_sample`, and as the operator is defined."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from m2fp_export.deform_attn import attend, attend_by_gathering

SHAPES = [
    [(1, 1), (2, 2), (4, 4)],
    [(2, 3), (4, 6), (8, 12)],
    [(1, 7), (2, 14), (4, 28)],
    [(5, 1), (3, 4), (2, 2)],  # no halving is assumed
]


def inputs(
    shapes: list[tuple[int, int]], spread: float, heads: int = 3, channels: int = 5, points: int = 2
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(len(shapes) + shapes[0][1])
    count = sum(height * width for height, width in shapes)
    value = generator.normal(size=(1, count, heads, channels))
    offsets = generator.normal(scale=spread, size=(1, count, heads, len(shapes), points, 2))
    logits = generator.normal(scale=3, size=(1, count, heads, len(shapes), points))
    return value.astype(np.float32), offsets.astype(np.float32), logits.astype(np.float32)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 1e6])
def test_both_compute_the_same(shapes: list[tuple[int, int]], spread: float) -> None:
    arrays = inputs(shapes, spread)
    expected = attend_by_gathering(*arrays, np.array(shapes))
    actual = attend(*map(torch.from_numpy, arrays), shapes)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_without_offsets_a_pixel_of_its_own_level_is_read() -> None:
    value, offsets, logits = inputs([(3, 4)], 0.0)
    expected = value.reshape(1, 12, -1)
    np.testing.assert_allclose(
        attend_by_gathering(value, offsets, logits, np.array([[3, 4]])), expected, atol=1e-6
    )


def test_half_a_pixel_outside_counts_half() -> None:
    value = np.ones((1, 1, 1, 1), np.float32)
    offsets = np.array([0.5, 0.0], np.float32).reshape(1, 1, 1, 1, 1, 2)
    logits = np.zeros((1, 1, 1, 1, 1), np.float32)
    assert attend_by_gathering(value, offsets, logits, np.array([[1, 1]])).item() == 0.5


def test_offsets_are_x_then_y() -> None:
    value = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)  # two rows of three
    offsets = np.tile(np.array([1.0, 0.0], np.float32), (1, 6, 1, 1, 1, 1))
    logits = np.zeros((1, 6, 1, 1, 1), np.float32)
    moved = attend_by_gathering(value, offsets, logits, np.array([[2, 3]]))
    assert moved.ravel().tolist() == [1, 2, 0, 4, 5, 0]
