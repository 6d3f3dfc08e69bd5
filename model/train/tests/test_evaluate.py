import numpy as np
import torch
from torch.nn import functional as F

from m2fp_train.classes import IGNORE, NUM_CLASSES, NUM_PARTS, PERSON_ID
from m2fp_train.evaluate import (
    Predictor,
    Scores,
    anywhere,
    count_ghosts,
    evaluate,
    evaluate_crowds,
    parse,
    to_photo_size,
)
from m2fp_train.geometry import NANO_SIZE, SizeRule
from m2fp_train.scene import Scene
from synthetic import class_id

# The scene's own size, 48 x 64, which is padded to 64 x 64.
RULE = SizeRule(min_side=48, max_side=64, divisor=32, smallest_side=8)


def oracle(parts: np.ndarray, person: np.ndarray) -> Predictor:
    """A model that knows the answer, as well as a mask of a quarter of the size can say it."""

    def predict(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        assert image.shape == (1, 3, 64, 48) and image.dtype == np.uint8
        truth = torch.zeros(NUM_CLASSES, 64, 64)
        labels = torch.from_numpy(np.where(parts == IGNORE, 0, parts).astype(np.int64))
        truth[:NUM_PARTS, :, :48] = F.one_hot(labels, NUM_PARTS).permute(2, 0, 1)
        truth[PERSON_ID, :, :48] = torch.from_numpy((person == 1).astype(np.float32))
        masks = F.avg_pool2d(truth[None], 4) * 20 - 10
        return (torch.eye(NUM_CLASSES, NUM_CLASSES + 1) * 16 - 8)[None], masks

    return predict


def test_a_model_that_knows_scores_well(scene: Scene) -> None:
    scores = evaluate(oracle(scene.parts, scene.person), RULE, [scene])
    assert scores.mean_iou > 0.6 and scores.person_iou > 0.8
    assert np.isnan(scores.iou[class_id("Hat")]), "a class that is nowhere has no figure"


def test_a_wrong_answer_scores_nothing(scene: Scene) -> None:
    wrong = np.full_like(scene.parts, class_id("Dress"))
    scores = evaluate(oracle(wrong, 1 - scene.person), RULE, [scene])
    assert scores.mean_iou < 0.01 and scores.person_iou < 0.2


def test_the_label_map_never_says_human(scene: Scene) -> None:
    label_map, persons = parse(oracle(scene.parts, scene.person), RULE, scene.image)
    assert label_map.shape == (64, 48) and label_map.max() < NUM_PARTS
    assert len(persons) == 1 and anywhere(persons, (64, 48)).any()


def test_figures_add_up_over_photos() -> None:
    scores = Scores.empty()
    yes, no = np.array([True, True]), np.array([True, False])
    scores.add(PERSON_ID, yes, no)
    scores.add(PERSON_ID, yes, yes)
    assert scores.person_iou == 3 / 4


def test_masks_are_cropped_between_the_two_resamplings() -> None:
    masks = torch.arange(16.0).reshape(1, 1, 1, 16)  # 64 x 4 padded, of which 40 are photo
    resampled = to_photo_size(masks, (40, 4), (20, 2))
    assert resampled.shape == (1, 1, 2, 20)
    # The centre of photo pixel x is 2x + 1 in working pixels, (2x + 1) / 4 - 0.5 in mask pixels.
    torch.testing.assert_close(resampled[0, 0, 0, 1:], torch.arange(1, 20) / 2 - 0.25)


def test_a_model_that_sees_nobody_finds_nobody(scene: Scene) -> None:
    def blind(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = (length // 4 for length in image.shape[2:])
        return torch.zeros(1, 1, NUM_CLASSES + 1), torch.full((1, 1, height, width), -9.0)

    scores = evaluate_crowds(blind, NANO_SIZE, [scene], count=10)
    assert scores.count == 10 and scores.people >= 15 and scores.ap50 == 0
    assert count_ghosts(blind, NANO_SIZE, [scene], count=3) == 0


def test_a_model_that_sees_somebody_everywhere_sees_ghosts(scene: Scene) -> None:
    def seer(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = (length // 4 for length in image.shape[2:])
        return F.one_hot(torch.tensor([[PERSON_ID]]), NUM_CLASSES + 1) * 9.0, torch.full(
            (1, 1, height, width), 9.0
        )

    assert count_ghosts(seer, NANO_SIZE, [scene], count=3) == 3
