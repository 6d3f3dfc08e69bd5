"""Shows what the model sees where it is weak: `python -m m2fp_train.pictures PHOTO OUT.jpg`.

One portrait, turned into what the model card's failures are about: a row each of the picture, its
parts and its people.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from m2fp_train.classes import voc_color
from m2fp_train.program import Parsed, Program

SIDE = 512
"""Width and height of a picture."""
SHOWN = 224
"""Width and height of a picture in the sheet."""
PALETTE = np.array([voc_color(index) for index in range(256)], np.uint8)
OPACITY = 0.7


def variants(portrait: Image.Image) -> list[Image.Image]:
    """As it is; upside down; in the dark; behind a post; far away; in a row; only the hands."""
    portrait = portrait.convert("RGB").resize((SIDE, SIDE))
    post = portrait.copy()
    post.paste((70, 60, 50), (SIDE * 4 // 10, 0, SIDE * 6 // 10, SIDE))
    far = Image.new("RGB", (SIDE, SIDE), (150, 160, 170))
    far.paste(portrait.resize((SIDE // 8, SIDE // 8)), (SIDE // 2, SIDE * 3 // 4))
    row = Image.new("RGB", (SIDE, SIDE), (150, 160, 170))
    for index in range(5):
        row.paste(portrait.resize((SIDE // 3, SIDE // 3)), (index * SIDE // 6, SIDE // 3))
    dark = portrait.point(lambda value: value // 6)
    low = portrait.crop((0, SIDE // 2, SIDE // 2, SIDE)).resize((SIDE, SIDE))
    return [portrait, portrait.rotate(180), dark, post, far, row, low]


def sheet(pictures: list[Image.Image], answers: list[Parsed]) -> Image.Image:
    """A column a picture: as it is, its parts, its people."""
    shown = Image.new("RGB", (SHOWN * len(pictures), SHOWN * 3))
    for column, (picture, parsed) in enumerate(zip(pictures, answers, strict=True)):
        for row, index in enumerate((None, parsed.labels, parsed.owners)):
            pixels = np.asarray(picture)
            if index is not None:
                drawn = PALETTE[index] * OPACITY + pixels * (1 - OPACITY)
                pixels = np.where(index[..., None] > 0, drawn, pixels).astype(np.uint8)
            tile = Image.fromarray(pixels).resize((SHOWN, SHOWN))
            shown.paste(tile, (column * SHOWN, row * SHOWN))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="m2fp_train.pictures", description=__doc__)
    parser.add_argument("photo", type=Path, help="a square portrait")
    parser.add_argument("out", type=Path)
    parser.add_argument("--m2fp", type=Path, default=Path("target/release/m2fp"))
    parser.add_argument("--model", type=Path, default=Path("model/nano"))
    arguments = parser.parse_args()
    with Image.open(arguments.photo) as portrait:
        pictures = variants(portrait)
    program = Program(arguments.m2fp, arguments.model)
    answers = list(program.parse(np.asarray(picture) for picture in pictures))
    sheet(pictures, answers).save(arguments.out, quality=85)


if __name__ == "__main__":
    main()
