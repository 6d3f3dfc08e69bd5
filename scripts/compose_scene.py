"""Compose a scene of several people from one photograph: `compose_scene.py ASTRONAUT.png SCENE.jpg [--width 1280]`.

The portrait is cut out along an outline drawn by hand and set several times, at several sizes and half of them
mirrored, before a plain backdrop. Everything is seeded: the same portrait gives the same scene.
"""

import argparse
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageOps

WIDTH, HEIGHT = 1920, 1080

# The astronaut's outline, pixels of the 512×512 original, clockwise from the top of the head.
OUTLINE = [
    (222, 13), (252, 20), (275, 33), (291, 54), (301, 80), (298, 104), (288, 121), (277, 130), (266, 146),
    (258, 164), (262, 176), (282, 187), (297, 206), (304, 232), (330, 250), (346, 268), (356, 300), (362, 350),
    (385, 344), (420, 346), (452, 361), (476, 386), (491, 420), (497, 455), (509, 480), (511, 511),
    (34, 511), (24, 460), (20, 405), (26, 350), (38, 290), (52, 262), (74, 240), (112, 210), (113, 184),
    (128, 163), (150, 152), (180, 148), (184, 138), (178, 120), (166, 110), (156, 92), (153, 66), (166, 47),
    (186, 32), (196, 22),
]  # fmt: skip

# (centre x, side of the square portrait, mirrored), back to front; every portrait stands on the lower edge.
PEOPLE = [
    (700, 640, True),
    (1190, 700, False),
    (290, 800, False),
    (1640, 860, True),
    (960, 560, False),
]


def cut_out(portrait: Image.Image) -> Image.Image:
    """The portrait as RGBA, transparent outside the outline, its edge softened by a pixel."""
    scale = portrait.width / 512
    mask = Image.new("L", portrait.size, 0)
    ImageDraw.Draw(mask).polygon([(x * scale, y * scale) for x, y in OUTLINE], fill=255)
    person = portrait.convert("RGB")
    person.putalpha(mask.filter(ImageFilter.GaussianBlur(scale)))
    return person


def backdrop(seed: int) -> Image.Image:
    """A grey-blue studio wall with soft clouds of light."""
    chance = random.Random(seed)
    wall = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    wall = ImageOps.colorize(wall, black=(196, 203, 209), white=(104, 112, 122))
    clouds = Image.new("L", (24, 14))
    clouds.putdata([chance.randrange(256) for _ in range(24 * 14)])
    clouds = clouds.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(60))
    return Image.blend(wall, ImageOps.colorize(clouds, black=(90, 98, 110), white=(222, 220, 212)), 0.3)


def compose(portrait: Image.Image, seed: int) -> Image.Image:
    """The scene, 1920×1080."""
    scene = backdrop(seed)
    person = cut_out(portrait)
    for centre, side, mirrored in PEOPLE:
        figure = person.resize((side, side), Image.Resampling.LANCZOS)
        if mirrored:
            figure = ImageOps.mirror(figure)
        scene.paste(figure, (centre - side // 2, HEIGHT - side), figure)
    return scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portrait", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--width", type=int, default=WIDTH, help="pixels (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG, to 100 (default: %(default)s)")
    arguments = parser.parse_args()
    scene = compose(Image.open(arguments.portrait), arguments.seed)
    if arguments.width != WIDTH:
        scene = scene.resize((arguments.width, arguments.width * HEIGHT // WIDTH), Image.Resampling.LANCZOS)
    arguments.scene.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.scene.with_name(f".part.{arguments.scene.name}")
    scene.save(partial, quality=arguments.quality)
    partial.replace(arguments.scene)
    print(f"  {arguments.scene}: {scene.width}×{scene.height}, {len(PEOPLE)} people")


if __name__ == "__main__":
    main()
