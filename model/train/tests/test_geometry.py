import pytest

from m2fp_train.geometry import MULTIPOSE_SIZE, NANO_SIZE, SizeRule


@pytest.mark.parametrize(
    ("rule", "photo", "working"),
    [
        (NANO_SIZE, (1920, 1080), (683, 384)),
        (NANO_SIZE, (1080, 1920), (384, 683)),
        (NANO_SIZE, (550, 825), (384, 576)),
        (NANO_SIZE, (100, 100), (384, 384)),
        (NANO_SIZE, (1000, 400), (800, 320)),
        (NANO_SIZE, (4000, 1), (800, 1)),
        (MULTIPOSE_SIZE, (640, 480), (512, 384)),
        (MULTIPOSE_SIZE, (1500, 1000), (576, 384)),
        # Shrunk a little, which saves 32 rows or columns.
        (MULTIPOSE_SIZE, (1920, 1080), (626, 352)),
        (MULTIPOSE_SIZE, (1280, 800), (608, 380)),
        (MULTIPOSE_SIZE, (1025, 768), (512, 384)),
        (MULTIPOSE_SIZE, (2340, 1080), (625, 288)),
        # 26 rows of 346 would be too many.
        (MULTIPOSE_SIZE, (2000, 1080), (640, 346)),
    ],
)
def test_working_size(rule: SizeRule, photo: tuple[int, int], working: tuple[int, int]) -> None:
    assert rule.working_size(*photo) == working
