"""ModelScope's own M2FP and its pipeline, out of its package on PyPI: what ours must be equal to.

Only the files of the network, the pipeline and the image loader run. What they import besides
PyTorch and Pillow is replaced here: registries, the logger, files, torchvision's resize (Pillow's),
and mmcv's deformable attention, for which `grid_sample` does the same.
"""

import importlib
import importlib.util
import json
import logging
import sys
import types
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from answers import Answer, Entry, Exactly, packed
from m2fp_export import checkpoint
from m2fp_export.architecture import STRIDE, Architecture
from m2fp_export.verify import Errors, Judge, Outputs

PACKAGES = (
    "modelscope.models",
    "modelscope.models.cv",
    "modelscope.models.cv.image_human_parsing",
    "modelscope.models.cv.image_human_parsing.backbone",
    "modelscope.models.cv.image_human_parsing.m2fp",
    "modelscope.models.cv.image_instance_segmentation",
    "modelscope.models.cv.image_instance_segmentation.maskdino",
    "modelscope.models.cv.image_colorization",
    "modelscope.models.cv.image_colorization.ddcolor",
    "modelscope.models.cv.image_colorization.ddcolor.utils",
    "modelscope.pipelines",
    "modelscope.pipelines.cv",
    "modelscope.preprocessors",
)


def network(sizes: Architecture, **settings: object) -> nn.Module:
    """ModelScope's `M2FP` with weights at random; `settings` go to its constructor."""
    module = _import("modelscope.models.cv.image_human_parsing.m2fp_net")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.M2FP("", **configuration(sizes), **settings).eval()


def configuration(sizes: Architecture) -> dict[str, Any]:
    """The network's part of a ModelScope `configuration.json`."""
    depth = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}[sizes.blocks]
    return {
        "backbone": {
            "out_features": ["res2", "res3", "res4", "res5"],
            "depth": depth,
            "num_groups": 1,
            "width_per_group": sizes.bottleneck_channels,
            "norm": "BN",
            "stem_out_channels": sizes.stem_channels,
            "res2_out_channels": sizes.res2_channels,
            "stride_in_1x1": False,
            "res4_dilation": 1,
            "res5_dilation": 1,
            "res5_multi_grid": list(sizes.res5_dilations),
        },
        "encoder": {
            "in_features": ["res2", "res3", "res4", "res5"],
            "transformer_in_features": ["res3", "res4", "res5"],
            "transformer_dropout": 0.0,
            "transformer_nheads": sizes.heads,
            "transformer_dim_feedforward": sizes.encoder_hidden,
            "transformer_enc_layers": sizes.encoder_layers,
            "conv_dim": sizes.width,
            "mask_dim": sizes.mask_width,
            "common_stride": STRIDE,
        },
        "decoder": {
            "num_classes": sizes.classes,
            "hidden_dim": sizes.width,
            "num_queries": sizes.queries,
            "nheads": sizes.heads,
            "dim_feedforward": sizes.decoder_hidden,
            "dec_layers": sizes.decoder_layers,
            "pre_norm": False,
            "mask_dim": sizes.mask_width,
            "enforce_input_project": False,
        },
    }


