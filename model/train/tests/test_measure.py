import numpy as np

from m2fp_train.measure import line_above


def test_a_line_through_points_on_a_line() -> None:
    np.testing.assert_allclose(line_above([1, 2, 4], [5.0, 7.0, 11.0]), (3.0, 2.0))


def test_no_point_is_above_the_line() -> None:
    x, y = [1, 2, 3, 4], [2.0, 9.0, 4.0, 6.0]
    intercept, slope = line_above(x, y)
    heights = intercept + slope * np.array(x)
    assert (heights >= np.array(y) - 1e-9).all()
    assert np.isclose(heights[1], 9.0)


def test_the_intercept_is_never_negative() -> None:
    assert line_above([1, 2], [1.0, 3.0])[0] == 0.0
