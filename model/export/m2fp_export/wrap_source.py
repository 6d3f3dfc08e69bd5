"""A dense parser as it is published: an ONNX file, or a folder of Hugging Face's.

Dense: the network answers [1, C, h, w], one value for each class and cell, the greatest of which is
the label.
"""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import torch
from torch import Tensor, nn

from m2fp_export.errors import InputError, UsageError, VerificationError
from m2fp_export.onnx_builder import OPSET
from m2fp_export.variants import voc_color

CONFIG_NAME = "config.json"
PREPROCESSOR_NAME = "preprocessor_config.json"
WEIGHTS_NAME = "model.safetensors"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""RGB, of values 0..1."""
BILINEAR = 2
"""Pillow's number of the filter that the function resizes by."""
LARGEST_SIDE = 8192
"""Of what the function gives to a network."""
MOST_CLASSES = 255
EXPORT_TOLERANCE = 1e-3
"""Greatest error of the exported graph against PyTorch, relative to the largest logit."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a photo before the network sees it.

    size: (height, width) that the photo is stretched to, whatever its shape, if `stretch`; else its
    short side is the smaller of both, and it is padded right and below. mean, std: of values 0..1,
    in the order red, green, blue. bgr: the network takes blue first.
    """

    size: tuple[int, int]
    stretch: bool = True
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    bgr: bool = False


@dataclass(frozen=True)
class Named:
    name: str
    color: Color


@dataclass(frozen=True)
class Source:
    """graph: ONNX, with float input [1, 3, H, W] and, among its outputs, float [1, C, h, w].
    weights: the file that they came in. align_corners: the network's own pipeline enlarges its
    answer so that the centres of the outermost cells lie on those of the outermost pixels."""

    graph: Path
    input_name: str
    output_name: str
    classes: tuple[Named, ...]
    preprocessing: Preprocessing
    weights: Path
    align_corners: bool = False


def read_classes(path: Path) -> tuple[Named, ...]:
    """A class a line, in the order of ids, the background first: `Name` or `Name #rrggbb`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(path, f"it cannot be read ({error})") from error
    classes = []
    for line in filter(None, map(str.strip, lines)):
        match = re.fullmatch(r"(.*?)(?:\s+#([0-9a-fA-F]{6}))?", line)
        assert match is not None
        name, color = match.groups()
        levels = bytes.fromhex(color) if color else voc_color(len(classes))
        classes.append(Named(name, (levels[0], levels[1], levels[2])))
    return _checked_classes(path, classes)


def _checked_classes(path: Path, classes: list[Named]) -> tuple[Named, ...]:
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise InputError(path, f"it names {len(classes)} classes; 2 to {MOST_CLASSES} are possible")
    if not all(entry.name for entry in classes):
        raise InputError(path, "a class has no name")
    return tuple(classes)


def from_onnx(
    path: Path,
    classes: tuple[Named, ...],
    preprocessing: Preprocessing,
    output: str | None = None,
    align_corners: bool = False,
) -> Source:
    """Raises InputError for a file whose input or output is not a dense parser's."""
    session = open_session(path)
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise InputError(path, "its input is not one float tensor [1, 3, H, W]")
    _, channels, *sides = inputs[0].shape
    if channels != 3:
        raise InputError(path, f"its input has {channels} channels, not 3")
    given = preprocessing.size
    if any(isinstance(side, int) and side != own for side, own in zip(sides, given, strict=True)):
        shape = "×".join(map(str, sides))
        raise InputError(path, f"its input is {shape} (height×width): say so with --size")
    if not preprocessing.stretch and any(isinstance(side, int) for side in sides):
        raise InputError(path, "its input has one size only: it cannot keep a photo's shape")
    dense = [entry for entry in session.get_outputs() if len(entry.shape) == 4]
    named = [entry.name for entry in dense if output in (None, entry.name)]
    if not named:
        there = ", ".join(entry.name for entry in dense) or "none"
        raise InputError(path, f"no such output [1, C, h, w]; of that form it has {there}")
    if len(named) > 1:
        raise InputError(path, f"say with --output which is the answer: {', '.join(named)}")
    source = Source(path, inputs[0].name, named[0], classes, preprocessing, path, align_corners)
    found = run(source, np.zeros((1, 3, *given), np.float32)).shape
    if found[:2] != (1, len(classes)):
        fault = f"{named[0]} has {found[1]} channels, and {len(classes)} classes are named"
        raise InputError(path, fault)
    return source


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Nothing is said on standard error; what is wrong comes as an exception.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no base class of its exceptions.
        said = str(error).splitlines()[0]
        raise InputError(path, f"ONNX Runtime does not take it ({said})") from error


def run(source: Source, image: np.ndarray) -> np.ndarray:
    """The network's own answer to float [1, 3, H, W] that is normalised already."""
    session = open_session(source.graph)
    return session.run([source.output_name], {source.input_name: image})[0]


