"""ResNet with DeepLab's stem: He et al. 2015, with the stride in the 3×3 convolution.

Module names are those of the published state dicts; a convolution owns its normalisation.
"""

from torch import Tensor, nn

from m2fp_export.architecture import Architecture


class NormedConv2d(nn.Conv2d):
    """Convolution without bias, then `norm`, whose weights are stored under this one's name."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        norm: nn.Module,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


def batch_normed(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1
) -> NormedConv2d:
    norm = nn.BatchNorm2d(outputs)
    return NormedConv2d(inputs, outputs, kernel, norm, stride, dilation)


class Stem(nn.Module):
    """Three 3×3 convolutions in place of ResNet's 7×7, then max-pooling: stride 4."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1 = batch_normed(3, outputs // 2, 3, stride=2)
        self.conv2 = batch_normed(outputs // 2, outputs // 2, 3)
        self.conv3 = batch_normed(outputs // 2, outputs, 3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = conv(x).relu()
        return self.pool(x)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1, added to the input or to a 1×1 of it."""

    def __init__(
        self, inputs: int, inner: int, outputs: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.shortcut = batch_normed(inputs, outputs, 1, stride) if inputs != outputs else None
        self.conv1 = batch_normed(inputs, inner, 1)
        self.conv2 = batch_normed(inner, inner, 3, stride, dilation)
        self.conv3 = batch_normed(inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(self.conv2(self.conv1(x).relu()).relu())
        return (y + (x if self.shortcut is None else self.shortcut(x))).relu()


class ResNet(nn.Module):
    """[1, 3, H, W] to the outputs of res2, res3, res4 and res5, strides 4, 8, 16 and 32."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.stem = Stem(sizes.stem_channels)
        channels = sizes.stem_channels
        for stage, count in enumerate(sizes.blocks):
            outputs = sizes.stage_channels(stage)
            inner = sizes.bottleneck_channels << stage
            dilations = sizes.res5_dilations if stage == 3 else (1,) * count
            blocks = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Bottleneck(channels, inner, outputs, stride, dilations[index]))
                channels = outputs
            self.add_module(f"res{stage + 2}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            features.append(x)
        return features
