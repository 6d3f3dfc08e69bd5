"""Compose a scene of four people from two photographs: `compose_scene.py ASTRONAUT.png CAMERA.png SCENE.jpg`.

Two astronauts have their picture taken from both sides. The photographer and his field are as they are, and mirrored
beside it; the astronaut is cut out along an outline drawn by hand, and set twice, at two sizes, once mirrored.
"""

import argparse
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
ASTRONAUTS = [(770, 600, True), (1110, 700, False)]


def cut_out(portrait: Image.Image) -> Image.Image:
    """The portrait as RGBA, transparent outside the outline, its edge softened by a pixel."""
    scale = portrait.width / 512
    mask = Image.new("L", portrait.size, 0)
    ImageDraw.Draw(mask).polygon([(x * scale, y * scale) for x, y in OUTLINE], fill=255)
    person = portrait.convert("RGB")
    person.putalpha(mask.filter(ImageFilter.GaussianBlur(scale)))
    return person


def field(photographer: Image.Image) -> Image.Image:
    """The photographer at work in a field, on the left, and his mirror image on the right."""
    whole = photographer.convert("RGB").resize((HEIGHT, HEIGHT), Image.Resampling.LANCZOS)
    half = whole.crop((0, 0, WIDTH // 2, HEIGHT))
    scene = Image.new("RGB", (WIDTH, HEIGHT))
    scene.paste(half, (0, 0))
    scene.paste(ImageOps.mirror(half), (WIDTH // 2, 0))
    return scene


def compose(astronaut: Image.Image, photographer: Image.Image) -> Image.Image:
    """The scene, 1920×1080."""
    scene = field(photographer)
    person = cut_out(astronaut)
    for centre, side, mirrored in ASTRONAUTS:
        figure = person.resize((side, side), Image.Resampling.LANCZOS)
        if mirrored:
            figure = ImageOps.mirror(figure)
        scene.paste(figure, (centre - side // 2, HEIGHT - side), figure)
    return scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("astronaut", type=Path)
    parser.add_argument("photographer", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--width", type=int, default=WIDTH, help="pixels (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG, to 100 (default: %(default)s)")
    arguments = parser.parse_args()
    with Image.open(arguments.astronaut) as astronaut, Image.open(arguments.photographer) as photographer:
        scene = compose(astronaut, photographer)
    if arguments.width != WIDTH:
        scene = scene.resize((arguments.width, arguments.width * HEIGHT // WIDTH), Image.Resampling.LANCZOS)
    arguments.scene.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.scene.with_name(f".part.{arguments.scene.name}")
    scene.save(partial, quality=arguments.quality)
    partial.replace(arguments.scene)
    print(f"  {arguments.scene}: {scene.width}×{scene.height}, {2 + len(ASTRONAUTS)} people")


if __name__ == "__main__":
    main()
