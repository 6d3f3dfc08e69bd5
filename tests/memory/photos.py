"""The photos: one portrait, tiled over every size that is asked for, with a sensor's noise. Seeded."""

import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.memory import heif

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / ".runtime/photos/astronaut.png"

# Side of one person, pixels, and the noise's standard deviation in steps of 8 bits.
TILE = 1024
NOISE = 1.5
# Low bits that a camera of 12 bits leaves empty in a file of 16.
EMPTY_BITS = 4
BAND_ROWS = 256

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Adam7: first column and row, and the steps to the next, of each pass (PNG specification, section 8.2).
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
EXIF_ORIENTATION = 0x0112
QUARTER_TURN = 6

Size = tuple[int, int]
Rows = Iterator[NDArray[np.uint8] | NDArray[np.uint16]]


@cache
def _tile(side: int) -> NDArray[np.uint8]:
    with Image.open(PORTRAIT) as portrait:
        portrait = portrait.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    person = np.asarray(portrait)
    row = np.concatenate([person, person[:, ::-1]], axis=1)
    return np.concatenate([row, row], axis=0)


def bands(size: Size, bits: int = 8) -> Rows:
    """Rows of RGB, top to bottom, [rows, width, 3]."""
    width, height = size
    chance = np.random.default_rng(width * 1_000_003 + height)
    # Half of the photo's height, so that even small photos hold a whole person.
    tile = _tile(min(TILE, max(64, min(width, height))))
    columns = np.arange(width) % tile.shape[1]
    for top in range(0, height, BAND_ROWS):
        rows = np.arange(top, min(top + BAND_ROWS, height)) % tile.shape[0]
        band = tile[rows][:, columns].astype(np.float32)
        band += chance.standard_normal(band.shape, np.float32) * NOISE
        if bits == 16:
            fine = (band.clip(0, 255) * 257).astype(np.uint16)
            yield fine >> EMPTY_BITS << EMPTY_BITS
        else:
            yield band.clip(0, 255).astype(np.uint8)


def image(size: Size) -> Image.Image:
    """A photo of `size`, decoded."""
    return Image.fromarray(np.concatenate(list(bands(size))))


def write_png(path: Path, size: Size, bits: int = 8) -> None:
    """Row by row, so that 100 megapixels of 16 bits need no gigabyte; Pillow writes no 16-bit RGB."""
    with path.open("wb") as file:
        file.write(PNG_SIGNATURE + _header(size, bits, interlaced=False))
        packer = zlib.compressobj(1)
        for band in bands(size, bits):
            file.write(_chunk(b"IDAT", packer.compress(_filtered(band))))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def write_interlaced_png(path: Path, size: Size) -> None:
    """Adam7, which Pillow does not write."""
    pixels = np.concatenate(list(bands(size)))
    packer = zlib.compressobj(1)
    passes = [pixels[y::down, x::right] for x, y, right, down in ADAM7]
    data = b"".join(packer.compress(_filtered(part)) for part in passes if part.size) + packer.flush()
    header = _header(size, 8, interlaced=True)
    path.write_bytes(PNG_SIGNATURE + header + _chunk(b"IDAT", data) + _chunk(b"IEND", b""))


def _header(size: Size, bits: int, *, interlaced: bool) -> bytes:
    rgb = 2
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, rgb, 0, 0, int(interlaced)))


def _filtered(rows: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Each row with the filter Sub before it: every byte less the one a pixel to the left."""
    sub = 1
    pixel = 3 * rows.itemsize
    data = rows.astype(f">u{rows.itemsize}").view(np.uint8).reshape(len(rows), -1)
    out = np.empty((len(rows), 1 + data.shape[1]), np.uint8)
    out[:, 0] = sub
    out[:, 1 : 1 + pixel] = data[:, :pixel]
    out[:, 1 + pixel :] = data[:, pixel:] - data[:, :-pixel]
    return out.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _jpeg(size: Size, quality: int = 92, **how: object) -> Callable[[Path], None]:
    return lambda path: image(size).save(path, "JPEG", quality=quality, **how)


def _turned_jpeg(size: Size) -> Callable[[Path], None]:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = QUARTER_TURN
    return _jpeg(size, exif=exif)


def _cmyk_jpeg(size: Size) -> Callable[[Path], None]:
    return lambda path: image(size).convert("CMYK").save(path, "JPEG", quality=92)


def _tiff(size: Size, compression: str) -> Callable[[Path], None]:
    return lambda path: image(size).save(path, "TIFF", compression=compression)


def _avif(size: Size, **how: object) -> Callable[[Path], None]:
    return lambda path: image(size).save(path, "AVIF", quality=70, speed=10, **how)


def _heic(size: Size) -> Callable[[Path], None]:
    """Pillow writes none: as many copies as it takes of one tile, as a phone has them."""
    return lambda path: path.write_bytes(heif.grid((ROOT / "tests/data/heic/tile.heic").read_bytes(), size))


MP24, MP100 = (6000, 4000), (11547, 8660)

# Of builds that serve it.
HEIC = "24 MP HEIC"

# Name, and what writes it.
PHOTOS: dict[str, Callable[[Path], None]] = {
    "1080p JPEG": _jpeg((1920, 1080)),
    "4K JPEG": _jpeg((3840, 2160)),
    "24 MP JPEG": _jpeg(MP24),
    "24 MP JPEG, turned by EXIF": _turned_jpeg(MP24),
    "24 MP progressive JPEG": _jpeg(MP24, progressive=True),
    "24 MP JPEG of CMYK": _cmyk_jpeg(MP24),
    "24 MP interlaced PNG": lambda path: write_interlaced_png(path, MP24),
    "24 MP PNG, 16 bits": lambda path: write_png(path, MP24, 16),
    "24 MP WebP": lambda path: image(MP24).save(path, "WEBP", quality=85, method=0),
    "24 MP TIFF, LZW": _tiff(MP24, "tiff_lzw"),
    "24 MP TIFF, JPEG": _tiff(MP24, "jpeg"),
    "24 MP TIFF, Deflate": _tiff(MP24, "tiff_adobe_deflate"),
    "24 MP AVIF": _avif(MP24),
    "24 MP AVIF, 4:4:4": _avif(MP24, subsampling="4:4:4"),
    HEIC: _heic(MP24),
    "100 MP JPEG": _jpeg(MP100),
    "100 MP PNG": lambda path: write_png(path, MP100),
    "100 MP PNG, 16 bits": lambda path: write_png(path, MP100, 16),
    "20000×200 JPEG": _jpeg((20000, 200)),
    "64×64 PNG": lambda path: write_png(path, (64, 64)),
}


def photo(name: str, folder: Path) -> Path:
    """The file of a photo, made once."""
    path = folder / _file_name(name)
    if not path.exists():
        print(f"  making {name}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".part.{path.name}")
        PHOTOS[name](partial)
        partial.replace(path)
    return path


def _file_name(name: str) -> str:
    return name.replace(",", "").replace(" ", "-").replace(":", "")


def size_and_bytes(path: Path) -> tuple[Size, int]:
    """Size as a viewer shows it, and length."""
    Image.MAX_IMAGE_PIXELS = None
    if path.name == _file_name(HEIC):
        return MP24, path.stat().st_size
    with Image.open(path) as opened:
        width, height = opened.size
        turned = opened.getexif().get(EXIF_ORIENTATION) == QUARTER_TURN
    return ((height, width) if turned else (width, height)), path.stat().st_size
