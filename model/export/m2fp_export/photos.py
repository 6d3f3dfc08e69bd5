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
    """[1, 3, H, W], RGB, upright, at the working size of a manifest's `input.size`.

    Raises InputError.
    """
    try:
        with Image.open(path) as image:
            rgb = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(path, f"it cannot be read as a photo ({error})") from error
    size = working_size(rgb.size, rule["min_side"], rule["max_side"])
    resized = np.asarray(rgb.resize(size, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None])


def working_size(size: tuple[int, int], min_side: int, max_side: int) -> tuple[int, int]:
    """(width, height) by detectron2's `ResizeShortestEdge`, in its order of roundings."""
    width, height = size
    scale = min_side / min(size)
    sides = [scale * width, min_side] if height < width else [min_side, scale * height]
    if max(sides) > max_side:
        shrink = max_side / max(sides)
        sides = [side * shrink for side in sides]
    return (max(1, int(sides[0] + 0.5)), max(1, int(sides[1] + 0.5)))
