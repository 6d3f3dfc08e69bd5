"""Writes images of every kind served, and what Pillow makes of them.

Usage: pillow_reference.py PHOTO OUT [large]

With `large`: instead, files of 6 megapixels of the kinds that differ in what their decoder holds.

PHOTO is any RGB photograph; OUT is an empty folder. For each image, OUT gets the file itself, `NAME.full` (upright RGB
at the photo's size) and `NAME.small` (the same, resized), both raw bytes; `cases.json` lists them. Where Pillow itself
does something else than it documents (16-bit grey, which it clips at 255), the reference is the documented thing.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

ORIENTATION = 0x0112
# Shares of width and height. Pillow 13 takes the vertical pass first where the height loses more than twice as many
# pixels as the width (its pull request 9549), earlier ones and the function never: these sizes are the same in both.
TARGETS = ((0.47, 0.44), (1.5, 1.55), (0.4, 1.3), (0.35, 1.0), (0.0, 0.0))


@dataclass
class Case:
    name: str
    data: bytes
    lossy: bool = False
    orientation: int = 1
    upright: np.ndarray | None = None
    """Stored pixels of the reference, where Pillow's own reading is not it."""
    tolerance: int = 0
    """Grey levels that the function may differ by."""


class Writer:
    def __init__(self, out: Path) -> None:
        self.out = out
        self.cases: list[dict] = []

    def add(self, case: Case) -> None:
        if case.upright is None:
            opened = Image.open(io.BytesIO(case.data))
            picture = ImageOps.exif_transpose(opened).convert("RGB")
        else:
            stored = Image.fromarray(case.upright)
            stored.getexif()[ORIENTATION] = case.orientation
            picture = ImageOps.exif_transpose(stored)
        shares = TARGETS[len(self.cases) % len(TARGETS)]
        target = tuple(max(1, round(side * share)) for side, share in zip(picture.size, shares, strict=True))
        small = picture.resize(target, Image.Resampling.BILINEAR)
        (self.out / case.name).write_bytes(case.data)
        (self.out / f"{case.name}.full").write_bytes(picture.tobytes())
        (self.out / f"{case.name}.small").write_bytes(small.tobytes())
        self.cases.append(
            {
                "name": case.name,
                "orientation": case.orientation,
                "size": picture.size,
                "target": target,
                "lossy": case.lossy,
                "tolerance": case.tolerance,
            }
        )


