"""A checkpoint at random, with the keys and shapes of a published one.

Trained weights cannot be had everywhere; these exercise all but accuracy. Random weights as such
would not: activations fade or explode, every query says "no object". So batch-norm statistics are
re-estimated on photos, and the last layers are scaled until class scores and masks spread like
trained ones: queries disagree, parts and persons pass the thresholds, masks cover a part of the
image and have smooth edges.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from m2fp_export.architecture import STRIDE, Architecture
from m2fp_export.model import M2FP, normalise, pad
from m2fp_export.variants import CIHP, Variant

PHOTO_SIDE = 320
"""Long side in pixels of the photos that statistics are estimated on."""
PHOTOS = 6
CLASS_SPREAD = 4.0
"""Standard deviation of class logits over queries."""
HUMAN_BIAS = 2.0
"""Human wins a few more."""
MASK_SPREAD = 5.0
"""Standard deviation of mask logits over pixels."""
BRANCH = 0.3
"""What a branch of a decoder layer adds, relative to an untrained one: queries stay different."""
CROSS_BRANCH = 0.05
"""The same for cross-attention: a pixel at the edge of a mask is seen or not, and which of both it
is may turn on the last bit. It must not matter more than it does in a trained network."""
MASK_SHIFT = -2.5
"""Mean of mask logits: most pixels are outside most masks."""


def random_network(
    sizes: Architecture,
    seed: int,
    photos: list[Tensor] | None = None,
    *,
    has_human: bool = True,
) -> M2FP:
    """The same network for the same seed and photos (uint8 [1, 3, H, W]).

    has_human: whether the last class is a whole person.
    """
    photos = photos or synthetic_photos(seed)
    torch.manual_seed(seed)
    network = M2FP(sizes)
    _draw_weights(network)
    with torch.no_grad():
        _estimate_batch_norm(network, photos)
        network.eval()
        _spread_masks(network, photos)
        _spread_classes(network, photos)
        if has_human:
            network.sem_seg_head.predictor.class_embed.bias[-2] += HUMAN_BIAS
    return network


def write_folder(network: M2FP, folder: Path, variant: Variant = CIHP) -> None:
    """A folder as ModelScope has them: `configuration.json` and `pytorch_model.pt`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(configuration(network.sizes, variant), indent=2) + "\n"
    (folder / "configuration.json").write_text(text)
    torch.save({"model": network.state_dict()}, folder / "pytorch_model.pt")


