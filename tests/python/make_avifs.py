"""Makes the AVIF test data of `tests/data/avif` anew: `make_avifs.py PHOTO OUT`.

PHOTO is any RGB photograph. Pillow (libavif, libaom) writes what it can write, imagecodecs the samples of more than 8
bits, which is not among the tools of this project: `pip install imagecodecs==2026.3.6 numpy Pillow==13.0.0`. Each small
NAME.avif has a NAME.png beside it, which is what Pillow (libavif, dav1d) reads, with the colour profile converted to
sRGB by littleCMS.
"""

import io
import sys
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageCms, ImageOps

ORIENTATION = 0x0112
MATRIX_IDENTITY, MATRIX_YCGCO = 0, 8


def saved(picture: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "AVIF", **{"quality": 60, "speed": 4, **options})
    return stream.getvalue()


def as_read(data: bytes) -> Image.Image:
    """What Pillow makes of the file, upright and in sRGB."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    profile, alpha = picture.info.get("icc_profile"), None
    if picture.mode == "RGBA":
        alpha = picture.getchannel("A")
    colors = picture.convert("RGB")
    if profile:
        colors = ImageCms.profileToProfile(
            colors, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    colors.info.clear()
    if alpha:
        colors.putalpha(alpha)
    return colors


def deep(picture: Image.Image, bits: int, chroma: str, **options) -> bytes:
    """The picture with samples of `bits`."""
    samples = np.array(picture).astype(np.uint32) * ((1 << bits) - 1) // 255
    samples = samples.astype(np.uint8 if bits == 8 else np.uint16)
    return imagecodecs.avif_encode(samples, level=60, bitspersample=bits, pixelformat=chroma, **options)


def main() -> None:
    photo = Image.open(sys.argv[1]).convert("RGB")
    photo.info.clear()
    # Odd sides, so that the last chroma samples cover half as much.
    large, photo = photo.crop((0, 0, 512, 512)), photo.crop((180, 60, 180 + 67, 60 + 49))
    out = Path(sys.argv[2])
    half = photo.convert("RGBA")
    half.putalpha(Image.linear_gradient("L").resize(photo.size))
    p3 = Path(__file__).parents[1] / "data/cases/08-p3.jpg"
    profile = Image.open(p3).info["icc_profile"]
    exif = Image.Exif()
    exif[ORIENTATION] = 5
    sequence = io.BytesIO()
    photo.save(sequence, "AVIF", save_all=True, append_images=[photo.rotate(180)])
    files = {
        "420": saved(photo),
        "422": saved(photo, subsampling="4:2:2"),
        "444": saved(photo, subsampling="4:4:4"),
        "grey": saved(photo.convert("L"), subsampling="4:0:0"),
        "alpha": saved(half),
        "premultiplied": saved(half, alpha_premultiplied=True, quality=90),
        "profile": saved(photo, icc_profile=profile),
        "limited": saved(photo, range="limited"),
        "turned": saved(photo, exif=exif),
        "grain": saved(photo, advanced={"film-grain-test": "1"}),
        "sequence": sequence.getvalue(),
        "lossless": imagecodecs.avif_encode(np.array(photo), level=100, pixelformat="444", matrix=MATRIX_IDENTITY),
        "ycgco": deep(photo, 8, "444", matrix=MATRIX_YCGCO),
        "bits-10": deep(photo, 10, "420"),
        "bits-10-422": deep(photo, 10, "422"),
        "bits-12": deep(photo, 12, "444"),
    }
    for name, data in files.items():
        (out / f"{name}.avif").write_bytes(data)
        as_read(data).save(out / f"{name}.png", optimize=True)
    # A tile of a camera's size, for large photos that the tests put together, and large photos in one piece: as most
    # are, with filters that need most, and with film grain, which needs more.
    wide = large.crop((0, 0, 512, 341)).resize((3000, 2000))
    (out / "tile.avif").write_bytes(saved(large, quality=25))
    (out / "large.avif").write_bytes(saved(wide, quality=10, speed=8))
    (out / "large-444.avif").write_bytes(saved(wide, quality=10, subsampling="4:4:4", speed=6))
    grain = {"film-grain-test": "1"}
    (out / "large-grain.avif").write_bytes(saved(wide, quality=10, speed=8, subsampling="4:4:4", advanced=grain))


if __name__ == "__main__":
    main()
