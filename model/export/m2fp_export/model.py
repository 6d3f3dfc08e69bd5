"""M2FP (arXiv 2301.00394) in PyTorch, written from the papers: the reference of the ONNX graph."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2fp_export.architecture import DIVISOR, PIXEL_MEAN, PIXEL_STD, Architecture
from m2fp_export.backbone import ResNet
from m2fp_export.pixel_decoder import PixelDecoder
from m2fp_export.query_decoder import QueryDecoder


class Head(nn.Module):
    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(sizes)
        self.predictor = QueryDecoder(sizes)


class M2FP(nn.Module):
    """Takes one image, uint8 or float [1, 3, H, W], RGB 0-255, unpadded.

    Gives class logits [1, Q, C+1] and mask logits [1, Q, h, w] at stride 4 of the padded image.
    It computes in the type of its weights: `double()` makes float64 of everything.
    """

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.sizes = sizes
        self.backbone = ResNet(sizes)
        self.sem_seg_head = Head(sizes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        dtype = self.backbone.stem.conv1.weight.dtype
        features = self.backbone(pad(normalise(image, dtype)))
        classes, masks = self.sem_seg_head.predictor(*self.sem_seg_head.pixel_decoder(features))
        return classes[None], masks[None]


def normalise(image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    mean = torch.tensor(PIXEL_MEAN, dtype=dtype).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, dtype=dtype).view(3, 1, 1)
    return (image.to(dtype) - mean) / std


def pad(image: Tensor) -> Tensor:
    """Zeros to the right and below, up to multiples of the divisor."""
    height, width = image.shape[2:]
    return F.pad(image, (0, -width % DIVISOR, 0, -height % DIVISOR))
