import pytest

from m2fp_train.geometry import NANO_SIZE


@pytest.mark.parametrize(
    ("photo", "working"),
    [
        ((1920, 1080), (683, 384)),
        ((1080, 1920), (384, 683)),
        ((550, 825), (384, 576)),
        ((100, 100), (384, 384)),
        ((1000, 400), (800, 320)),
        ((4000, 1), (800, 1)),
    ],
)
def test_working_size(photo: tuple[int, int], working: tuple[int, int]) -> None:
    assert NANO_SIZE.working_size(*photo) == working