def saved(picture: Image.Image, kind: str, orientation: int = 1, **options) -> bytes:
    """The picture as a file of this kind, with an orientation where the kind has one."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if kind in ("JPEG", "PNG", "WEBP"):
        options["exif"] = exif.tobytes()
    elif kind == "TIFF":
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[ORIENTATION] = orientation
        options["tiffinfo"] = info
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


# PNG variants that Pillow does not write.


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_rows(samples: np.ndarray, depth: int) -> bytes:
    """Unfiltered rows of samples [h, w, channels]."""
    rows = []
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        elif depth == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            bits = (row[:, None].astype(np.uint8) >> np.arange(depth - 1, -1, -1)) & 1
            packed = np.packbits(bits.astype(np.uint8)).tobytes()
        rows.append(b"\0" + packed)
    return b"".join(rows)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(
    samples: np.ndarray,
    depth: int,
    color: int,
    *,
    interlaced: bool = False,
    orientation: int = 1,
    extra: bytes = b"",
) -> bytes:
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    if interlaced:
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        raw = b"".join(png_rows(part, depth) for part in passes if part.size)
    else:
        raw = png_rows(samples, depth)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    packed = zlib.compress(raw)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            extra,
            png_chunk(b"IDAT", packed[: len(packed) // 2]),
            png_chunk(b"IDAT", packed[len(packed) // 2 :]),
            # Behind the pixels, where the standard allows it too.
            png_chunk(b"eXIf", exif.tobytes()[6:]),
            png_chunk(b"IEND", b""),
        ]
    )


# TIFF variants that Pillow does not write.


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    bits: int = 8,
    tile: int = 0,
    planar: bool = False,
    orientation: int = 1,
    order: str = "<",
) -> bytes:
    """Uncompressed samples [h, w, c], in one strip a plane or in square tiles."""
    height, width, count = samples.shape
    kind = np.dtype(order + ("u2" if bits == 16 else "u1"))
    planes = [samples[:, :, i : i + 1] for i in range(count)] if planar else [samples]
    chunks = []
    for plane in planes:
        if tile:
            padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, plane.shape[2]), plane.dtype)
            padded[:height, :width] = plane
            for y in range(0, height, tile):
                for x in range(0, width, tile):
                    chunks.append(padded[y : y + tile, x : x + tile].astype(kind).tobytes())
        else:
            chunks.append(plane.astype(kind).tobytes())
    body, offsets = b"", []
    for chunk in chunks:
        offsets.append(8 + len(body))
        body += chunk
    lengths = [len(chunk) for chunk in chunks]
    index = ((324, 325) if tile else (273, 279)) if chunks else ()
    tags = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits] * count),
        259: ("H", [1]),
        262: ("H", [photometric]),
        274: ("H", [orientation]),
        277: ("H", [count]),
        284: ("H", [2 if planar else 1]),
        index[0]: ("L", offsets),
        index[1]: ("L", lengths),
    }
    if tile:
        tags[322] = tags[323] = ("H", [tile])
    else:
        tags[278] = ("H", [height])
    if count == 4 and photometric == 2:
        tags[338] = ("H", [2])
    directory = struct.pack(order + "H", len(tags))
    start = 8 + len(body)
    spill_at = start + 2 + 12 * len(tags) + 4
    spill = b""
    for tag, (code, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        directory += struct.pack(order + "HHL", tag, 3 if code == "H" else 4, len(values))
        if len(packed) > 4:
            directory += struct.pack(order + "L", spill_at + len(spill))
            spill += packed
        else:
            directory += packed.ljust(4, b"\0")
    magic = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", start)
    return magic + body + directory + b"\0\0\0\0" + spill


def bmp(rows: list[bytes], width: int, height: int, bits: int, compression: int = 0, tail: bytes = b"") -> bytes:
    """A BMP of already packed, bottom-up rows; `tail` follows the 40-byte header (masks or palette)."""
    body = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows) if compression in (0, 3) else rows[0]
    offset = 54 + len(tail)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + tail + body


def jpegs(writer: Writer, photo: Image.Image) -> None:
    grey, inks = photo.convert("L"), photo.convert("CMYK")
    kinds = {
        "444": (photo, {"subsampling": 0}),
        "422": (photo, {"subsampling": 1}),
        "420": (photo, {"subsampling": 2}),
        "420-q30": (photo, {"subsampling": 2, "quality": 30}),
        "progressive": (photo, {"progressive": True, "subsampling": 2}),
        "restarts": (photo, {"restart_marker_blocks": 3}),
        "rgb": (photo, {"keep_rgb": True}),
        "grey": (grey, {}),
        "grey-progressive": (grey, {"progressive": True}),
        "cmyk": (inks, {}),
        "cmyk-progressive": (inks, {"progressive": True}),
    }
    for name, (picture, options) in kinds.items():
        for orientation in range(1, 9):
            data = saved(picture, "JPEG", orientation, **{"quality": 90, **options})
            writer.add(Case(f"jpeg-{name}-{orientation}", data, True, orientation))
    # The same coefficients read as YCCK: Adobe's marker says so in its last byte.
    data = bytearray(saved(inks, "JPEG"))
    data[data.index(b"Adobe") + 11] = 2
    writer.add(Case("jpeg-ycck", bytes(data), True))
    for height in (1, 2, 3, 7, 8, 9, 15, 16, 17):
        part = photo.crop((0, 0, height * 3 % 17 + 1, height))
        writer.add(Case(f"jpeg-tiny-{height}", saved(part, "JPEG", subsampling=2), True))


def pngs(writer: Writer, photo: Image.Image) -> None:
    pixels = np.asarray(photo).astype(np.uint16)
    alpha = np.indices(pixels.shape[:2]).sum(0).astype(np.uint16)[:, :, None] % 256
    fine = np.indices(pixels.shape[:2]).prod(0).astype(np.uint16)[:, :, None] % 256
    deep = pixels * 256 + fine
    deep_alpha = np.concatenate([deep, alpha * 256], 2)
    grey = pixels[:, :, 1:2]
    rgb = np.concatenate([grey] * 3, 2).astype(np.uint8)
    palette = photo.quantize(200)
    few = photo.quantize(13)
    transparent = png_chunk(b"tRNS", struct.pack(">HHH", *map(int, pixels[3, 3])))
    for orientation in range(1, 9):
        place = {"orientation": orientation}

        def add(name: str, data: bytes, upright: np.ndarray | None = None, orientation: int = orientation) -> None:
            writer.add(Case(f"png-{name}-{orientation}", data, False, orientation, upright))

        add("rgb", saved(photo, "PNG", orientation))
        add("palette", saved(palette, "PNG", orientation))
        add("palette-4", saved(few, "PNG", orientation))
        add("palette-transparent", saved(palette, "PNG", orientation, transparency=bytes(range(200))))
        add("bilevel", saved(photo.convert("1"), "PNG", orientation))
        rgba = Image.fromarray(np.concatenate([pixels, alpha], 2).astype(np.uint8))
        add("rgba", saved(rgba, "PNG", orientation))
        add("grey", saved(photo.convert("L"), "PNG", orientation))
        add("grey-alpha", saved(rgba.convert("LA"), "PNG", orientation))
        for interlaced in (False, True):
            suffix = "-interlaced" if interlaced else ""
            for depth in (1, 2, 4):
                add(f"grey-{depth}{suffix}", png(grey >> (8 - depth), depth, 0, interlaced=interlaced, **place))
            add(f"grey-16{suffix}", png(grey * 256 + fine, 16, 0, interlaced=interlaced, **place), rgb)
            add(f"grey-alpha-16{suffix}", png(deep_alpha[:, :, 2:], 16, 4, interlaced=interlaced, **place))
            add(f"rgb-16{suffix}", png(deep, 16, 2, interlaced=interlaced, **place))
            add(f"rgba-16{suffix}", png(deep_alpha, 16, 6, interlaced=interlaced, **place))
            add(f"rgb-8{suffix}", png(pixels, 8, 2, interlaced=interlaced, extra=transparent, **place))
    for width, height in ((1, 1), (1, 9), (9, 1), (2, 3), (5, 5), (300, 2)):
        part = np.resize(pixels, (height, width, 3))
        writer.add(Case(f"png-interlaced-{width}x{height}", png(part, 8, 2, interlaced=True)))


def bmps(writer: Writer, photo: Image.Image) -> None:
    for name, picture in {
        "bilevel": photo.convert("1"),
        "grey": photo.convert("L"),
        "palette": photo.quantize(256),
        "rgb": photo,
        "rgba": photo.convert("RGBA"),
    }.items():
        writer.add(Case(f"bmp-{name}", saved(picture, "BMP")))
    pixels = np.asarray(photo).astype(np.uint16)
    height, width = pixels.shape[:2]
    r, g, b = (pixels[::-1, :, i] for i in range(3))
    five = (r >> 3) << 10 | (g >> 3) << 5 | b >> 3
    # Pillow rounds five bits down, the function to nearest.
    data = bmp([row.astype("<u2").tobytes() for row in five], width, height, 16)
    writer.add(Case("bmp-555", data, tolerance=1))
    six = (r >> 3) << 11 | (g >> 2) << 5 | b >> 3
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    data = bmp([row.astype("<u2").tobytes() for row in six], width, height, 16, 3, masks)
    writer.add(Case("bmp-565", data, tolerance=1))
    down = [row[:, ::-1].astype(np.uint8).tobytes() for row in pixels]
    writer.add(Case("bmp-top-down", bmp(down, width, -height, 24)))
    grey = np.asarray(photo.convert("L").quantize(256)) // 16
    palette = b"".join(bytes([i * 17, 255 - i * 17, i * 9, 0]) for i in range(16))
    padded = np.pad(grey[::-1], ((0, 0), (0, width % 2)))
    nibbles = [(row[::2] << 4 | row[1::2]).astype(np.uint8).tobytes() for row in padded]
    data = bytearray(bmp(nibbles, width, height, 4, 0, palette))
    data[46:50] = struct.pack("<I", 16)
    writer.add(Case("bmp-palette-4", bytes(data)))
    runs = b"".join(b"".join(bytes([1, int(v)]) for v in row) + b"\0\0" for row in grey[::-1]) + b"\0\1"
    data = bytearray(bmp([runs], width, height, 8, 1, palette))
    data[46:50] = struct.pack("<I", 16)
    writer.add(Case("bmp-rle8", bytes(data)))


def gifs(writer: Writer, photo: Image.Image) -> None:
    palette = photo.quantize(256)
    for name, options in {
        "plain": {"interlace": 0},
        "interlaced": {"interlace": 1},
        "transparent": {"transparency": 7, "interlace": 0},
        "animated": {"save_all": True, "append_images": [photo.rotate(90).resize(photo.size).quantize(64)]},
    }.items():
        writer.add(Case(f"gif-{name}", saved(palette, "GIF", **options)))
    writer.add(Case("gif-few", saved(photo.quantize(5), "GIF")))
    for interlace in (0, 1):
        for transparency in ({}, {"transparency": 9}):
            data = bytearray(saved(palette, "GIF", interlace=interlace, **transparency))
            # A larger screen, the frame off its corner.
            data[6:10] = struct.pack("<HH", photo.width + 20, photo.height + 11)
            image = data.index(b"\x2c\0\0\0\0" + struct.pack("<HH", *photo.size))
            data[image + 1 : image + 5] = struct.pack("<HH", 13, 4)
            writer.add(Case(f"gif-offset-{interlace}-{len(transparency)}", bytes(data)))
            data[6:10] = struct.pack("<HH", 10, 10)
            writer.add(Case(f"gif-outside-{interlace}-{len(transparency)}", bytes(data)))


def tiffs(writer: Writer, photo: Image.Image) -> None:
    pixels = np.asarray(photo).astype(np.uint16)
    grey = pixels[:, :, 1:2]
    rgb = np.concatenate([grey] * 3, 2).astype(np.uint8)
    alpha = np.asarray(photo.convert("L")).astype(np.uint16)[:, :, None]
    rgba = Image.fromarray(np.concatenate([pixels, alpha], 2).astype(np.uint8))
    for orientation in range(1, 9):
        place = {"orientation": orientation}

        def add(name: str, data: bytes, upright: np.ndarray | None = None, orientation: int = orientation) -> None:
            writer.add(Case(f"tiff-{name}-{orientation}", data, False, orientation, upright))

        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            add(f"rgb-{compression}", saved(photo, "TIFF", orientation, compression=compression))
        add("rgb-strips", saved(photo, "TIFF", orientation, compression="tiff_lzw", strip_size=photo.width * 3 * 5))
        add("rgba", saved(rgba, "TIFF", orientation))
        add("grey", saved(photo.convert("L"), "TIFF", orientation))
        add("grey-alpha", saved(rgba.convert("LA"), "TIFF", orientation))
        add("cmyk", saved(photo.convert("CMYK"), "TIFF", orientation))
        add("bilevel", saved(photo.convert("1"), "TIFF", orientation))
        add("bilevel-fax", saved(photo.convert("1"), "TIFF", orientation, compression="group4"))
        add("big", saved(photo, "TIFF", orientation, big_tiff=True))
        for order in "<>":
            add(f"rgb-16{'le' if order == '<' else 'be'}", tiff(pixels * 257, 2, bits=16, order=order, **place))
        add("grey-16", tiff(grey * 256 + grey // 3, 1, bits=16, **place), rgb)
        add("white-is-zero", tiff(grey, 0, **place))
        add("tiles", tiff(pixels, 2, tile=32, **place))
        add("planes", tiff(pixels, 2, planar=True, **place))


def webps(writer: Writer, photo: Image.Image) -> None:
    rgba = photo.convert("RGBA")
    rgba.putalpha(photo.convert("L"))
    for orientation in range(1, 9):
        for name, picture, options in (
            ("lossless", photo, {"lossless": True}),
            ("lossless-alpha", rgba, {"lossless": True, "exact": True}),
            ("lossless-palette", photo.quantize(20).convert("RGB"), {"lossless": True}),
            ("lossy", photo, {"quality": 80}),
            ("lossy-alpha", rgba, {"quality": 80, "exact": True}),
        ):
            lossy = name.startswith("lossy")
            data = saved(picture, "WEBP", orientation, **options)
            writer.add(Case(f"webp-{name}-{orientation}", data, lossy, orientation))
    more = {"save_all": True, "append_images": [photo.rotate(180)], "lossless": True}
    writer.add(Case("webp-animated", saved(photo, "WEBP", **more)))
    for width, height in ((1, 1), (17, 1), (1, 17), (33, 31)):
        part = photo.crop((0, 0, width, height))
        writer.add(Case(f"webp-tiny-{width}x{height}", saved(part, "WEBP", lossless=True)))


class Bits:
    """Bits, the lowest of each byte first; of a code, the highest first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, value: int, count: int) -> None:
        self.bits += [value >> i & 1 for i in range(count)]

    def two(self, zero: int, one: int) -> None:
        """A code of two symbols."""
        for value, count in ((1, 1), (1, 1), (1, 1), (zero, 8), (one, 8)):
            self.put(value, count)

    def table(self) -> None:
        """A code of 11 symbols whose longest code has 10 bits: the largest lookup table for the fewest bits."""
        self.put(0, 1)
        self.put(15, 4)
        for symbol in (17, 18, *range(6), 16, *range(6, 16)):
            self.put(4 if symbol < 16 else 0, 3)
        for value, count in ((1, 1), (1, 3), (9, 4)):
            self.put(value, count)
        for length in (*range(1, 11), 10):
            self.bits += [length >> i & 1 for i in (3, 2, 1, 0)]

    def bytes(self) -> bytes:
        return np.packbits(np.array(self.bits, np.uint8), bitorder="little").tobytes()