def configuration(sizes: Architecture, variant: Variant) -> dict[str, Any]:
    """What ModelScope's `configuration.json` says of a network of these sizes."""
    return {
        "framework": "pytorch",
        "task": "image-segmentation",
        "pipeline": {"type": "image-human-parsing"},
        "model": {
            "type": "m2fp",
            "pretrained": True,
            "backbone": {
                "out_features": ["res2", "res3", "res4", "res5"],
                "depth": {6: 50, 23: 101, 36: 152}.get(sizes.blocks[2], 0),
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
            "classes": list(variant.classes),
            **_inference(variant),
        },
    }


def _inference(variant: Variant) -> dict[str, Any]:
    if variant.canvas is not None:
        return {
            "single_human": True,
            "input_single_human": {"sizes": [list(variant.canvas)]},
            "parsing_on": False,
            "semantic_on": True,
            "sem_seg_postprocess_before_inference": False,
        }
    return {
        "num_parsing": len(variant.classes) - 1,
        "single_human": False,
        "parsing_on": True,
        "semantic_on": False,
        "sem_seg_postprocess_before_inference": True,
        "parsing_ins_score_thr": variant.score,
    }


def read_photos(folder: Path) -> list[Tensor]:
    """The first photos of `folder` by name, shrunk."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = []
    for path in paths[:PHOTOS]:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        rgb.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
        photos.append(torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None])
    if not photos:
        raise FileNotFoundError(f"{folder}: it has no photo (.jpg, .jpeg, .png)")
    return photos


def synthetic_photos(seed: int) -> list[Tensor]:
    """Noise whose power falls with its frequency, as a photo's does: smooth, with some detail."""
    generator = np.random.default_rng(seed)
    photos = []
    for height, width in ((240, 320), (320, 240), (256, 256)):
        noise = np.fft.rfft2(generator.normal(size=(3, height, width)))
        rows = np.fft.fftfreq(height)[:, None]
        columns = np.fft.rfftfreq(width)[None]
        planes = np.fft.irfft2(noise / (np.hypot(rows, columns) + 0.01), (height, width))
        planes = planes / planes.std() * 60 + 120
        photos.append(torch.from_numpy(planes.clip(0, 255).astype(np.uint8))[None])
    return photos


def _draw_weights(network: M2FP) -> None:
    """Scales that keep activations of the order of 1 from layer to layer."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.MultiheadAttention):
            for weight in module.in_proj_weight.data.chunk(3):
                nn.init.xavier_uniform_(weight)
            nn.init.normal_(module.in_proj_bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            # A residual branch that adds little, as in trained networks, keeps the sum bounded.
            scale = 0.3 if name.endswith("conv3.norm") and "res" in name else 1.0
            nn.init.uniform_(module.weight, 0.7 * scale, 1.3 * scale)
            nn.init.normal_(module.bias, std=0.1)
    head = network.sem_seg_head
    nn.init.normal_(head.pixel_decoder.transformer.level_embed)
    for embedding in ("query_feat", "query_embed", "level_embed"):
        nn.init.normal_(getattr(head.predictor, embedding).weight)
    for name, parameter in head.predictor.named_parameters():
        if name.endswith(("out_proj.weight", "linear2.weight")):
            parameter.data.mul_(CROSS_BRANCH if "cross_attention" in name else BRANCH)
    for layer in head.pixel_decoder.transformer.encoder.layers:
        _spread_offsets(layer.self_attn.sampling_offsets, network.sizes)


def _spread_offsets(linear: nn.Linear, sizes: Architecture) -> None:
    """Point p of a head starts p + 1 pixels off in the head's direction (Deformable DETR, A.4)."""
    angles = torch.arange(sizes.heads) * (2 * torch.pi / sizes.heads)
    directions = torch.stack([angles.cos(), angles.sin()], 1)
    directions = directions / directions.abs().amax(1, keepdim=True)
    steps = torch.arange(1, sizes.points + 1)
    starts = directions[:, None, None] * steps[:, None]
    starts = starts.expand(sizes.heads, 3, sizes.points, 2)
    with torch.no_grad():
        linear.bias.copy_(starts.flatten())


def _estimate_batch_norm(network: M2FP, photos: list[Tensor]) -> None:
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the photos
    network.backbone.train()
    for photo in photos:
        network.backbone(pad(normalise(photo)))
    for norm in norms:
        norm.momentum = 0.1


def _spread_masks(network: M2FP, photos: list[Tensor]) -> None:
    """Centre the mask features, then scale and shift the mask embedding."""
    decoder = network.sem_seg_head.pixel_decoder
    predictor = network.sem_seg_head.predictor
    features = [decoder(network.backbone(pad(normalise(photo))))[0][0] for photo in photos]
    pixels = torch.cat([x.flatten(1) for x in features], 1)
    conv = decoder.mask_features
    # A few directions hold nearly all that differs between pixels; evened out, masks differ more.
    strengths, directions = torch.linalg.eigh(torch.cov(pixels))
    even = directions * strengths.clamp(min=strengths.max() * 1e-6).pow(-0.25) @ directions.t()
    conv.weight.copy_((even @ conv.weight.flatten(1)).view_as(conv.weight))
    conv.bias.copy_(even @ (conv.bias - pixels.mean(1)))
    # The first feature is a constant 1: along it the embedding shifts a whole mask.
    conv.weight[0] = 0
    conv.bias[0] = 1
    last = predictor.mask_embed.layers[-1]
    last.weight[0] = 0
    inputs: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    for _ in range(4):  # the masks steer the attention that the masks follow from
        inputs.clear()
        masks = torch.cat([network(photo)[1].flatten(2) for photo in photos], 2)
        last.weight.mul_(MASK_SPREAD / masks.std(2).mean())
        # What all queries have in common would make their masks alike.
        final = torch.cat(inputs[network.sizes.decoder_layers :: network.sizes.decoder_layers + 1])
        last.bias.copy_(-last.weight @ final.mean(0))
        last.bias[0] = MASK_SHIFT
    hook.remove()


def _spread_classes(network: M2FP, photos: list[Tensor]) -> None:
    """Every class wins some queries."""
    embed = network.sem_seg_head.predictor.class_embed
    classes = torch.cat([network(photo)[0][0] for photo in photos])
    scale = CLASS_SPREAD / classes.std(0)
    embed.weight.mul_(scale[:, None])
    embed.bias.copy_((embed.bias - classes.mean(0)) * scale)