class _Logits(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(pixel_values=image).logits


def from_hugging_face(folder: Path, scratch: Path, keep_shape: bool = False) -> Source:
    """Exports the network of a folder into `scratch`. Raises InputError."""
    config = _json(folder / CONFIG_NAME)
    preprocessing = _preprocessing(folder / PREPROCESSOR_NAME, keep_shape)
    classes = _labels(folder / CONFIG_NAME, config)
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        # A pickle can hold code.
        raise InputError(folder, f"it has no {WEIGHTS_NAME}; other kinds of weights are not read")
    network = _Logits(_load(folder)).eval()
    path = scratch / "network.onnx"
    _export(network, path, preprocessing)
    return replace(from_onnx(path, classes, preprocessing), weights=weights)


def _load(folder: Path) -> nn.Module:
    try:
        from transformers import AutoModelForSemanticSegmentation
    except ImportError as error:
        raise UsageError(
            "a Hugging Face folder needs transformers: pip install -e 'model/export[huggingface]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoModelForSemanticSegmentation.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
    except Exception as error:  # Whatever a configuration or its weights can make it raise.
        said = str(error).strip().splitlines()
        fault = f"transformers cannot load it ({said[0] if said else type(error).__name__})"
        raise InputError(folder, fault) from error


def _export(network: nn.Module, path: Path, preprocessing: Preprocessing) -> None:
    height, width = preprocessing.size
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    free = {2: "height", 3: "width"}
    axes = {} if preprocessing.stretch else {"pixel_values": free, "logits": {2: "h", 3: "w"}}
    with warnings.catch_warnings(), torch.no_grad():
        # What a trace warns of is what the comparison below looks for.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (image,),
            str(path),
            opset_version=OPSET,
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_axes=axes,
        )
        sizes = [(height, width)]
        if not preprocessing.stretch:
            sizes.append((height + 32, width + 96))
        session = open_session(path)
        for size in sizes:
            image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
            expected = network(image).numpy()
            found = session.run(["logits"], {"pixel_values": image.numpy()})[0]
            if found.shape != expected.shape:
                raise VerificationError(f"at {size} the graph answers another shape than PyTorch")
            error = float(np.abs(found - expected).max() / np.abs(expected).max())
            if not error <= EXPORT_TOLERANCE:
                raise VerificationError(f"at {size} the graph differs from PyTorch by {error:.1e}")


def _preprocessing(path: Path, keep_shape: bool) -> Preprocessing:
    """What an image processor's configuration says; what the function cannot do is refused."""
    config = _json(path)
    refused = {
        "do_center_crop": "crops",
        "do_reduce_labels": "leaves out the first label",
        "reduce_labels": "leaves out the first label",
    }
    for key, does in refused.items():
        if config.get(key):
            raise InputError(path, f"`{key}` {does}, which is not possible here")
    if config.get("resample", BILINEAR) != BILINEAR:
        raise InputError(path, "`resample` is not 2 (bilinear)")
    if abs(config.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        raise InputError(path, "`rescale_factor` is not 1/255")
    size, stretch = _size(path, config.get("size"))
    mean, std = (0.0,) * 3, (1.0,) * 3
    if config.get("do_normalize", True):
        mean = _triple(path, config, "image_mean", IMAGENET_MEAN)
        std = _triple(path, config, "image_std", IMAGENET_STD)
    return Preprocessing(size, stretch and not keep_shape, mean, std)


def _size(path: Path, size: object) -> tuple[tuple[int, int], bool]:
    """(height, width), and whether a photo is stretched to it."""
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        sides, stretch = (size["height"], size["width"]), True
    elif isinstance(size, dict) and "shortest_edge" in size:
        sides, stretch = (size["shortest_edge"],) * 2, False
    else:
        raise InputError(path, "`size` has neither height and width nor shortest_edge")
    if not all(isinstance(side, int) and 32 <= side <= LARGEST_SIDE for side in sides):
        raise InputError(path, f"`size` is not of whole numbers from 32 to {LARGEST_SIDE}")
    return sides, stretch


def _triple(path: Path, config: dict[str, Any], key: str, default: Sequence[float]) -> list[float]:
    values = config.get(key, default)
    sound = isinstance(values, list | tuple) and len(values) == 3
    if not sound or not all(isinstance(value, int | float) for value in values):
        raise InputError(path, f"`{key}` is not three numbers")
    if key == "image_std" and not all(value > 0 for value in values):
        raise InputError(path, f"`{key}` is not above 0")
    return [float(value) for value in values]


def _labels(path: Path, config: dict[str, Any]) -> tuple[Named, ...]:
    labels = config.get("id2label")
    if not isinstance(labels, dict):
        raise InputError(path, "it has no `id2label`")
    names = [labels.get(str(class_id)) for class_id in range(len(labels))]
    if not all(isinstance(name, str) for name in names):
        raise InputError(path, "the ids of `id2label` are not 0, 1, 2, …")
    return _checked_classes(
        path, [Named(str(name), voc_color(index)) for index, name in enumerate(names)]
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"it cannot be read ({error})") from error
    if not isinstance(read, dict):
        raise InputError(path, "it is no JSON object")
    return read


def check_opset(path: Path) -> onnx.ModelProto:
    """The graph of a file at the opset that what is added to it needs, or above."""
    model = onnx.load(str(path))
    own = next((entry.version for entry in model.opset_import if entry.domain == ""), OPSET)
    if own >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # The converter raises what it likes.
        fault = f"its opset {own} cannot be brought to {OPSET}; export it at {OPSET}"
        raise InputError(path, fault) from error
