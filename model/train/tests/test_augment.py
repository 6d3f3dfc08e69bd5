import numpy as np

from m2fp_train import augment
from m2fp_train.classes import IGNORE
from m2fp_train.scene import Scene
from synthetic import class_id

LEFT_ARM, RIGHT_ARM = class_id("Left-arm"), class_id("Right-arm")


def test_a_mirrored_left_arm_is_a_right_arm_on_the_other_side(scene: Scene) -> None:
    mirrored = scene.mirrored()
    np.testing.assert_array_equal(mirrored.parts == RIGHT_ARM, (scene.parts == LEFT_ARM)[:, ::-1])
    assert (scene.parts == LEFT_ARM).any() and not (mirrored.parts == LEFT_ARM).any()
    np.testing.assert_array_equal(mirrored.image, scene.image[:, ::-1])
    np.testing.assert_array_equal(mirrored.mirrored().parts, scene.parts)


def test_a_pasted_person_hides_what_is_behind(scene: Scene) -> None:
    empty = Scene(np.zeros((64, 48, 3), np.uint8), *np.full((2, 64, 48), IGNORE, np.uint8))
    white = Scene(np.full_like(scene.image, 255), scene.parts, scene.numbers)
    pasted = augment.paste_person(empty, white, 10, -5)
    expected = np.full((64, 48), IGNORE, np.uint8)
    visible = pasted.image[:59, 10:, 0] > 127
    assert visible.any() and (scene.person[5:, :38][visible] == 1).all()
    expected[:59, 10:][visible] = scene.parts[5:, :38][visible]
    np.testing.assert_array_equal(pasted.parts, expected)
    np.testing.assert_array_equal(pasted.numbers[:59, 10:] == 1, visible)
    assert (empty.image == 0).all(), "the scene it is pasted into is left alone"


def test_a_person_pasted_outside_changes_nothing(scene: Scene) -> None:
    assert augment.paste_person(scene, scene, 48, 0) is scene


def test_whoever_is_pasted_gets_the_next_number(scene: Scene) -> None:
    twice = augment.paste_person(augment.paste_person(scene, scene, 20, 0), scene, -12, 5)
    assert set(np.unique(twice.numbers)) - {IGNORE} == {0, 1, 2, 3}
    third = twice.numbers[5:, :36] == 3
    assert third.any() and (scene.person[:-5, 12:][third] == 1).all()


def test_light_and_blur_keep_the_size() -> None:
    image = np.full((40, 30, 3), 90, np.uint8)
    changed = [augment.degrade(np.random.default_rng(seed), image) for seed in range(30)]
    assert all(other.shape == image.shape and other.dtype == np.uint8 for other in changed)
    assert any((other != image).any() for other in changed)