def logits(judge: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Class and mask logits of a float image [1, 3, H, W], RGB 0-255."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = judge({"batched_inputs": [{"image": image[0]}]})["outputs"]
    return outputs["pred_logits"], outputs["pred_masks"]


class Pipeline:
    """ModelScope's pipeline on a folder as ModelScope has them."""

    def __init__(self, folder: Path) -> None:
        net = _import("modelscope.models.cv.image_human_parsing.m2fp_net")
        module = _import("modelscope.pipelines.cv.image_human_parsing_pipeline")
        settings = json.loads((folder / "configuration.json").read_text())["model"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = net.M2FP(str(folder), **settings)
        self.pipeline = module.ImageHumanParsingPipeline(self.model)
        self.folder = folder

    def infer(self, photo: Path) -> dict[str, Any]:
        """Its pre-processing and its network."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.model(self.pipeline.preprocess(str(photo)))

    def exactly(self, photo: Path) -> Exactly:
        """Judges logits of the photo by our network in float64, on what their pre-processing made;
        asked only where two programs in float32 differ, since it takes half a minute."""

        def judge(ours: Outputs, theirs: Outputs) -> list[Errors]:
            image = self.pipeline.preprocess(str(photo))["batched_inputs"][0]["image"]
            network, _ = checkpoint.load(self.folder)
            ours, theirs = ([output[None] for output in outputs] for outputs in (ours, theirs))
            return Judge(network).errors(image[None], ours, theirs)

        return judge

    def results(self, photo: Path) -> dict[str, Any]:
        """What ModelScope's users get: scores, labels and masks."""
        with torch.no_grad():
            return self.pipeline.postprocess(self.model.postprocess(self.infer(photo)))

    def answer(self, photo: Path) -> Answer:
        """All of it. Of 100 masks of the photo's size it holds six at once, and more."""
        state = self.infer(photo)
        outputs = state["outputs"]
        with torch.no_grad():
            result = self.model.postprocess(state)["eval_result"]
            labels = result[0]["parsing"]["semantic_outputs"].argmax(0).numpy().astype(np.uint8)
            del result[0]["parsing"]["semantic_outputs"]
            found = self.pipeline.postprocess({"eval_result": result})
        classes = [self.model.classes.index(name) for name in found["LABELS"]]
        rows = zip(classes, found["SCORES"], found["MASKS"], strict=True)
        entries = [Entry(number, score, packed(mask > 0)) for number, score, mask in rows]
        logits = (outputs[name][0].numpy() for name in ("pred_logits", "pred_masks"))
        return Answer(*logits, labels, entries)


def _import(name: str) -> types.ModuleType:
    if name not in sys.modules:
        _prepare_packages()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@cache
def _prepare_packages() -> None:
    found = importlib.util.find_spec("modelscope")
    if found is None:
        pytest.fail("ModelScope's package is not installed: see README.md, Check")
    root = Path(found.submodule_search_locations[0])
    _add_module("modelscope", __path__=[str(root)])
    for package in PACKAGES:
        folder = root.joinpath(*package.split(".")[1:])
        _add_module(package, __path__=[str(folder)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _replace_imports()


def _replace_imports() -> None:
    class Names(type):
        """Any attribute is its own name."""

        def __getattr__(cls, name: str) -> str:
            return name

    class AnyName(metaclass=Names):
        pass

    class Registry:
        def register_module(self, *_: object, **__: object) -> Callable[[type], type]:
            return lambda registered: registered

    class TorchModel(nn.Module):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()

    class ModelFile:
        TORCH_MODEL_FILE = "pytorch_model.pt"

    class Pipeline:
        def __init__(self, model: nn.Module, preprocessor: object = None) -> None:
            self.model = model

    class File:
        @staticmethod
        def read(path: str) -> bytes:
            return Path(path).read_bytes()

    names = {"Models": AnyName, "Pipelines": AnyName, "Preprocessors": AnyName}
    _add_module("modelscope.metainfo", **names)
    _add_module("modelscope.models.base", TorchModel=TorchModel)
    _add_module("modelscope.models.builder", MODELS=Registry())
    _add_module("modelscope.utils", __path__=[])
    constants = {"ModelFile": ModelFile, "Tasks": AnyName, "Fields": AnyName}
    _add_module("modelscope.utils.constant", **constants)
    _add_module("modelscope.utils.type_assert", type_assert=lambda *_: lambda method: method)
    _add_module("modelscope.outputs", OutputKeys=AnyName)
    _add_module("modelscope.fileio", File=File)
    _add_module("modelscope.pipeline_inputs", InputKeys=AnyName)
    _add_module("modelscope.pipelines.base", Input=object, Pipeline=Pipeline)
    _add_module("modelscope.pipelines.builder", PIPELINES=Registry())
    _add_module("modelscope.preprocessors.base", Preprocessor=object)
    _add_module("modelscope.preprocessors.builder", PREPROCESSORS=Registry())
    _add_module("modelscope.utils.logger", get_logger=logging.getLogger)
    human_parsing, instances = PACKAGES[2], PACKAGES[5]
    builder = importlib.import_module(f"{human_parsing}.backbone.deeplab_resnet")
    sys.modules[
        f"{human_parsing}.backbone"
    ].build_resnet_deeplab_backbone = builder.build_resnet_deeplab_backbone
    _add_module(f"{instances}.backbones", D2SwinTransformer=None)
    # Where packages re-export what the pipeline asks them for.
    _add_module("cv2")
    loader = importlib.import_module("modelscope.preprocessors.image")
    vars(sys.modules["modelscope.preprocessors"])["LoadImage"] = loader.LoadImage
    _add_module("torchvision", __path__=[])
    members = {"Compose": _Compose, "Resize": _Resize, "ToTensor": _ToTensor}
    _add_module("torchvision.transforms", **members)
    _add_module("mmcv", __path__=[])
    _add_module("mmcv.ops", __path__=[])
    _add_module(
        "mmcv.ops.multi_scale_deform_attn",
        MultiScaleDeformableAttnFunction=None,
        multi_scale_deformable_attn_pytorch=_deformable_attention,
    )
    network = importlib.import_module(f"{human_parsing}.m2fp_net")
    utilities = importlib.import_module(f"{human_parsing}.parsing_utils")
    vars(sys.modules[human_parsing]).update(
        M2FP=network.M2FP, center_to_target_size_test=utilities.center_to_target_size_test
    )


class _Compose:
    def __init__(self, steps: list[Callable[[Any], Any]]) -> None:
        self.steps = steps

    def __call__(self, image: Image.Image) -> Any:  # noqa: ANN401
        for step in self.steps:
            image = step(image)
        return image


class _Resize:
    """torchvision's of a Pillow image, to (height, width)."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize(self.size[::-1], Image.Resampling.BILINEAR)


class _ToTensor:
    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)


def _deformable_attention(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """value [N, S, M, D], locations [N, Q, M, L, P, 2] in 0..1, weights [N, Q, M, L, P]."""
    batch, _, heads, channels = value.shape
    count = locations.shape[1]
    sizes = [(int(height), int(width)) for height, width in shapes]
    total = torch.zeros(batch * heads, channels, count)
    for level, part in enumerate(value.split([h * w for h, w in sizes], 1)):
        planes = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, *sizes[level])
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled = F.grid_sample(planes, grid, align_corners=False)
        shares = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        total += (sampled * shares[:, None]).sum(3)
    return total.view(batch, heads * channels, count).transpose(1, 2)


def _add_module(name: str, **members: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    parent, _, own = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], own, module)
