"""Sine position encodings on a grid (DETR, arXiv 2005.12872, appendix): normalised to 2π."""

import math

import torch
from torch import Tensor

TEMPERATURE = 10000
EPSILON = 1e-6


def frequencies(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """[count] divisors of the angle; each serves one sine and one cosine."""
    return TEMPERATURE ** (torch.arange(count, dtype=dtype) / count)


def encode(height: int, width: int, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """[height·width, channels]: half the channels for y, half for x, sines and cosines in turn."""
    half = channels // 2
    rows = _encode_axis(height, half, dtype)[:, None].expand(height, width, half)
    columns = _encode_axis(width, half, dtype)[None].expand(height, width, half)
    return torch.cat([rows, columns], 2).flatten(0, 1)


def _encode_axis(length: int, channels: int, dtype: torch.dtype) -> Tensor:
    places = torch.arange(1, length + 1, dtype=dtype)
    angles = places / (length + EPSILON) * (2 * math.pi)
    angles = angles[:, None] / frequencies(channels // 2, dtype)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
