"""A network of SCHP's form (Self-Correction for Human Parsing), written from its paper and those it
builds on (CE2P, PSPNet, in-place activated batch norm): seeded weights instead of trained ones.

Self-correction is a way to train; what is left of it is the network of CE2P: a ResNet whose last
stage is dilated instead of strided, pyramid pooling, an edge branch, a decoder, and their fusion.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

OPSET = 17
OUTPUTS = ("parsing", "fusion", "edge")
MEAN_BGR, STD_BGR = (0.406, 0.456, 0.485), (0.225, 0.224, 0.229)
"""As its pipeline has them, of an image with blue first."""
PLANES = (64, 128, 256, 512)
POOLED = (1, 2, 3, 6)
EXPANSION = 4


@dataclass(frozen=True)
class Sizes:
    """Those of the published networks: ResNet-101, 20 classes of LIP. share: every width is
    divided by it."""

    classes: int = 20
    layers: tuple[int, int, int, int] = (3, 4, 23, 3)
    share: int = 1

    def of(self, width: int) -> int:
        return width // self.share


class Normed(nn.Sequential):
    """A convolution without bias, batch norm and its activation (`slope` of a leaky ReLU)."""

    def __init__(
        self, channels: int, out: int, kernel: int = 1, slope: float | None = 0.01, **how: int
    ) -> None:
        dilation = how.get("dilation", 1)
        padding = dilation * (kernel // 2)
        convolution = nn.Conv2d(channels, out, kernel, padding=padding, bias=False, **how)
        activation = [] if slope is None else [nn.LeakyReLU(slope)]
        super().__init__(convolution, nn.BatchNorm2d(out), *activation)


class Bottleneck(nn.Module):
    def __init__(self, channels: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        out = EXPANSION * planes
        self.branch = nn.Sequential(
            Normed(channels, planes, slope=0.0),
            Normed(planes, planes, 3, slope=0.0, stride=stride, dilation=dilation),
            Normed(planes, out, slope=None),
        )
        changes = stride > 1 or channels != out
        self.skip = Normed(channels, out, slope=None, stride=stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.skip(x))


class Pyramid(nn.Module):
    """Pyramid pooling."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Normed(channels, out) for _ in POOLED)
        self.join = Normed(channels + len(POOLED) * out, out, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [
            enlarged(stage(pool(x, cells)), x)
            for cells, stage in zip(POOLED, self.stages, strict=True)
        ]
        return self.join(torch.cat([*pooled, x], 1))


def pool(x: Tensor, cells: int) -> Tensor:
    """Means of `cells`×`cells` regions, which overlap where they do not divide the map."""
    if not torch.onnx.is_in_onnx_export():
        return F.adaptive_avg_pool2d(x, cells)
    # ONNX has no such operator, and PyTorch exports it only where the regions divide the map.
    rows, columns = (_regions(int(side), cells) for side in x.shape[2:])
    means = [x[:, :, r, c].mean((2, 3), keepdim=True) for r in rows for c in columns]
    return torch.cat(means, 2).reshape(1, x.shape[1], cells, cells)


def _regions(side: int, cells: int) -> list[slice]:
    return [slice(i * side // cells, -(-(i + 1) * side // cells)) for i in range(cells)]


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


class Edges(nn.Module):
    """Edges between classes, from three stages; and the features that they are seen in."""

    def __init__(self, stages: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(Normed(channels, width) for channels in stages)
        self.edge = nn.Conv2d(width, 2, 3, padding=1)
        self.join = nn.Conv2d(2 * len(stages), 2, 1)

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, Tensor]:
        seen = [own(x) for own, x in zip(self.features, stages, strict=True)]
        edges = [enlarged(self.edge(x), stages[0]) for x in seen]
        features = [enlarged(x, stages[0]) for x in seen]
        return self.join(torch.cat(edges, 1)), torch.cat(features, 1)


class Decoder(nn.Module):
    def __init__(self, context: int, fine: int, sizes: Sizes) -> None:
        super().__init__()
        width, few = sizes.of(256), sizes.of(48)
        self.context = Normed(context, width)
        self.fine = Normed(fine, few)
        self.join = nn.Sequential(Normed(width + few, width), Normed(width, width))
        self.classes = nn.Conv2d(width, sizes.classes, 1)

    def forward(self, context: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
        large = enlarged(self.context(context), fine)
        features = self.join(torch.cat([large, self.fine(fine)], 1))
        return self.classes(features), features


class Schp(nn.Module):
    """Normalised [1, 3, H, W], blue first, to `OUTPUTS` at a quarter of the size."""

    def __init__(self, sizes: Sizes = Sizes()) -> None:
        super().__init__()
        stem = (3, sizes.of(64), sizes.of(64), sizes.of(128))
        self.stem = nn.Sequential(
            Normed(stem[0], stem[1], 3, slope=0.0, stride=2),
            Normed(stem[1], stem[2], 3, slope=0.0),
            Normed(stem[2], stem[3], 3, slope=0.0),
            nn.MaxPool2d(3, 2, padding=1),
        )
        outs = [EXPANSION * sizes.of(planes) for planes in PLANES]
        strides, dilations = (1, 2, 2, 1), (1, 1, 1, 2)
        self.stages = nn.ModuleList()
        channels = stem[3]
        for index, out in enumerate(outs):
            blocks = []
            for block in range(sizes.layers[index]):
                stride = strides[index] if block == 0 else 1
                blocks.append(Bottleneck(channels, out // EXPANSION, stride, dilations[index]))
                channels = out
            self.stages.append(nn.Sequential(*blocks))
        context, width = sizes.of(512), sizes.of(256)
        self.pyramid = Pyramid(outs[3], context)
        self.edges = Edges((outs[0], outs[1], outs[2]), width)
        self.decoder = Decoder(context, outs[0], sizes)
        self.fusion = nn.Sequential(
            Normed(4 * width, width), nn.Dropout2d(0.1), nn.Conv2d(width, sizes.classes, 1)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(image)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        parsing, features = self.decoder(self.pyramid(x), stages[0])
        edge, edge_features = self.edges(stages[:3])
        return parsing, self.fusion(torch.cat([features, edge_features], 1)), edge


def network(seed: int, sizes: Sizes = Sizes(), side: int = 129) -> Schp:
    """Batch norm's statistics are those of a scene, so that no signal fades or explodes."""
    torch.manual_seed(seed)
    made = Schp(sizes)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                # The variance of one pooled cell would be that of nothing.
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
        generator = np.random.default_rng(seed)
        scenes = [_scene(generator, side) for _ in range(4)]
        made.train()(torch.cat([normalised(scene) for scene in scenes]))
        made.eval()
        made.fusion[-1].weight.normal_(0, 1)
    return made


def _scene(generator: np.random.Generator, side: int) -> Image.Image:
    coarse = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def normalised(photo: Image.Image) -> Tensor:
    """[1, 3, H, W], blue first."""
    blue_first = np.asarray(photo.convert("RGB"), np.float32)[..., ::-1] / 255
    image = (blue_first - np.float32(MEAN_BGR)) / np.float32(STD_BGR)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))


def labels(own: Schp, photo: Image.Image, side: int) -> np.ndarray:
    """Class ids [H, W]: the photo stretched to `side`×`side`, the fused answer enlarged to the
    photo with corners aligned. For a square photo of that side this is SCHP's own pipeline."""
    stretched = photo.resize((side, side), Image.Resampling.BILINEAR)
    with torch.no_grad():
        fused = own(normalised(stretched))[OUTPUTS.index("fusion")]
    size = (photo.height, photo.width)
    large = F.interpolate(fused, size, mode="bilinear", align_corners=True)
    return large[0].argmax(0).numpy()


def export(own: Schp, path: Path, side: int) -> Path:
    with warnings.catch_warnings():
        # That a pooled map has one size: so does the network's input.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            own,
            (torch.zeros(1, 3, side, side),),
            str(path),
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS),
        )
    return path
