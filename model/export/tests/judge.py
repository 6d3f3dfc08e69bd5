"""ModelScope's own M2FP network, out of its package on PyPI: what ours must be equal to.

Only the files of the network run. What they import besides PyTorch is replaced here: registries,
the logger, and mmcv's deformable attention, for which `grid_sample` does the same.
"""

import importlib
import importlib.util
import logging
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2fp_export.architecture import STRIDE, Architecture

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


def _import(name: str) -> types.ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.find_spec("modelscope")
    if found is None:
        pytest.fail("ModelScope's package is not installed: see README.md, Check")
    root = Path(found.submodule_search_locations[0])
    _add_module("modelscope", __path__=[str(root)])
    for package in PACKAGES:
        folder = root.joinpath(*package.split(".")[1:])
        _add_module(package, __path__=[str(folder)])
    _replace_imports()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


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

    _add_module("modelscope.metainfo", Models=AnyName)
    _add_module("modelscope.models.base", TorchModel=TorchModel)
    _add_module("modelscope.models.builder", MODELS=Registry())
    _add_module("modelscope.utils", __path__=[])
    _add_module("modelscope.utils.constant", ModelFile=AnyName, Tasks=AnyName)
    _add_module("modelscope.utils.logger", get_logger=logging.getLogger)
    human_parsing, instances = PACKAGES[2], PACKAGES[5]
    builder = importlib.import_module(f"{human_parsing}.backbone.deeplab_resnet")
    sys.modules[
        f"{human_parsing}.backbone"
    ].build_resnet_deeplab_backbone = builder.build_resnet_deeplab_backbone
    _add_module(f"{instances}.backbones", D2SwinTransformer=None)
    _add_module("mmcv", __path__=[])
    _add_module("mmcv.ops", __path__=[])
    _add_module(
        "mmcv.ops.multi_scale_deform_attn",
        MultiScaleDeformableAttnFunction=None,
        multi_scale_deformable_attn_pytorch=_deformable_attention,
    )


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
