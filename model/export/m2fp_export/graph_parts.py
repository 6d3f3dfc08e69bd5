"""What every part of the graph is made of: weights under their names, linear layers, norms.

Between layers, pixels are rows: tokens are [S, C], never [1, S, C], so that a linear layer is one
Gemm with its bias inside and a reshape costs nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from m2fp_export import deform_attn
from m2fp_export.architecture import NORM_GROUPS, Architecture
from m2fp_export.onnx_builder import Attribute, GraphBuilder

EPSILON = 1e-5
"""Of every normalisation layer."""
GROUP_NORM = "GroupNorm"
"""`m2fp::GroupNorm`, version 1: inputs x [1, C, H, W], scale and bias with C values each; output
[1, C, H, W], float. Attributes: groups, epsilon, relu (1: negative results become 0). x is float
or unsigned bytes, whose unit and origin fall away; epsilon is in the unit's square."""
CONV3X3 = "Conv3x3"
"""`m2fp::Conv3x3`, version 1: inputs x [1, C, H, W], weight [K, C, 3, 3] and, where there is one,
bias [K]; output [1, K, H, W], all float. A convolution of stride 1, padded by one. Attribute: relu
(1: negative results become 0)."""
CONV1X1 = "Conv1x1"
"""`m2fp::Conv1x1`, version 1: inputs x [1, C, H, W] or [C, N], weight [K, C] or [K, C, 1, 1] and,
where there are any, bias with K values and sum of the output's shape, which is added; output
[1, K, H, W] or [K, N], all float. A convolution of stride 1. Attribute: relu, as above."""
LINEAR = "Linear"
"""`m2fp::Linear`, version 1: inputs x [N, C], weight [C, M] and, where there are any, bias with M
values and sum [N, M], which is added; output [N, M], all float. Attribute: relu, as above."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """The weights to put into a graph, in float64: folding them rounds once, at the end."""

    sizes: Architecture
    state: dict[str, Tensor]

    def __getitem__(self, name: str) -> Matrix:
        return self.state[name].double().numpy()


class Graph(GraphBuilder):
    def __init__(self, source: Source, fused: bool = False) -> None:
        """fused: convolutions and linear layers of floats as operators of our own."""
        super().__init__()
        self.source = source
        self.fused = fused

    def conv(
        self, x: str, name: str, weight: Matrix, bias: Matrix | None, **attributes: Attribute
    ) -> str:
        names = self._conv_names(name, weight, bias)
        return self.node("Conv", x, *filter(None, names), **attributes)

    def conv3x3(
        self, x: str, name: str, weight: Matrix, bias: Matrix | None, relu: bool = False
    ) -> str:
        """A 3×3 convolution of stride 1, padded by one, with a Relu after it if asked."""
        if not self.fused:
            plain = {"strides": [1, 1], "dilations": [1, 1], "pads": [1] * 4}
            return self._ended(self.conv(x, name, weight, bias, **plain), "", relu)
        return self._own(CONV3X3, x, *self._conv_names(name, weight, bias), relu=int(relu))

    def conv1x1(
        self,
        x: str,
        name: str,
        weight: Matrix,
        bias: Matrix | None,
        added: str = "",
        relu: bool = False,
    ) -> str:
        """A 1×1 convolution of stride 1, with `added` added and a Relu after it if asked."""
        if self.fused:
            names = self._conv_names(name, weight, bias)
            return self._own(CONV1X1, x, *names, added, relu=int(relu))
        plain = {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4}
        return self._ended(self.conv(x, name, weight, bias, **plain), added, relu)

    def linear(self, x: str, name: str, added: str = "") -> str:
        """A linear layer of the state dict on [N, C], with `added` added if asked."""
        source = self.source
        return self.gemm(x, name, source[f"{name}.weight"], source[f"{name}.bias"], added)

    def gemm(self, x: str, name: str, weight: Matrix, bias: Matrix, added: str = "") -> str:
        """x·weightᵀ + bias. The weight is stored transposed: nothing is left to turn at load."""
        return self.layer(x, self.layer_names(name, weight, bias), added)

    def layer_names(self, name: str, weight: Matrix, bias: Matrix) -> "LayerNames":
        return self.weight(f"{name}.weight", weight.T), self.weight(f"{name}.bias", bias)

    def layer(self, x: str, names: "LayerNames", added: str = "", relu: bool = False) -> str:
        """The same with weights that are in the graph already, and a Relu after it if asked."""
        if self.fused:
            return self._own(LINEAR, x, *names, added, relu=int(relu))
        return self._ended(self.node("Gemm", x, *names), added, relu)

    def layer_of_columns(self, columns: str, weight: str, bias: str) -> str:
        """A linear layer of columns, [C, N] to [K, N]: weight [K, C], bias [K, 1]."""
        if self.fused:
            return self._own(CONV1X1, columns, weight, bias, relu=0)
        return self.node("Gemm", weight, columns, bias)

    def _conv_names(self, name: str, weight: Matrix, bias: Matrix | None) -> tuple[str, str]:
        """Of a convolution's weight and bias; empty where it has no bias."""
        return (
            self.weight(f"{name}.weight", weight),
            "" if bias is None else self.weight(f"{name}.bias", bias),
        )

    def _own(self, op_type: str, *inputs: str, relu: int) -> str:
        """An operator of our own; inputs that are empty at the end are left out."""
        given = list(inputs)
        while not given[-1]:
            given.pop()
        return self.node(
            op_type, *given, domain=deform_attn.DOMAIN, version=deform_attn.VERSION, relu=relu
        )

    def _ended(self, y: str, added: str, relu: bool) -> str:
        """`y`, with `added` added and a Relu after it if asked, in standard operators."""
        if added:
            y = self.node("Add", y, added)
        return self.node("Relu", y) if relu else y

    def layer_norm(self, x: str, name: str) -> str:
        return self.node("LayerNormalization", x, *self.affine(name), axis=-1, epsilon=EPSILON)

    def affine(self, name: str) -> tuple[str, str]:
        source = self.source
        return (
            self.weight(f"{name}.weight", source[f"{name}.weight"]),
            self.weight(f"{name}.bias", source[f"{name}.bias"]),
        )

    def group_norm(self, x: str, name: str, portable: bool, relu: bool = False) -> str:
        """On a map [1, C, h, w], with a Relu after it if asked."""
        scale, shift = self.source[f"{name}.weight"], self.source[f"{name}.bias"]
        affine = (
            self.weight(f"{name}.weight", scale[:, None, None]),
            self.weight(f"{name}.bias", shift[:, None, None]),
        )
        output = f"{name}/normed"
        if portable:
            return self._group_norm_portably(x, affine, relu, output)
        return self.node(
            GROUP_NORM,
            *(x, *affine),
            domain=deform_attn.DOMAIN,
            version=deform_attn.VERSION,
            output=output,
            groups=NORM_GROUPS,
            epsilon=EPSILON,
            relu=int(relu),
        )

    def _group_norm_portably(self, x: str, affine: tuple[str, str], relu: bool, output: str) -> str:
        """Each group as one channel of an instance normalisation."""
        ones = self.floats(*[1.0] * NORM_GROUPS)
        zeros = self.floats(*[0.0] * NORM_GROUPS)
        shape = self.node("Shape", x)
        groups = self.node("Reshape", x, self.ints(1, NORM_GROUPS, -1))
        normed = self.node("InstanceNormalization", groups, ones, zeros, epsilon=EPSILON)
        restored = self.node("Reshape", normed, shape)
        scaled = self.node("Mul", restored, affine[0])
        if not relu:
            return self.node("Add", scaled, affine[1], output=output)
        return self.node("Relu", self.node("Add", scaled, affine[1]), output=output)

    def map_to_columns(self, x: str) -> str:
        """[1, C, h, w] to [C, h·w], without a copy."""
        return self.node("Reshape", self.node("Squeeze", x, self.ints(0)), self.ints(0, -1))

    def resize(self, x: str, factor: float) -> str:
        """A map, bilinearly, without antialiasing; its sides times the factor are whole."""
        scales = self.floats(1.0, 1.0, factor, factor)
        return self.node(
            "Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def resize_to(self, x: str, like: str) -> str:
        """The same to the size of the map `like`, which therefore is computed before."""
        return self.node(
            "Resize",
            *(x, "", "", self.node("Shape", like)),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )

    def feed_forward(self, x: str, names: "FeedForwardNames", added: str = "") -> str:
        """Two linear layers with a Relu between them, and `added` added if asked."""
        hidden = self.layer(x, names.first, relu=True)
        return self.layer(hidden, names.second, added)

    def feed_forward_names(self, name: str) -> "FeedForwardNames":
        def of(linear: str) -> LayerNames:
            source = self.source
            return self.layer_names(linear, source[f"{linear}.weight"], source[f"{linear}.bias"])

        return FeedForwardNames(of(f"{name}.linear1"), of(f"{name}.linear2"))


LayerNames = tuple[str, str]
"""Weight, transposed, and bias of a linear layer."""


@dataclass(frozen=True)
class FeedForwardNames:
    """Of both linear layers: added once, used by every slice."""

    first: LayerNames
    second: LayerNames
