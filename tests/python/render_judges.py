"""Pillow and pycocotools read what was rendered.

`render_judges.py FOLDER` reads `facts.json` with the size, the palettes and the report's classes and persons, the raw
pixels (`labels.u8`, `instances.u8`, `photo.rgb`, `small.rgb`, `person-N.u8`) and the rendered files, and fails with a
sentence where a reader sees something else.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

# JPEG at quality 90 with chroma at half the resolution: the mean error of a picture with hard edges.
JPEG_MEAN_ERROR = 6.0

Array = np.ndarray


def check(holds: bool, sentence: str) -> None:
    if not holds:
        sys.exit(sentence)


def palette_png(path: Path, expected: Array, palette: list[list[int]]) -> None:
    with Image.open(path) as image:
        check(image.mode == "P", f"{path.name}: mode {image.mode}, not P")
        check((np.asarray(image) == expected).all(), f"{path.name}: other indices")
        flat = [value for color in palette for value in color]
        check(image.getpalette() == flat, f"{path.name}: another palette")


def grey_png(path: Path, expected: Array) -> None:
    with Image.open(path) as image:
        check(image.mode == "L", f"{path.name}: mode {image.mode}, not L")
        check((np.asarray(image) == expected).all(), f"{path.name}: other levels")


def cutout(path: Path, photo: Array, labels: Array) -> None:
    with Image.open(path) as image:
        check(image.mode == "RGBA", f"{path.name}: mode {image.mode}, not RGBA")
        pixels = np.asarray(image)
    inside = labels != 0
    check((pixels[..., 3] == np.where(inside, 255, 0)).all(), f"{path.name}: another alpha")
    check((pixels[inside][:, :3] == photo[inside]).all(), f"{path.name}: other pixels inside")
    check((pixels[~inside] == 0).all(), f"{path.name}: something is left outside")


def overlay(path: Path, photo: Array, labels: Array, palette: list[list[int]], alpha: float) -> None:
    height, width = photo.shape[:2]
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    small = labels[rows][:, columns]
    colors = np.asarray(palette, np.float64)[small]
    expected = np.where((small == 0)[..., None], photo, photo * (1 - alpha) + colors * alpha)
    with Image.open(path) as image:
        check((image.format, image.mode) == ("JPEG", "RGB"), f"{path.name}: {image.format} {image.mode}")
        check(image.size == (width, height), f"{path.name}: {image.size}")
        error = np.abs(np.asarray(image, np.float64) - expected).mean()
    check(error < JPEG_MEAN_ERROR, f"{path.name}: mean error {error:.1f}")


def region(what: str, entry: dict, mask: Array) -> None:
    """A mask's RLE, pixels and box, against pycocotools' own."""
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = entry["rle"]
    check(ours["counts"].encode() == encoded["counts"], f"{what}: another RLE than pycocotools'")
    check(ours["size"] == encoded["size"], f"{what}: size {ours['size']}")
    check((coco.decode(ours) == mask).all(), f"{what}: the RLE decodes to another mask")
    check(entry["pixels"] == int(coco.area(ours)), f"{what}: {entry['pixels']} pixels")
    check(entry["bbox"] == coco.toBbox(ours).tolist(), f"{what}: box {entry['bbox']}")


def main(folder: Path) -> None:
    facts = json.loads((folder / "facts.json").read_text())
    width, height = facts["size"]

    def pixels(name: str, shape: tuple[int, ...]) -> Array:
        return np.fromfile(folder / name, np.uint8).reshape(shape)

    labels = pixels("labels.u8", (height, width))
    instances = pixels("instances.u8", (height, width))
    photo = pixels("photo.rgb", (height, width, 3))
    palette_png(folder / "mask.png", labels, facts["palette"])
    grey_png(folder / "index.png", labels)
    palette_png(folder / "instances.png", instances, facts["instance_palette"])
    cutout(folder / "cutout.png", photo, labels)
    small = pixels("small.rgb", (facts["small"][1], facts["small"][0], 3))
    overlay(folder / "overlay.jpg", small, labels, facts["palette"], facts["alpha"])

    check([c["id"] for c in facts["classes"]] == np.unique(labels).tolist(), "other classes than the label map's")
    for entry in facts["classes"]:
        region(f"class {entry['id']}", entry, labels == entry["id"])
        check(abs(entry["fraction"] - entry["pixels"] / labels.size) < 1e-12, f"class {entry['id']}: fraction")
    for entry in facts["persons"]:
        mask = pixels(f"person-{entry['id']}.u8", (height, width))
        region(f"person {entry['id']}", entry, mask)
        for part in entry["parts"]:
            inside = (instances == entry["id"]) & (labels == part["class_id"])
            check(part["pixels"] == int(inside.sum()), f"person {entry['id']}: part {part['class_id']}")
            ys, xs = np.nonzero(inside)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            check(part["bbox"] == [int(x) for x in box], f"person {entry['id']}: box of part {part['class_id']}")
            check(bool((mask[inside] == 1).all()), f"person {entry['id']}: a part outside the person's mask")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
