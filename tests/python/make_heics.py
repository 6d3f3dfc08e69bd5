"""Makes the HEIC test data of `tests/data/heic` anew: `make_heics.py PHOTO OUT`, with pillow-heif installed.

PHOTO is any RGB photograph. pillow-heif (libheif, x265) is not among the tools of this project, because its encoder is
needed here alone: `pip install pillow-heif==1.8.1 Pillow==13.0.0`. Each small
NAME.heic has a NAME.png beside it, which is what libheif reads, with the colour profile converted to sRGB by littleCMS.
"""

import io
import sys
from pathlib import Path

import pillow_heif
from PIL import Image, ImageCms

ORIENTATION = 0x0112


def saved(picture: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(picture).save(stream, **{"quality": 60, **options})
    return stream.getvalue()


def as_read(data: bytes) -> Image.Image:
    """What libheif makes of the file, upright and in sRGB."""
    picture = Image.open(io.BytesIO(data))
    profile, alpha = picture.info.get("icc_profile"), None
    if picture.mode == "RGBA":
        alpha = picture.getchannel("A")
    colors = picture.convert("RGB")
    if profile:
        colors = ImageCms.profileToProfile(
            colors, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    if alpha:
        colors.putalpha(alpha)
    return colors


def deep(picture: Image.Image, bits: int) -> pillow_heif.HeifFile:
    """The picture with samples of more than 8 bits."""
    mode = f"RGB;{bits}"
    size, samples = picture.size, bytearray()
    for value in picture.tobytes():
        samples += (value * ((1 << bits) - 1) // 255).to_bytes(2, "little")
    return pillow_heif.from_bytes(mode, size, bytes(samples))


def main() -> None:
    photo = Image.open(sys.argv[1]).convert("RGB")
    photo.info.clear()
    large, photo = photo.crop((0, 0, 512, 512)), photo.crop((180, 60, 180 + 68, 60 + 50))
    out = Path(sys.argv[2])
    half = photo.convert("RGBA")
    half.putalpha(Image.linear_gradient("L").resize(photo.size))
    p3 = Path(__file__).parents[1] / "data/cases/08-p3.jpg"
    profile = Image.open(p3).info["icc_profile"]
    turned = photo.copy()
    turned.getexif()[ORIENTATION] = 5
    files = {
        "420": saved(photo, chroma=420),
        "422": saved(photo, chroma=422),
        "444": saved(photo, chroma=444),
        "grey": saved(photo.convert("L")),
        "alpha": saved(half),
        "profile": saved(photo, icc_profile=profile),
        "limited": saved(
            photo, matrix_coefficients=1, full_range_flag=0, color_primaries=1, transfer_characteristics=13
        ),
        "turned": saved(turned),
    }
    for bits in (10, 12):
        stream = io.BytesIO()
        deep(photo, bits).save(stream, quality=60)
        files[f"bits-{bits}"] = stream.getvalue()
    for name, data in files.items():
        (out / f"{name}.heic").write_bytes(data)
        as_read(data).save(out / f"{name}.png", optimize=True)
    # A tile of a phone's size, for large photos that the tests put together, and a large photo in one piece.
    (out / "tile.heic").write_bytes(saved(large, quality=25))
    (out / "large.heic").write_bytes(saved(large.crop((0, 0, 512, 341)).resize((3000, 2000)), quality=10))


if __name__ == "__main__":
    pillow_heif.register_heif_opener()
    main()