def webp_bomb(groups: int) -> bytes:
    """A lossless WebP of 1024 × 1024 pixels with so many groups of prefix codes, and no pixels."""
    bits = Bits()
    for value, count in ((0x2F, 8), (1023, 14), (1023, 14), (0, 4), (0, 1), (0, 1), (1, 1), (0, 3), (0, 1)):
        bits.put(value, count)
    last = groups - 1
    bits.two(0, last & 255)
    bits.two(0, last >> 8)
    for _ in range(3):
        bits.two(0, 1)
    for i in range(256 * 256):
        for symbol in (i == 0, i == 0, 0, 0):
            bits.put(int(symbol), 1)
    for _ in range(groups * 5):
        bits.table()
    chunk = bits.bytes()
    chunk += b"\0" * (len(chunk) % 2)
    body = b"WEBPVP8L" + struct.pack("<I", len(chunk)) + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


def large(out: Path, photo: Image.Image) -> None:
    photo = photo.resize((3000, 2000), Image.Resampling.BICUBIC)
    rgba = photo.convert("RGBA")
    rgba.putalpha(photo.convert("L"))
    pixels = np.asarray(photo).astype(np.uint16)
    palette = photo.quantize(256)
    files = {
        "broken-webp-of-prefix-codes": webp_bomb(4000),
        "jpeg-420": saved(photo, "JPEG", 6, subsampling=2),
        "jpeg-444": saved(photo, "JPEG", subsampling=0),
        "jpeg-cmyk": saved(photo.convert("CMYK"), "JPEG"),
        "jpeg-progressive-420": saved(photo, "JPEG", subsampling=2, progressive=True),
        "jpeg-progressive-444": saved(photo, "JPEG", subsampling=0, progressive=True),
        "png-rgb": saved(photo, "PNG", 8, compress_level=1),
        "png-rgba": saved(rgba, "PNG", compress_level=1),
        "png-rgb-16": png(pixels * 257, 16, 2),
        "png-interlaced": png(pixels, 8, 2, interlaced=True),
        "gif": saved(palette, "GIF", interlace=0),
        "gif-interlaced": saved(palette, "GIF", interlace=1),
        "tiff-one-strip": tiff(pixels, 2),
        "tiff-strips": saved(photo, "TIFF", compression="tiff_lzw"),
        "tiff-tiles": tiff(pixels, 2, tile=256),
        "tiff-16": tiff(pixels * 257, 2, bits=16),
        "bmp": saved(photo, "BMP"),
        "bmp-alpha": saved(rgba, "BMP"),
        "webp-lossy": saved(photo, "WEBP", method=0),
        "webp-lossy-alpha": saved(rgba, "WEBP", method=0),
        "webp-lossless": saved(photo, "WEBP", lossless=True, method=0, quality=0),
        "webp-lossless-alpha": saved(rgba, "WEBP", lossless=True, method=0, quality=0),
        "webp-animated": saved(
            photo, "WEBP", save_all=True, append_images=[photo.rotate(180)], lossless=True, method=0, quality=0
        ),
        "webp-animated-lossy-alpha": saved(
            rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], method=0, allow_mixed=False
        ),
    }
    for name, data in files.items():
        (out / name).write_bytes(data)


def main() -> None:
    photo_path, out = Path(sys.argv[1]), Path(sys.argv[2])
    if sys.argv[3:] == ["large"]:
        large(out, Image.open(photo_path).convert("RGB"))
        return
    photo = Image.open(photo_path).convert("RGB").crop((150, 20, 150 + 131, 20 + 97))
    writer = Writer(out)
    for write in (jpegs, pngs, bmps, gifs, tiffs, webps):
        write(writer, photo)
    (out / "cases.json").write_text(json.dumps(writer.cases))


if __name__ == "__main__":
    main()
