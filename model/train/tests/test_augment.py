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


def test_a_training_scene_has_the_size_and_labels_of_a_crop(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        made = augment.training_scene(rng, [scene], 64)
        assert made.image.shape == (64, 64, 3)
        assert made.image.dtype == made.parts.dtype == made.person.dtype == np.uint8
        assert set(np.unique(made.person)) <= {0, 1, IGNORE}
        on_part = (made.parts != IGNORE) & (made.parts != 0)
        assert (made.person[on_part] == 1).all(), "every part is on a person"


def test_the_same_seed_makes_the_same_scene(scene: Scene) -> None:
    first, again, other = (
        augment.training_scene(np.random.default_rng((0, index)), [scene], 64)
        for index in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.parts, again.parts)
    assert (first.image != other.image).any()


def test_a_pasted_person_hides_what_is_behind(scene: Scene) -> None:
    empty = Scene(np.zeros((64, 48, 3), np.uint8), *np.full((2, 64, 48), IGNORE, np.uint8))
    pasted = augment.paste_person(empty, scene, 10, -5)
    expected = np.full((64, 48), IGNORE, np.uint8)
    visible = scene.person[5:, :38] == 1
    expected[:59, 10:][visible] = scene.parts[5:, :38][visible]
    np.testing.assert_array_equal(pasted.parts, expected)
    np.testing.assert_array_equal(pasted.person[:59, 10:] == 1, visible)
    assert (empty.image == 0).all(), "the scene it is pasted into is left alone"


def test_a_person_pasted_outside_changes_nothing(scene: Scene) -> None:
    assert augment.paste_person(scene, scene, 48, 0) is scene


def test_a_plain_backdrop_keeps_the_people_and_leaves_nobody_ignored(scene: Scene) -> None:
    plain = augment.plain_backdrop(np.random.default_rng(0), scene)
    person = scene.person == 1
    np.testing.assert_array_equal(plain.image[person], scene.image[person])
    np.testing.assert_array_equal(plain.parts[person], scene.parts[person])
    assert (plain.parts[~person] == 0).all() and (plain.person[~person] == 0).all()
