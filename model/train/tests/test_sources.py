import numpy as np
import pytest
import torch

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import BACKGROUND_ID, IGNORE
from m2fp_train.multipose_targets import BoxTargets
from m2fp_train.multipose_training import MultiposeRecipe
from m2fp_train.ordinary import OrdinaryPhoto
from m2fp_train.partial import ANYTHING, SOMEBODY
from m2fp_train.sources import SHARES, AllScenes, cut_out, outlined, read_sources
from m2fp_train.taught import Taught
from synthetic import write_all_sources

RECIPE = MultiposeRecipe(batch=2, crop=192)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> AllScenes:
    folder = tmp_path_factory.mktemp("data")
    write_all_sources(folder)
    return AllScenes(read_sources(folder, Taught(folder / "taught")), RECIPE)


def test_an_outlined_photo_knows_people_and_not_their_parts(ordinary: list[OrdinaryPhoto]) -> None:
    scene = outlined(ordinary[0]).scene
    assert [np.count_nonzero(scene.numbers == n) for n in (1, 2)] == [3000, 10000]
    assert (scene.parts[scene.numbers == 1] == SOMEBODY).all()
    assert scene.numbers[135, 100] == IGNORE and scene.parts[135, 100] == ANYTHING
    assert scene.numbers[0, 0] == scene.parts[0, 0] == BACKGROUND_ID


def test_people_of_ordinary_photos_are_cut_out_one_by_one(ordinary: list[OrdinaryPhoto]) -> None:
    photo = outlined(ordinary[0])
    people = cut_out([photo])
    tall = [n for n in (1, 2) if np.ptp(np.nonzero(photo.scene.numbers == n)[0]) + 1 >= 64]
    assert len(people) == len(tall) > 0
    for person, number in zip(people, tall, strict=True):
        own = photo.scene.numbers == number
        assert person.person_box() == (0, 0, person.width, person.height)
        assert np.count_nonzero(person.numbers == 1) == np.count_nonzero(own)
        assert (person.parts[person.numbers == 1] == SOMEBODY).all()


def test_samples_come_from_every_source(scenes: AllScenes) -> None:
    assert set(scenes.kinds) == set(SHARES)
    batch = [scenes[index] for index in range(80)]
    assert batch[0][0].shape == (3, 192, 192) and batch[0][4].shape == (8, 4)
    seen = torch.cat([sample[1].flatten() for sample in batch]).unique().tolist()
    assert {SOMEBODY, ANYTHING, BACKGROUND_ID} <= set(seen)
    assert not all(sample[3].all() for sample in batch), "some photos rule classes out"
    assert all(torch.equal(a, b) for a, b in zip(scenes[7], batch[7], strict=True))


def test_targets_are_the_boxes_of_what_is_seen(ccp: ClothingCoParsing) -> None:
    numbers = np.zeros((64, 64), np.uint8)
    numbers[8:40, 16:32] = 1
    numbers[60:, 60:] = IGNORE
    targets = BoxTargets.of(np.random.default_rng(0), numbers)
    assert targets.boxes[0].tolist() == [24, 24, 16, 32]
    assert targets.people.tolist() == [1] + [0] * 7
