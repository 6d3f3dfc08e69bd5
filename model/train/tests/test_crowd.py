import numpy as np

from m2fp_train import crowd
from m2fp_train.classes import IGNORE
from m2fp_train.scene import Scene

SHAPE = (128, 192)


def test_a_training_scene_has_the_size_and_labels_of_a_crop(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    most = 0
    for _ in range(30):
        made = crowd.training_scene(rng, [scene], SHAPE)
        assert made.image.shape == (*SHAPE, 3)
        assert made.parts.shape == made.numbers.shape == SHAPE
        assert made.image.dtype == made.parts.dtype == made.numbers.dtype == np.uint8
        on_part = (made.parts != IGNORE) & (made.parts != 0)
        assert (made.numbers[on_part] > 0).all(), "every part is on a person"
        most = max(most, made.numbers[made.numbers != IGNORE].max(initial=0))
    assert most >= 3, "some scenes show several"


def test_the_same_seed_makes_the_same_scene(scene: Scene) -> None:
    first, again, other = (
        crowd.training_scene(np.random.default_rng((0, index)), [scene], SHAPE)
        for index in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.numbers, again.numbers)
    assert (first.image != other.image).any()


def test_a_crowd_has_the_people_asked_for_unless_they_are_hidden(scene: Scene) -> None:
    for seed in range(10):
        made = crowd.crowd_scene(np.random.default_rng(seed), [scene], SHAPE, 3)
        seen = set(np.unique(made.numbers)) - {0, IGNORE}
        assert seen == set(range(1, len(seen) + 1)) and len(seen) <= 3
    nobody = crowd.crowd_scene(np.random.default_rng(0), [scene], SHAPE, 0)
    assert not nobody.numbers.any() and not nobody.parts.any()


def test_slivers_are_ignored_and_the_others_counted_on() -> None:
    numbers = np.zeros((40, 40), np.uint8)
    numbers[:10], numbers[10, :3], numbers[20:], numbers[15, 0] = 1, 2, 5, IGNORE
    blank = Scene(np.zeros((40, 40, 3), np.uint8), np.zeros_like(numbers), numbers)
    made = crowd.renumbered(blank).numbers
    assert (made[:10] == 1).all() and (made[20:] == 2).all()
    assert (made[10, :3] == IGNORE).all() and made[15, 0] == IGNORE and made[12, 12] == 0


def test_rare_parts_come_more_often(scene: Scene) -> None:
    plain = Scene(scene.image, np.where(scene.parts == 9, 5, scene.parts), scene.numbers)
    made = crowd.with_rare_parts_more_often([plain] * 17 + [scene])
    # Trousers are in one of 18: sqrt(0.5 * 18) times.
    assert len(made) == 20 and sum(one is scene for one in made) == 3
