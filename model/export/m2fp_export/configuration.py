"""ModelScope's `configuration.json`: what network a folder holds, and how its answers are read.

Every field of `model` is known and understood, or the folder is refused: one that we do not know
may well change the network.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2fp_export.architecture import NORM_GROUPS, STRIDE, Architecture
from m2fp_export.errors import InputError
from m2fp_export.variants import VARIANTS, Variant

FILE_NAME = "configuration.json"
DEFAULT_SCORE = 0.5
"""ModelScope's `parsing_ins_score_thr` where the configuration does not say."""
LARGEST_CANVAS = 8192
"""Pixels a side, the function's limit."""
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

FIXED: dict[str, dict[str, Any]] = {
    "backbone": {
        "out_features": ["res2", "res3", "res4", "res5"],
        "num_groups": 1,
        "norm": "BN",
        "stride_in_1x1": False,
        "res4_dilation": 1,
        "res5_dilation": 1,
    },
    "encoder": {
        "in_features": ["res2", "res3", "res4", "res5"],
        "transformer_in_features": ["res3", "res4", "res5"],
        "common_stride": STRIDE,
    },
    "decoder": {"pre_norm": False, "enforce_input_project": False},
}
"""What our network is made for; another value is another network."""
SIZES = {
    "backbone": ("depth", "width_per_group", "stem_out_channels", "res2_out_channels"),
    "encoder": (
        "transformer_nheads",
        "transformer_dim_feedforward",
        "transformer_enc_layers",
        "conv_dim",
        "mask_dim",
    ),
    "decoder": (
        "num_classes",
        "hidden_dim",
        "num_queries",
        "nheads",
        "dim_feedforward",
        "dec_layers",
        "mask_dim",
    ),
}
OTHERS = {"backbone": {"res5_multi_grid"}, "encoder": {"transformer_dropout"}, "decoder": set()}
MODEL_FIELDS = {
    *("type", "pretrained", "backbone", "encoder", "decoder", "classes", "num_parsing"),
    *("single_human", "input_single_human", "parsing_on", "semantic_on"),
    *("sem_seg_postprocess_before_inference", "parsing_ins_score_thr"),
}
SINGLE_PERSON = {
    "parsing_on": (False, False),
    "semantic_on": (True, True),
    "sem_seg_postprocess_before_inference": (False, True),
}
"""Of a single-person model: what is supported, and ModelScope's value where the configuration does
not say. With other values ModelScope's pipeline answers otherwise, or fails."""


@dataclass(frozen=True)
class Description:
    """A model as its configuration has it.

    name: of the data set, "custom" where its classes are not a published one's.
    person_id: None where no class is a whole person.
    canvas: (width, height) that a photo of one person is put in the middle of; None for several.
    label_map: "paste" or "semantic", as the manifest has it.
    """

    name: str
    sizes: Architecture
    classes: tuple[str, ...]
    person_id: int | None
    label_map: str
    paste_score: float
    canvas: tuple[int, int] | None = None

    @property
    def depth(self) -> int:
        return next((d for d, blocks in BLOCKS.items() if blocks == self.sizes.blocks), 0)

    @classmethod
    def of_variant(cls, variant: Variant, blocks: tuple[int, ...]) -> "Description":
        return cls(
            variant.name,
            Architecture(classes=len(variant.classes), blocks=blocks),
            variant.classes,
            variant.person_id,
            "paste" if variant.canvas is None else "semantic",
            variant.score,
            variant.canvas,
        )


def read(path: Path) -> Description:
    """Raises InputError with every fault that was found."""
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"it cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise InputError(path, f"it is not JSON ({error})") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise InputError(path, "it has no `model`")
    faults = list(_faults(model))
    if faults:
        raise InputError(path, "; ".join(faults))
    return _describe(model)


def _faults(model: dict[str, Any]) -> Iterable[str]:
    if model.get("type") != "m2fp":
        yield f"its model is of type {model.get('type')!r}, not 'm2fp'"
        return
    unknown = sorted(set(model) - MODEL_FIELDS)
    if unknown:
        yield f"`model` has fields that are not known: {', '.join(unknown)}"
    if _is_single_person(model):
        yield from _single_person_faults(model)
    for section in ("backbone", "encoder", "decoder"):
        yield from _section_faults(section, model.get(section))
    yield from _disagreements(model.get("encoder"), model.get("decoder"))
    classes = model.get("classes")
    if not _are_names(classes):
        yield "`classes` is not a list of names"
    elif isinstance(model.get("decoder"), dict):
        count = model["decoder"].get("num_classes")
        if count != len(classes):
            yield f"`classes` has {len(classes)} names where the decoder has {count} classes"
        parsing = (len(classes), len(classes) - 1)
        if not _is_single_person(model) and model.get("num_parsing") not in parsing:
            yield (
                f"`num_parsing` is {model.get('num_parsing')!r}; with {len(classes)} classes it "
                f"can be {len(classes) - 1}, where the last is a whole person, or {len(classes)}"
            )
    score = model.get("parsing_ins_score_thr", DEFAULT_SCORE)
    if not isinstance(score, int | float) or not 0 <= score <= 1:
        yield f"`parsing_ins_score_thr` is {score!r}, not between 0 and 1"


