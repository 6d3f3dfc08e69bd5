"""Stand-ins for the fetched data: a tiny data set and noise for weights, in the real layouts."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from m2fp_train.backbone import BLOCK_CHANNELS, STEM_CHANNELS
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import CLASS_NAMES, IGNORE
from m2fp_train.multipose import KEYPOINTS, Heads, Multipose
from m2fp_train.network import NanoParser
from m2fp_train.onnx_graph import OPSET, store_small, write_graph
from m2fp_train.queries import QueryParser
from m2fp_train.scene import Scene

TAGS = ("null", "bag", "hair", "jeans", "purse", "shirt", "skin", "tie", "wallet")
NUMBERS = ("0001", "0002", "0003", "0004", "0013")


def class_id(name: str) -> int:
    return CLASS_NAMES.index(name)


def write_ccp(folder: Path) -> ClothingCoParsing:
    for kind in ("photos", "labels59", "cihp20"):
        (folder / kind).mkdir()
    (folder / "labels59.txt").write_text("\n".join(TAGS) + "\n")
    for seed, number in enumerate(NUMBERS):
        tags, parts = draw_person(np.random.default_rng(seed))
        _save(folder / "photos" / f"{number}.jpg", scene_of(tags, parts).image)
        _save(folder / "labels59" / f"{number}.png", tags)
        _save(folder / "cihp20" / f"{number}.png", parts)
    return ClothingCoParsing(folder)


ORDINARY_PEOPLE = (np.s_[10:110, 10:40], np.s_[20:120, 60:160])
ORDINARY_CROWD = np.s_[130:140, 0:200]
ORDINARY_SHAPE = (150, 200)


def write_ordinary(folder: Path) -> None:
    """Two people (3,000 and 10,000 pixels) and a crowd in one photo, nobody in another."""
    (folder / "photos").mkdir()
    noise = np.random.default_rng(3).integers(0, 256, (*ORDINARY_SHAPE, 3), dtype=np.uint8)
    entries = []
    for name, people, crowds in (
        ("somebody.jpg", ORDINARY_PEOPLE, [ORDINARY_CROWD]),
        ("nobody.jpg", (), ()),
    ):
        _save(folder / "photos" / name, noise)
        masks = {
            kind: [_rle(box_mask(area)) for area in areas]
            for kind, areas in (("people", people), ("crowd", crowds))
        }
        entries.append({"file": name, **masks, "licence": 4})
    (folder / "people.json").write_text(json.dumps(entries))


def box_mask(area: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(ORDINARY_SHAPE, bool)
    mask[area] = True
    return mask


def _rle(mask: np.ndarray) -> dict[str, object]:
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def draw_person(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hair over a face over a shirt with a left arm over trousers; a bag beside.

    Tags and parts, uint8 [64, 48], of one person at a random place.
    """
    tags, parts = np.zeros((64, 48), np.uint8), np.zeros((64, 48), np.uint8)
    top, left = rng.integers(2, 8), rng.integers(4, 16)

    def fill(rows: slice, columns: slice, tag: str, part: int) -> None:
        area = (
            slice(top + rows.start, top + rows.stop),
            slice(left + columns.start, left + columns.stop),
        )
        tags[area], parts[area] = TAGS.index(tag), part

    fill(slice(0, 6), slice(4, 14), "hair", class_id("Hair"))
    fill(slice(6, 14), slice(4, 14), "skin", class_id("Face"))
    fill(slice(14, 32), slice(2, 16), "shirt", class_id("UpperClothes"))
    fill(slice(14, 28), slice(16, 20), "skin", class_id("Left-arm"))
    fill(slice(16, 26), slice(8, 10), "tie", IGNORE)
    fill(slice(32, 52), slice(3, 15), "jeans", class_id("Pants"))
    fill(slice(28, 34), slice(16, 22), "bag", class_id("Background"))
    parts[:6, 44:] = IGNORE  # somebody far away
    return tags, parts


def scene_of(tags: np.ndarray, parts: np.ndarray) -> Scene:
    palette = np.random.default_rng(9).integers(0, 256, (256, 3), dtype=np.uint8)
    person = ~np.isin(tags, [TAGS.index(tag) for tag in ("null", "bag")])
    return Scene(palette[tags], parts, person.astype(np.uint8))


