import pytest
import torch
from torch.nn import functional as F

from m2fp_train.multipose_parser import MultiposeParser
from m2fp_train.multipose_queries import MultiposeQueryParser
from m2fp_train.network import double
from m2fp_train.outlines import LEAST_VARIANCE, WINDOW, guided, outlined_people
from m2fp_train.queries import NUM_QUERIES

RED, BLUE = torch.tensor([0.8, -0.5, -0.5]), torch.tensor([-0.6, -0.4, 0.7])


def two_colours(left: int) -> torch.Tensor:
    """An image [1, 3, 64, 96] that is red in the first `left` columns, and blue in the others."""
    image = BLUE[None, :, None, None].expand(1, 3, 64, 96).clone()
    image[..., :left] = RED[None, :, None, None]
    return image


def blurred_until(column: int) -> torch.Tensor:
    """Logits [1, 1, 16, 24] of somebody in the cells before `column`, blurred."""
    logits = torch.full((1, 1, 16, 24), -5.0)
    logits[..., :column] = 5.0
    return F.avg_pool2d(logits, 5, stride=1, padding=2, count_include_pad=False)


@pytest.mark.parametrize("left", [46, 50])
def test_people_end_where_the_image_shows_it(left: int) -> None:
    logits = blurred_until(12)
    nobody = torch.full_like(logits, -9.0)
    masks, scores = torch.cat([logits, nobody], 1), torch.tensor([[0.95, 0.9]])
    of_masks, anybody = outlined_people(two_colours(left), masks, scores, logits)
    expected = torch.arange(48).expand(32, 48) < left // 2
    assert torch.equal(double(logits)[0, 0] > 0, torch.arange(48).expand(32, 48) < 24)
    assert torch.equal((double(logits) + of_masks)[0, 0] > 0, expected)
    assert torch.equal(anybody[0, 0] > 0, expected)
    assert (double(nobody) + of_masks).max() < -2, "nobody comes in"


def test_masks_and_parts_are_heard_of_anybody() -> None:
    """Either makes up for the other, where it is the surer one."""
    image, none = torch.zeros(1, 3, 64, 96), torch.full((1, 1, 16, 24), -2.0)
    sure = torch.full_like(none, 4.0)
    for masks, anybody in ((sure, none), (none, sure)):
        _, outlined = outlined_people(image, masks, torch.ones(1, 1), anybody)
        torch.testing.assert_close(outlined, torch.ones(1, 1, 32, 48))


def test_nobody_anywhere_stays_nobody() -> None:
    masks, anybody = torch.full((1, 3, 16, 24), -2000.0), torch.full((1, 1, 16, 24), -90.0)
    of_masks, outlined = outlined_people(
        torch.rand(1, 3, 64, 96), masks, torch.zeros(1, 3), anybody
    )
    assert of_masks.abs().max() < 1e-3
    assert (outlined < -4).all()


def test_the_filter_is_the_published_one() -> None:
    """Windows' least squares, pixel by pixel, at the size of the maps."""
    torch.manual_seed(0)
    small = torch.rand(1, 3, 9, 11, dtype=torch.float64) * 2 - 1
    maps = torch.rand(1, 2, 9, 11, dtype=torch.float64)
    # Such an image is at strides 2 and 4 the small one, in squares.
    image = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    ways, offsets = torch.zeros(2, 3, 9, 11).double(), torch.zeros(2, 9, 11).double()
    reach = WINDOW // 2
    for y in range(9):
        for x in range(11):
            window = (
                slice(max(0, y - reach), y + reach + 1),
                slice(max(0, x - reach), x + reach + 1),
            )
            colours = small[0][:, window[0], window[1]].flatten(1)
            values = maps[0][:, window[0], window[1]].flatten(1)
            mean, level = colours.mean(1, keepdim=True), values.mean(1, keepdim=True)
            around = colours - mean
            covariance = around @ around.T / around.shape[1] + LEAST_VARIANCE * torch.eye(3)
            way = (values - level) @ around.T / around.shape[1] @ covariance.inverse()
            ways[:, :, y, x], offsets[:, y, x] = way, (level - way @ mean)[:, 0]

    def near(of: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(of, WINDOW, 1, reach, count_include_pad=False)

    factors = torch.stack([double(near(ways[:, i][None])) for i in range(3)], 2)
    colours = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = (factors * colours[:, None]).sum(2) + double(near(offsets[None]))
    torch.testing.assert_close(guided(image, maps), expected)


def test_a_graph_draws_at_half_of_the_size() -> None:
    torch.manual_seed(0)
    network = MultiposeParser().eval()
    parser = MultiposeQueryParser(network, 32).eval()
    image = torch.randint(0, 256, (1, 3, 64, 90), dtype=torch.uint8)
    with torch.no_grad():
        classes, masks = parser(image)
    assert masks.shape == (1, NUM_QUERIES, 32, 48) and parser.stride == 2
    # The parts' logits are those of a softmax.
    torch.testing.assert_close(masks[:, :20].sigmoid().sum(1), torch.ones(1, 32, 48))
    assert torch.isfinite(classes).all()
