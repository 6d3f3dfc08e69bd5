"""Photos as the function gives them to a network."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from m2fp_export.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def find(folder: Path) -> list[Path]:
    """The photos of a folder, by name. Raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(folder, "there is no such folder of photos")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(folder, f"it has no photo ({', '.join(SUFFIXES)})")
    return paths


def read(path: Path, rule: dict[str, Any]) -> NDArray[np.uint8]:
    """[1, 3, H, W], RGB, upright, sized and placed by a manifest's `input.size`.

    Raises InputError.
    """
    try:
        with Image.open(path) as image:
            rgb = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(path, f"it cannot be read as a photo ({error})") from error
    if "letterbox" in rule:
        placed = np.asarray(letterboxed(rgb, **rule["letterbox"]))
    else:
        size = working_size(rgb.size, rule["min_side"], rule["max_side"])
        placed = np.asarray(rgb.resize(size, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(placed.transpose(2, 0, 1)[None])


def working_size(size: tuple[int, int], min_side: int, max_side: int) -> tuple[int, int]:
    """(width, height) by detectron2's `ResizeShortestEdge`, in its order of roundings."""
    width, height = size
    scale = min_side / min(size)
    sides = [scale * width, min_side] if height < width else [min_side, scale * height]
    if max(sides) > max_side:
        shrink = max_side / max(sides)
        sides = [side * shrink for side in sides]
    return (max(1, int(sides[0] + 0.5)), max(1, int(sides[1] + 0.5)))


def letterboxed(photo: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Shrunk into the canvas where it is larger, then put in the middle of it.

    As ModelScope's `center_to_target_size_test`, which leaves a photo alone that has nothing to be
    padded with on the left and above.
    """
    if photo.width > width or photo.height > height:
        # One side is the canvas's, the other cut to whole pixels; the side that leaves room.
        by_height = (max(1, height * photo.width // photo.height), height)
        by_width = (width, max(1, width * photo.height // photo.width))
        size = by_height if by_height[0] <= width else by_width
        if photo.width > photo.height and by_width[1] <= height:
            size = by_width
        photo = photo.resize(size, Image.Resampling.BILINEAR)
    left, top = (width - photo.width) // 2, (height - photo.height) // 2
    if left == 0 and top == 0:
        return photo
    canvas = Image.new("RGB", (width, height), (fill, fill, fill))
    canvas.paste(photo, (left, top))
    return canvas