def _save(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def write_bodypix(folder: Path) -> None:
    """A BodyPix folder of the right names and shapes, filled with noise."""
    shapes: dict[str, tuple[int, ...]] = {
        "MobilenetV1/Conv2d_0/weights": (3, 3, 3, STEM_CHANNELS),
        "MobilenetV1/Conv2d_0/Conv2D_bias": (STEM_CHANNELS,),
    }
    channels = STEM_CHANNELS
    for block, out_channels in enumerate(BLOCK_CHANNELS, start=1):
        name = f"MobilenetV1/Conv2d_{block}_"
        shapes[f"{name}depthwise/depthwise_weights"] = (3, 3, channels, 1)
        shapes[f"{name}depthwise/depthwise_bias"] = (channels,)
        shapes[f"{name}pointwise/weights"] = (1, 1, channels, out_channels)
        shapes[f"{name}pointwise/Conv2D_bias"] = (out_channels,)
        channels = out_channels
    shapes["MobilenetV1/segment_2/weights"] = (1, 1, channels, 1)
    shapes["MobilenetV1/segment_2/Conv2D_bias"] = (1,)
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    write_tfjs(folder, shapes, np.random.default_rng(0).integers(0, 5, count))


def write_tfjs(folder: Path, shapes: dict[str, tuple[int, ...]], stored: np.ndarray) -> None:
    """A TensorFlow.js graph model whose stored value s stands for s / 2 - 1."""
    quantization = {"dtype": "uint16", "scale": 0.5, "min": -1.0}
    entries = [
        {"name": name, "shape": shape, "quantization": quantization}
        for name, shape in shapes.items()
    ]
    manifest = {"weightsManifest": [{"paths": ["shard.bin"], "weights": entries}]}
    (folder / "model-stride16.json").write_text(json.dumps(manifest))
    (folder / "shard.bin").write_bytes(stored.astype(np.uint16).tobytes())


class _Published(torch.nn.Module):
    """Multipose in the form in which it is published: bytes in, probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Multipose()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        _, heads = self.network(image / 127.5 - 1)
        return heads.centres.sigmoid(), *heads[1:3], heads.keypoints.sigmoid(), heads.ways


def _padded_as_published(conv: torch.nn.Conv2d) -> torch.nn.Sequential:
    """A convolution of 3 x 3 with stride 2, and what TensorFlow's SAME pads before it."""
    inner = torch.nn.Conv2d(conv.in_channels, conv.out_channels, 3, 2, groups=conv.groups)
    torch.nn.init.kaiming_normal_(inner.weight)
    return torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 0, 1)), inner)


def write_multipose(path: Path) -> None:
    """A graph with multipose's heads, filled with noise, its weights stored as halves."""
    torch.manual_seed(1)
    published = _Published().eval()
    for conv in published.network.convolutions():
        torch.nn.init.kaiming_normal_(conv.weight)
    for parent in list(published.network.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, torch.nn.Conv2d) and conv.kernel_size == (4, 4):
                setattr(parent, name, _padded_as_published(conv))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as `write_graph` does
        torch.onnx.export(
            published,
            (torch.zeros(1, 3, 64, 64),),
            str(path),
            opset_version=OPSET,
            input_names=["image"],
            output_names=["centre", "box_hw", "box_offset_yx", "keypoint_heat", "keypoint_regress"],
            dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}},
        )
    store_small(path)


def write_nano(path: Path) -> NanoParser:
    """The graph of a parser whose weights and normalisation are noise, and the parser."""
    torch.manual_seed(2)
    network = NanoParser().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    write_graph(QueryParser(network, 32).eval(), path)
    return network


def people_at(row: int, column: int, height: float, width: float) -> Heads:
    """Heads of 16 x 16 cells that see one person, in the middle of a cell, and no keypoint."""
    heads = Heads(*(torch.zeros(1, channels, 16, 16) for channels in (1, 2, 2, KEYPOINTS, 34)))
    heads.centres[:] = heads.keypoints[:] = -10
    heads.centres[0, 0, row, column] = 3
    heads.boxes[0, 0], heads.boxes[0, 1] = height, width
    heads.offsets[:] = 0.5
    return heads


def write_all_sources(folder: Path) -> None:
    """A data folder with one or two photos of every source that is trained on."""
    more, open_ = folder / "ccp" / "more", folder / "persons" / "coco-open"
    open_.mkdir(parents=True)
    write_ordinary(open_)
    (folder / "ccp").mkdir()
    write_ccp(folder / "ccp")
    (more / "photos").mkdir(parents=True)
    noise = np.random.default_rng(5).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    _save(more / "photos" / "1005.jpg", noise)
    (more / "tags.json").write_text(json.dumps({"1005": ["hair", "skin", "skirt"]}))
    for name in ("dress", "outwear"):
        (folder / "garments" / name).mkdir(parents=True)
        _save(folder / "garments" / name / "0001.jpg", noise)
