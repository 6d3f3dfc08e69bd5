"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, equation 3) of an encoder.

The encoder's queries are the pixels of its own levels, so their reference points follow from the
levels' sizes. `m2fp::DeformAttn` in an exported graph is exactly this function:

inputs
    value   float [1, S, M, D]        S = Σ Hₗ·Wₗ pixels of all levels, one level after another,
                                      rows first; M heads, D channels a head
    offsets float [1, S, M, L, P, 2]  raw output of the linear layer: (x, y) in pixels of level l
    logits  float [1, S, M, L, P]     raw output of the linear layer
    shapes  int64 [L, 2]              (Hₗ, Wₗ)
output
    float [1, S, M·D]                 channel m·D + d is channel d of head m

For pixel s, at row r and column c of level k, and head m:
    weights[l, p] = softmax over all L·P of logits[0, s, m]
    x = (c + ½)·Wₗ/Wₖ + offsets[0, s, m, l, p, 0] − ½        columns of level l
    y = (r + ½)·Hₗ/Hₖ + offsets[0, s, m, l, p, 1] − ½        rows of level l
    output[0, s, m·D + d] = Σ_{l, p} weights[l, p] · bilinear(value of level l, y, x)[m, d]
bilinear: of the four pixels around (y, x); a pixel outside the level counts as zero. An offset that
is not finite gives a value that is not specified.

No attributes. M, D, L and P follow from the inputs' shapes; for M2FP they are 8, 32, 3 and 4.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

DOMAIN = "m2fp"
OP_TYPE = "DeformAttn"
VERSION = 1

Shapes = list[tuple[int, int]]
"""(height, width) of each level."""


def attend(value: Tensor, offsets: Tensor, logits: Tensor, shapes: Shapes) -> Tensor:
    """The function above by way of `grid_sample`."""
    _, pixels, heads, channels = value.shape
    levels, points = logits.shape[3:]
    weights = logits.flatten(3).softmax(3).view_as(logits)
    references = reference_points(shapes, value.dtype)
    output = value.new_zeros(heads, channels, pixels)
    parts = value[0].split([height * width for height, width in shapes])
    for level, (part, (height, width)) in enumerate(zip(parts, shapes, strict=True)):
        scale = value.new_tensor([width, height])
        places = references[:, None, None] + offsets[0, :, :, level] / scale
        grid = places.transpose(0, 1) * 2 - 1
        planes = part.permute(1, 2, 0).reshape(heads, channels, height, width)
        sampled = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
        output += (sampled * weights[0, :, :, level].transpose(0, 1)[:, None]).sum(3)
    assert levels == len(shapes) and points == offsets.shape[4]
    return output.permute(2, 0, 1).reshape(1, pixels, heads * channels)


def reference_points(shapes: Shapes, dtype: torch.dtype = torch.float32) -> Tensor:
    """[S, 2]: (x, y) of every pixel's centre, 0 to 1 across its level."""
    grids = []
    for height, width in shapes:
        rows = (torch.arange(height, dtype=dtype) + 0.5) / height
        columns = (torch.arange(width, dtype=dtype) + 0.5) / width
        grid = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], 2)
        grids.append(grid.flatten(0, 1))
    return torch.cat(grids)


def attend_by_gathering(
    value: NDArray[np.floating],
    offsets: NDArray[np.floating],
    logits: NDArray[np.floating],
    shapes: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The function above as its definition reads, in float64: what a kernel is tested against."""
    _, pixels, heads, channels = value.shape
    values = value[0].astype(np.float64)
    exponentials = np.exp(logits[0] - logits[0].max((2, 3), keepdims=True).astype(np.float64))
    weights = exponentials / exponentials.sum((2, 3), keepdims=True)
    output = np.zeros((pixels, heads, channels))
    starts = np.concatenate([[0], np.cumsum(shapes.prod(1))])
    head = np.arange(heads)[None, :, None]
    for own, (own_height, own_width) in enumerate(shapes):
        here = slice(starts[own], starts[own + 1])
        rows, columns = np.divmod(np.arange(own_height * own_width), own_width)
        for level, (height, width) in enumerate(shapes):
            shift = offsets[0, here, :, level].astype(np.float64)
            x = ((columns + 0.5) * width / own_width)[:, None, None] + shift[..., 0] - 0.5
            y = ((rows + 0.5) * height / own_height)[:, None, None] + shift[..., 1] - 0.5
            left, top = np.floor(x), np.floor(y)
            for row, row_share in ((top, 1 - (y - top)), (top + 1, y - top)):
                for column, column_share in ((left, 1 - (x - left)), (left + 1, x - left)):
                    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                    share = weights[here, :, level] * row_share * column_share * inside
                    row_at = np.clip(row, 0, height - 1).astype(np.int64)
                    column_at = np.clip(column, 0, width - 1).astype(np.int64)
                    taken = values[starts[level] + row_at * width + column_at, head]
                    output[here] += (share[..., None] * taken).sum(2)
    return output.reshape(1, pixels, heads * channels)
