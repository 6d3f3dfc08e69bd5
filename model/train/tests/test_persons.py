import torch

from m2fp_train.persons import (
    FEATURES,
    HIDDEN,
    KERNEL,
    MOST_AGREEMENT,
    agreed_masks,
    at_cells,
    person_masks,
    pixel_positions,
    somebody_logit,
)


def test_positions_are_the_middles_of_the_pixels() -> None:
    x, y = pixel_positions(torch.zeros(1, 5, 2, 3), stride=8)[0]
    assert x[0].tolist() == [4, 12, 20] and y[:, 0].tolist() == [4, 12]


def test_cells_are_counted_row_by_row() -> None:
    values = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert at_cells(values, torch.tensor([[4, 0]])).tolist() == [[[4, 10], [0, 6]]]


def test_a_kernel_draws_relative_to_its_place() -> None:
    # One hidden channel: relu(feature 0 + 128 * (x - place) / 128), then minus 1.
    kernel = torch.zeros(KERNEL)
    kernel[0], kernel[FEATURES], kernel[-1 - HIDDEN], kernel[-1] = 1, 128, 1, -1
    features = torch.zeros(1, FEATURES, 1, 4)
    features[0, 0] = torch.tensor([0.0, 0.0, 0.0, 10.0])
    places = torch.tensor([[[6.0, 2.0], [100.0, 2.0]]])
    masks = person_masks(features, kernel.expand(1, 2, -1), places, stride=4)
    assert masks[0, 0, 0].tolist() == [-1, -1, 3, 17]  # x is 2, 6, 10, 14
    assert masks[0, 1, 0].tolist() == [-1] * 4


def test_kernels_do_what_two_plain_convolutions_do() -> None:
    torch.manual_seed(0)
    features, kernels = torch.randn(2, FEATURES, 3, 5), torch.randn(2, 4, KERNEL)
    places = torch.rand(2, 4, 2) * 20
    masks = person_masks(features, kernels, places, stride=4)
    seen = torch.cat(
        [features[1], (pixel_positions(features, 4)[1] - places[1, 2, :, None, None]) / 128]
    )
    first, bias, second, last = kernels[1, 2].split((HIDDEN * (FEATURES + 2), HIDDEN, HIDDEN, 1))
    hidden = torch.einsum("oc,chw->ohw", first.reshape(HIDDEN, -1), seen) + bias[:, None, None]
    expected = torch.einsum("c,chw->hw", second, hidden.relu()) + last
    torch.testing.assert_close(masks[1, 2], expected)


def test_parts_move_only_what_a_mask_is_unsure_of() -> None:
    masks = torch.tensor([-5.0, -1.0, 1.0, 5.0]).reshape(1, 1, 1, 4).expand(1, 2, 1, 4)
    for somebody, expected in ((9.0, [-1, 3, 5, 9]), (-0.5, [-5.5, -1.5, 0.5, 4.5])):
        agreed = agreed_masks(masks, torch.full((1, 1, 4), somebody))
        assert agreed[0, 1, 0].tolist() == expected
    assert MOST_AGREEMENT == 4


def test_somebody_is_who_is_no_background() -> None:
    torch.manual_seed(0)
    parts = torch.randn(2, 20, 3, 5)
    expected = 1 - parts.softmax(1)[:, 0]
    torch.testing.assert_close(somebody_logit(parts).sigmoid(), expected)
