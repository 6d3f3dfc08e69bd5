"""Photos of any size: cut out of photographs where they are at hand, else synthetic.

They carry no colour profile: ModelScope ignores it, our function turns its colours into sRGB.
"""

from pathlib import Path

from PIL import Image, ImageOps

from m2fp_export.random_checkpoint import synthetic_photos

FOLDER = Path(__file__).parents[4] / "shared/data/photos"


def write(path: Path, size: tuple[int, int], number: int) -> Path:
    """Photograph `number`, filling `size` (width, height); by the suffix a PNG or a JPEG."""
    ImageOps.fit(_source(number), size, Image.Resampling.BICUBIC).save(path, compress_level=1)
    return path


def _source(number: int) -> Image.Image:
    if FOLDER.is_dir():
        paths = sorted(FOLDER.glob("*.jpg"))
        with Image.open(paths[number % len(paths)]) as image:
            image.info.pop("icc_profile", None)
            return image.convert("RGB")
    planes = synthetic_photos(seed=100 + number)[0][0]
    return Image.fromarray(planes.permute(1, 2, 0).numpy())