def _is_single_person(model: dict[str, Any]) -> bool:
    return bool(model.get("single_human", True))


def _single_person_faults(model: dict[str, Any]) -> Iterable[str]:
    for field, (supported, default) in SINGLE_PERSON.items():
        value = model.get(field, default)
        if value is not supported:
            yield f"`{field}` is {value!r}; only {supported} is supported for one person"
    if _canvas(model) is None:
        yield "`input_single_human.sizes` does not begin with a width and a height"


def _canvas(model: dict[str, Any]) -> tuple[int, int] | None:
    """The first of the sizes, all that ModelScope's pipeline looks at."""
    section = model.get("input_single_human")
    sizes = section.get("sizes") if isinstance(section, dict) else None
    first = sizes[0] if isinstance(sizes, list) and sizes else None
    if not isinstance(first, list) or len(first) != 2:
        return None
    width, height = first
    whole = all(type(side) is int and 1 <= side <= LARGEST_CANVAS for side in first)
    return (width, height) if whole else None


def _section_faults(name: str, section: Any) -> Iterable[str]:  # noqa: ANN401
    if not isinstance(section, dict):
        yield f"`model` has no `{name}`"
        return
    unknown = sorted(set(section) - set(FIXED[name]) - set(SIZES[name]) - OTHERS[name])
    if unknown:
        yield f"`{name}` has fields that are not known: {', '.join(unknown)}"
    for field, value in FIXED[name].items():
        if section.get(field) != value:
            yield f"`{name}.{field}` is {section.get(field)!r}; only {value!r} is supported"
    for field in SIZES[name]:
        value = section.get(field)
        if type(value) is not int or value < 1:
            yield f"`{name}.{field}` is {value!r}, not a positive whole number"
    if name == "backbone" and section.get("depth") not in BLOCKS:
        yield f"`backbone.depth` is not one of {', '.join(map(str, BLOCKS))}"
    grid = section.get("res5_multi_grid", [1, 1, 1])
    if not (isinstance(grid, list) and len(grid) == 3 and all(type(x) is int for x in grid)):
        yield "`backbone.res5_multi_grid` is not three whole numbers"


def _disagreements(encoder: Any, decoder: Any) -> Iterable[str]:  # noqa: ANN401
    """Sizes that both have must be the same, and divide as heads and norms need it."""
    if not isinstance(encoder, dict) or not isinstance(decoder, dict):
        return
    for ours, theirs in (
        ("conv_dim", "hidden_dim"),
        ("mask_dim", "mask_dim"),
        ("transformer_nheads", "nheads"),
    ):
        if encoder.get(ours) != decoder.get(theirs):
            yield (
                f"`encoder.{ours}` is {encoder.get(ours)!r} where `decoder.{theirs}` is "
                f"{decoder.get(theirs)!r}"
            )
    width, heads = encoder.get("conv_dim"), encoder.get("transformer_nheads")
    if type(width) is int and type(heads) is int and heads > 0:  # noqa: SIM102
        if width % heads or width % NORM_GROUPS:
            yield f"`encoder.conv_dim` is not a multiple of {heads} heads and {NORM_GROUPS} groups"


def _are_names(classes: Any) -> bool:  # noqa: ANN401
    return isinstance(classes, list) and all(isinstance(name, str) for name in classes)


def _describe(model: dict[str, Any]) -> Description:
    backbone, encoder, decoder = model["backbone"], model["encoder"], model["decoder"]
    classes = tuple(model["classes"])
    sizes = Architecture(
        classes=len(classes),
        blocks=BLOCKS[backbone["depth"]],
        stem_channels=backbone["stem_out_channels"],
        bottleneck_channels=backbone["width_per_group"],
        res2_channels=backbone["res2_out_channels"],
        res5_dilations=tuple(backbone.get("res5_multi_grid", (1, 1, 1))),
        width=encoder["conv_dim"],
        mask_width=encoder["mask_dim"],
        heads=encoder["transformer_nheads"],
        encoder_layers=encoder["transformer_enc_layers"],
        encoder_hidden=encoder["transformer_dim_feedforward"],
        decoder_layers=decoder["dec_layers"],
        decoder_hidden=decoder["dim_feedforward"],
        queries=decoder["num_queries"],
    )
    single = _is_single_person(model)
    person_id = None
    if not single and model["num_parsing"] < len(classes):
        person_id = model["num_parsing"]
    name = next((v.name for v in VARIANTS.values() if len(v.classes) == len(classes)), "custom")
    return Description(
        name,
        sizes,
        classes,
        person_id,
        "paste" if model.get("parsing_on") else "semantic",
        float(model.get("parsing_ins_score_thr", DEFAULT_SCORE)),
        _canvas(model) if single else None,
    )
