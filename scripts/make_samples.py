"""Make the page's sample photos and their thumbnails: `make_samples.py ASTRONAUT.png CAMERA.png FOLDER`.

Both pictures are scikit-image's: NASA's portrait of Eileen Collins (public domain) and a photographer at work by Lav
Varshney (CC0). Each is shown alone, and both in a composed scene.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageOps

from compose_scene import compose

# Pixels of a thumbnail, which is shown at half of it.
THUMBNAIL = (216, 144)
SCENE = (1280, 720)


def save(photo: Image.Image, folder: Path, name: str, quality: int, centre: tuple[float, float]) -> None:
    """A photo, and its thumbnail around a centre that is given as shares of what is cut off."""
    photo.save(folder / f"{name}.jpg", quality=quality, optimize=True)
    thumbnail = ImageOps.fit(photo, THUMBNAIL, Image.Resampling.LANCZOS, centering=centre)
    thumbnail.save(folder / f"{name}.webp", quality=36, method=6)
    for suffix in ("jpg", "webp"):
        path = folder / f"{name}.{suffix}"
        print(f"  {path}: {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("astronaut", type=Path)
    parser.add_argument("camera", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with Image.open(arguments.astronaut) as astronaut, Image.open(arguments.camera) as camera:
        scene = compose(astronaut, camera).resize(SCENE, Image.Resampling.LANCZOS)
        save(scene, arguments.folder, "sample", 58, (0.5, 1.0))
        save(astronaut.convert("RGB"), arguments.folder, "sample-portrait", 84, (0.5, 0.05))
        save(camera.convert("RGB"), arguments.folder, "sample-photographer", 80, (0.5, 0.25))


if __name__ == "__main__":
    main()
