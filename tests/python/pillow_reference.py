"""Writes images of every kind served, and what Pillow makes of them.

Usage: pillow_reference.py PHOTO OUT [large]

With `large`: instead, files of 6 megapixels of the kinds that differ in what their decoder holds.

PHOTO is any RGB photograph; OUT is an empty folder. For each image, OUT gets the file itself, `NAME.full` (upright RGB
at the photo's size), `NAME.small` (the same, resized) and, where the image has alpha, `NAME.alpha` (upright, at the
photo's size), all raw bytes; `cases.json` lists them. Colour profiles are converted to sRGB by littleCMS. Where Pillow
itself does something else than it documents (16-bit grey, which it clips at 255) or reads less than is served, the
reference is what the file was made from.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin

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
    alpha: np.ndarray | None = None
    """Alpha of the stored pixels, where `upright` is given."""
    tolerance: int = 0
    """Grey levels that the function may differ by."""
    reference: bytes | None = None
    """The file that Pillow reads instead."""


class Writer:
    def __init__(self, out: Path) -> None:
        self.out = out
        self.cases: list[dict] = []

    def add(self, case: Case) -> None:
        if case.upright is None:
            opened = Image.open(io.BytesIO(case.reference or case.data))
            turned = ImageOps.exif_transpose(opened)
            picture = in_srgb(turned)
            alpha = turned.convert("RGBA").getchannel("A") if turned.has_transparency_data else None
        else:
            picture = turned_upright(case.upright, case.orientation)
            alpha = None if case.alpha is None else turned_upright(case.alpha, case.orientation)
        if alpha:
            (self.out / f"{case.name}.alpha").write_bytes(alpha.tobytes())
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
                "alpha": alpha is not None,
                "lossy": case.lossy,
                "tolerance": case.tolerance,
            }
        )


def turned_upright(stored: np.ndarray, orientation: int) -> Image.Image:
    picture = Image.fromarray(stored)
    picture.getexif()[ORIENTATION] = orientation
    return ImageOps.exif_transpose(picture)


def in_srgb(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture.convert("RGB")
    colors = picture.convert({"RGBA": "RGB", "P": "RGB", "LA": "L"}.get(picture.mode, picture.mode))
    return ImageCms.profileToProfile(colors, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")


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
    padding: int = 0,
) -> bytes:
    """An image whose EXIF has so many more bytes than it needs."""
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
            png_chunk(b"eXIf", exif.tobytes()[6:] + b"\0" * padding),
            png_chunk(b"IEND", b""),
        ]
    )


# TIFF variants that Pillow does not write.


def lzw(data: bytes) -> bytes:
    """LZW without a repetition, which any decoder reads: literals of 9 bits, a new table before they are wider."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    bits = np.array([*codes, 257], ">u2").view(np.uint8).reshape(-1, 2)
    return np.packbits(np.unpackbits(bits, axis=1)[:, 7:]).tobytes()


PACKERS = {
    1: bytes,
    5: lzw,
    8: zlib.compress,
    32773: lambda data: b"".join(b"\0" + data[i : i + 1] for i in range(len(data))),
}


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    bits: int = 8,
    tile: int = 0,
    tile_height: int = 0,
    rows: int = 0,
    planar: bool = False,
    orientation: int = 1,
    order: str = "<",
    compression: int = 1,
    predictor: int = 1,
    extra: tuple[int, ...] | None = None,
    reverse: bool = False,
    more: dict[int, tuple[str, list[int]]] | None = None,
) -> bytes:
    """Samples [h, w, c] in strips of `rows` or in tiles; a tile's height is its width if none is given."""
    height, width, count = samples.shape
    kind = np.dtype(order + ("u2" if bits == 16 else "u1"))
    planes = [samples[:, :, i : i + 1] for i in range(count)] if planar else [samples]
    down, across = (tile_height or tile, tile) if tile else (rows or height, width)
    chunks = []
    for plane in planes:
        for y in range(0, height, down):
            for x in range(0, width, across):
                part = plane[y : y + down, x : x + across]
                if tile:
                    part = np.pad(part, ((0, down - part.shape[0]), (0, across - part.shape[1]), (0, 0)), "edge")
                if predictor == 2:
                    part = np.diff(part.astype(np.int64), axis=1, prepend=0) % (1 << bits)
                packed = PACKERS[compression](part.astype(kind).tobytes())
                chunks.append(bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed) if reverse else packed)
    body, offsets = b"", []
    for chunk in chunks:
        offsets.append(8 + len(body))
        body += chunk
    lengths = [len(chunk) for chunk in chunks]
    tags = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits] * count),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        266: ("H", [2 if reverse else 1]),
        274: ("H", [orientation]),
        277: ("H", [count]),
        284: ("H", [2 if planar else 1]),
        317: ("H", [predictor]),
    }
    if extra is not None:
        tags[338] = ("H", list(extra))
    if tile:
        tags |= {322: ("H", [across]), 323: ("H", [down]), 324: ("L", offsets), 325: ("L", lengths)}
    else:
        tags |= {273: ("L", offsets), 278: ("H", [down]), 279: ("L", lengths)}
    tags |= more or {}
    body += b"\0" * (len(body) % 2)
    start = 8 + len(body)
    directory = struct.pack(order + "H", len(tags))
    spill, spill_at = b"", start + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        code, values = tags[tag]
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        directory += struct.pack(order + "HHL", tag, {"B": 1, "H": 3, "L": 4}[code], len(values))
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


def tiffs_of_more_samples(writer: Writer, photo: Image.Image) -> None:
    """Samples that are no colours, alpha of both kinds, predictors, planes and tiles, in every combination."""
    pixels = np.asarray(photo).astype(np.uint16)
    alpha = np.asarray(photo.convert("L").rotate(180)).astype(np.uint16)[:, :, None]
    alpha[::5] = 0
    alpha[::7] = 255
    grey = pixels[:, :, 1:2]
    inks = np.asarray(photo.convert("CMYK")).astype(np.uint16)
    as_rgb = {
        2: pixels.astype(np.uint8),
        1: np.concatenate([grey] * 3, 2).astype(np.uint8),
        5: np.asarray(photo.convert("CMYK").convert("RGB")),
    }
    for photometric, colors in ((2, pixels), (1, grey), (5, inks)):
        for extra in ((), (0,), (1,), (2,), (0, 0), (1, 0), (0, 2)):
            if photometric == 5 and 1 in extra:
                continue
            stored, upright, opaque = colors, as_rgb[photometric], None
            if 1 in extra:
                stored = (colors * alpha + 127) // 255
                divided = np.minimum(stored * 255 // np.maximum(alpha, 1), 255) * (alpha > 0)
                upright = np.broadcast_to(divided, pixels.shape).astype(np.uint8)
            if 1 in extra or 2 in extra:
                opaque = alpha[:, :, 0].astype(np.uint8)
            unused = np.flip(grey, 1)
            stored = np.concatenate([stored, *(alpha if kind else unused for kind in extra)], 2)
            for bits in (8, 16):
                # The low bytes of 16 bits are not looked at.
                samples = stored if bits == 8 else stored * 256 + np.indices(stored.shape).sum(0) % 256
                for number, (compression, layout) in enumerate(
                    (compression, layout)
                    for compression in (1, 5, 8, 32773)
                    for layout in ({"rows": 13}, {"tile": 32}, {"tile": 48, "tile_height": 16, "planar": True})
                ):
                    order = "<>"[number % 2]
                    predictor = 2 if compression in (5, 8) else 1
                    data = tiff(
                        samples,
                        photometric,
                        bits=bits,
                        compression=compression,
                        predictor=predictor,
                        order=order,
                        extra=extra or None,
                        orientation=number % 8 + 1,
                        **layout,
                    )
                    name = f"tiff-more-{photometric}-{''.join(map(str, extra))}-{bits}-{number}"
                    writer.add(Case(name, data, False, number % 8 + 1, upright, opaque))


def tiffs_of_other_kinds(writer: Writer, photo: Image.Image) -> None:
    pixels = np.asarray(photo)
    rgba = photo.convert("RGBA")
    rgba.putalpha(photo.convert("L"))
    for name, picture, options in (
        ("palette", photo.quantize(200), {"compression": "tiff_lzw"}),
        ("palette-alpha", photo.quantize(200).convert("PA"), {}),
        ("ycbcr", photo.convert("YCbCr"), {}),
        ("lab", ImageCms.profileToProfile(photo, *lab_profiles(), outputMode="LAB"), {}),
        ("zstd", photo, {"compression": "zstd"}),
        ("zstd-rgba", rgba, {"compression": "zstd"}),
        ("jpeg", photo, {"compression": "jpeg"}),
        ("jpeg-grey", photo.convert("L"), {"compression": "jpeg"}),
        ("jpeg-cmyk", photo.convert("CMYK"), {"compression": "jpeg"}),
        ("jpeg-ycbcr", photo.convert("YCbCr"), {"compression": "jpeg"}),
        ("fax3", photo.convert("1"), {"compression": "group3"}),
        ("fax4", photo.convert("1"), {"compression": "group4"}),
        ("lzw-predictor", rgba, {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
    ):
        stream = io.BytesIO()
        picture.save(stream, "TIFF", **options)
        # littleCMS interpolates in a grid of its own, ours is the formula.
        tolerance = {"ycbcr": 1, "lab": 4}.get(name, 0)
        writer.add(Case(f"tiff-{name}", stream.getvalue(), tolerance=tolerance))
    # Samples shared by several pixels, with the mean of each block.
    ycbcr = np.asarray(photo.convert("YCbCr")).astype(np.uint16)
    height, width = ycbcr.shape[:2]
    for across, down in ((2, 1), (2, 2), (4, 2), (1, 2)):
        padded = np.pad(ycbcr, ((0, -height % down), (0, -width % across), (0, 0)), "edge")
        blocks = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across, 3).swapaxes(1, 2)
        lumas, means = blocks[..., 0].reshape(*blocks.shape[:2], -1), blocks[..., 1:].mean((2, 3)).astype(np.uint16)
        packed = np.concatenate([lumas, means], 2).reshape(1, 1, -1)
        shared = np.repeat(np.repeat(means, down, 0), across, 1)[:height, :width]
        upright = Image.fromarray(np.dstack([ycbcr[:, :, 0], shared]).astype(np.uint8), "YCbCr").convert("RGB")
        for compression in (1, 5):
            more = {
                256: ("H", [width]),
                257: ("H", [height]),
                258: ("H", [8] * 3),
                277: ("H", [3]),
                278: ("H", [height]),
                530: ("H", [across, down]),
            }
            data = tiff(packed.swapaxes(1, 2), 6, compression=compression, more=more)
            name = f"tiff-ycbcr-{across}x{down}-{compression}"
            writer.add(Case(name, data, upright=np.asarray(upright), tolerance=1))
    few = np.asarray(photo.quantize(13))
    colors = photo.quantize(13).getpalette()
    colors += [0] * (48 - len(colors))
    table = {320: ("H", [colors[i * 3 + c] * 257 for c in range(3) for i in range(16)])}
    for reverse in (False, True):
        nibbles = np.pad(few, ((0, 0), (0, few.shape[1] % 2)))
        packed = (nibbles[:, ::2] << 4 | nibbles[:, 1::2])[:, :, None]
        more = table | {256: ("H", [photo.width]), 258: ("H", [4])}
        data = tiff(packed, 3, reverse=reverse, more=more)
        writer.add(Case(f"tiff-palette-4-{reverse}", data, upright=np.array(colors, np.uint8).reshape(-1, 3)[few]))
        for compression in (1, 5, 8, 32773):
            data = tiff(pixels, 2, reverse=reverse, compression=compression)
            writer.add(Case(f"tiff-reverse-{reverse}-{compression}", data, upright=pixels))


def lab_profiles() -> tuple[ImageCms.core.CmsProfile, ImageCms.core.CmsProfile]:
    return ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")


# Colour profiles.

D50 = (0.9642, 1.0, 0.8249)
# Columns are the colorants, adapted to D50.
P3 = ((0.51512, 0.29198, 0.1571), (0.2412, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407))
ADOBE = ((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322), (0.01947, 0.06087, 0.74457))
PROPHOTO = ((0.79767, 0.13519, 0.03134), (0.28804, 0.71188, 0.00009), (0.0, 0.0, 0.82491))
SRGB = ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.7141))


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def table(values: np.ndarray) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + (values * 65535).round().astype(">u2").tobytes()


def parametric(*values: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(fixed, values))


def profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes], version: int = 2, kind: bytes = b"mntr") -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\x02p\0" + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(*D50),
    } | tags
    index, data = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        index += tag + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(data), b"\0" * 4, version << 24, kind, space, pcs)
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28 + b"".join(map(fixed, D50))
    return header.ljust(128, b"\0") + index + data


def by_matrix(matrix: tuple[tuple[float, ...], ...], curve: bytes, version: int = 2) -> bytes:
    columns = np.array(matrix).T
    tags = {b"rXYZ": xyz(*columns[0]), b"gXYZ": xyz(*columns[1]), b"bXYZ": xyz(*columns[2])}
    return profile(b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve), version)


def linear(values: np.ndarray) -> np.ndarray:
    """sRGB's curve."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray, matrix: tuple[tuple[float, ...], ...]) -> np.ndarray:
    ratio = linear(rgb) @ np.array(matrix).T / np.array(D50)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(np.maximum(ratio, 0)), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def by_table(
    space: bytes,
    inputs: int,
    grid: int,
    to_rgb: Callable[[np.ndarray], np.ndarray],
    matrix: tuple[tuple[float, ...], ...],
    bits: int = 16,
) -> bytes:
    """A profile of one A2B0 table, as presses and scanners have."""
    steps = np.linspace(0, 1, grid)
    nodes = np.stack(np.meshgrid(*[steps] * inputs, indexing="ij"), -1).reshape(-1, inputs)
    colors = lab(to_rgb(nodes), matrix)
    identity = b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    head = b"\0\0\0\0" + bytes([inputs, 3, grid, 0]) + identity
    if bits == 16:
        values = np.clip(colors * (652.8, 256, 256) + (0, 32768, 32768), 0, 65535).round().astype(">u2")
        ramp = struct.pack(">HH", 0, 65535)
        body = b"mft2" + head + struct.pack(">HH", 2, 2) + ramp * inputs + values.tobytes() + ramp * 3
    else:
        values = np.clip(colors * (2.55, 1, 1) + (0, 128, 128), 0, 255).round().astype(np.uint8)
        ramp = bytes(range(256))
        body = b"mft1" + head + ramp * inputs + values.tobytes() + ramp * 3
    return profile(space, b"Lab ", {b"A2B0": body}, kind=b"prtr" if inputs == 4 else b"scnr")


def profiles(writer: Writer, photo: Image.Image) -> None:
    p3 = by_matrix(P3, parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), 4)
    adobe = by_matrix(ADOBE, gamma(2.19921875))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb_profiles = {
        "p3": p3,
        "adobe": adobe,
        "prophoto": by_matrix(PROPHOTO, gamma(1.8)),
        "table-curve": by_matrix(P3, table(linear(np.linspace(0, 1, 1024)))),
        "by-table": by_table(b"RGB ", 3, 17, lambda nodes: nodes, ADOBE),
        "by-table-8": by_table(b"RGB ", 3, 9, lambda nodes: nodes**1.1, P3, 8),
    }
    # Saturated colours and greys beside the photo's own.
    colors = np.asarray(photo).copy()
    steps = np.linspace(0, 255, 32).astype(np.uint8)
    colors[:32, :32] = np.stack(np.meshgrid(steps, steps, [0]), -1)[:, :, 0]
    colors[:32, 32:64] = np.stack(np.meshgrid(steps, [255], steps), -1)[0]
    colors[:32, 64:96] = steps[:, None, None]
    photo = Image.fromarray(colors)
    rgba = photo.convert("RGBA")
    rgba.putalpha(photo.convert("L"))
    for name, icc in rgb_profiles.items():
        for kind, picture, options in (
            ("PNG", photo, {}),
            ("PNG", rgba, {}),
            ("PNG", photo.quantize(200), {}),
            ("JPEG", photo, {"quality": 95}),
            ("WEBP", photo, {"lossless": True}),
            ("TIFF", photo, {}),
        ):
            data = saved(picture, kind, 6, icc_profile=icc, **options)
            # A coarse table of bytes: both programs put it into grids of their own, which differ where the table bends.
            tolerance = 15 if name == "by-table-8" else 2
            writer.add(Case(f"profile-{name}-{kind}-{picture.mode}", data, False, 6, tolerance=tolerance))
    grey = profile(b"GRAY", b"XYZ ", {b"kTRC": gamma(1.8)})
    inks = by_table(b"CMYK", 4, 9, lambda nodes: (1 - nodes[:, :3]) * (1 - nodes[:, 3:]) ** 0.9, SRGB)
    for kind in ("PNG", "JPEG", "TIFF"):
        writer.add(Case(f"profile-grey-{kind}", saved(photo.convert("L"), kind, icc_profile=grey), tolerance=2))
    for kind in ("JPEG", "TIFF"):
        writer.add(Case(f"profile-inks-{kind}", saved(photo.convert("CMYK"), kind, icc_profile=inks), tolerance=3))
    # A long profile comes in parts, here of two segments.
    long = profile(b"RGB ", b"XYZ ", {b"junk": b"\0" * 80000})[:128] + p3[128:] + b"\0" * 80000
    long = struct.pack(">I", len(long)) + long[4:]
    writer.add(Case("profile-in-parts", saved(photo, "JPEG", icc_profile=long), tolerance=2))
    # These change nothing.
    for name, icc in (
        ("srgb", srgb),
        ("srgb-by-table-curve", by_matrix(SRGB, table(linear(np.linspace(0, 1, 1024))))),
        ("srgb-4", by_matrix(SRGB, parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), 4)),
        ("cut", p3[:300]),
        ("noise", bytes(range(256)) * 4),
        ("of-inks", inks),
    ):
        for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
            options = {"lossless": True} if kind == "WEBP" else {}
            plain = saved(photo, kind, **options)
            data = saved(photo, kind, icc_profile=icc, **options)
            writer.add(Case(f"profile-none-{name}-{kind}", data, reference=plain))


# Metadata.


def xmps(writer: Writer, photo: Image.Image) -> None:
    attribute = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
    element = b"<x:xmpmeta><rdf:Description><tiff:Orientation>%d</tiff:Orientation></rdf:Description></x:xmpmeta>"
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    silent = Image.Exif()
    silent[0x010E] = "no orientation"
    for orientation in range(1, 9):
        for name, xmp in (("attribute", attribute % orientation), ("element", element % orientation)):
            for heard, block in (("xmp", b""), ("xmp", silent.tobytes()), ("exif", exif.tobytes())):
                upright = orientation if heard == "xmp" else 3
                suffix = f"{name}-{heard}-{len(block)}-{orientation}"
                with_exif = {"exif": block} if block else {}

                def add(kind: str, data: bytes, suffix: str = suffix, upright: int = upright) -> None:
                    writer.add(Case(f"xmp-{kind}-{suffix}", data, False, upright))

                for packed in (False, True):
                    info = PngImagePlugin.PngInfo()
                    info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=packed)
                    stream = io.BytesIO()
                    photo.save(stream, "PNG", pnginfo=info, **with_exif)
                    add(f"png-{packed}", stream.getvalue())
                for kind, options in (("JPEG", {}), ("WEBP", {"lossless": True})):
                    stream = io.BytesIO()
                    photo.save(stream, kind, xmp=xmp, **options, **with_exif)
                    add(kind, stream.getvalue())
        info = {700: ("B", list(attribute % orientation))}
        data = bytearray(tiff(np.asarray(photo).astype(np.uint16), 2, more=info))
        # Its own orientation's tag becomes another one.
        at = data.rindex(struct.pack("<HHLH", ORIENTATION, 3, 1, 1))
        data[at : at + 2] = struct.pack("<H", 271)
        writer.add(Case(f"xmp-tiff-{orientation}", bytes(data), False, orientation))
        exif[ORIENTATION] = orientation
        block = exif.tobytes()
        exif[ORIENTATION] = 3
        text = f"\nexif\n{len(block):8}\n" + "\n".join(block.hex()[i : i + 72] for i in range(0, len(block.hex()), 72))
        for packed in (False, True):
            info = PngImagePlugin.PngInfo()
            info.add_text("Raw profile type exif", text + "\n", zip=packed)
            stream = io.BytesIO()
            photo.save(stream, "PNG", pnginfo=info)
            writer.add(Case(f"raw-exif-{packed}-{orientation}", stream.getvalue(), False, orientation))


def much_metadata(writer: Writer, photo: Image.Image) -> None:
    """Metadata of several megabytes is passed over."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    block = exif.tobytes() + b"\0" * (3 << 20)
    data = png(np.asarray(photo), 8, 2, orientation=6, extra=png_chunk(b"tEXt", b"a\0" + block), padding=3 << 20)
    writer.add(Case("much-png", data, False, 6))
    packed = b"a\0\0" + zlib.compress(b"\0" * (3 << 20))
    data = png(np.asarray(photo), 8, 2, extra=png_chunk(b"zTXt", packed))
    writer.add(Case("much-png-packed", data, upright=np.asarray(photo)))
    stream = io.BytesIO()
    photo.save(stream, "WEBP", lossless=True, exif=block)
    writer.add(Case("much-webp", stream.getvalue(), False, 6))
    gif = saved(photo.quantize(256), "GIF", interlace=0, transparency=7)
    at = gif.index(b"\x21\xf9")
    blocks = (b"\xff" + b"x" * 255) * 9000 + b"\0"
    much = b"\x21\xff\x0bXMP DataXMP" + blocks + b"\x21\xfe" + blocks
    writer.add(Case("much-gif", gif[:at] + much + gif[at:], reference=gif))
    jpeg = saved(photo, "JPEG")
    segments = (b"\xff\xe1\xff\xff" + b"x" * 65533) * 50
    writer.add(Case("much-jpeg", jpeg[:2] + segments + jpeg[2:], reference=jpeg))


def jpegs_without_end(writer: Writer, photo: Image.Image) -> None:
    """The end marker is missing, or something else stands in its place; every pixel is there."""
    trailer = bytes(range(1, 255)) * 12
    for name, picture, options in (
        ("420", photo, {"subsampling": 2}),
        ("444", photo, {"subsampling": 0}),
        ("restarts", photo, {"restart_marker_blocks": 3}),
        ("grey", photo.convert("L"), {}),
        ("cmyk", photo.convert("CMYK"), {}),
        ("progressive", photo, {"progressive": True}),
        ("progressive-grey", photo.convert("L"), {"progressive": True}),
    ):
        whole = saved(picture, "JPEG", **options)
        assert whole.endswith(b"\xff\xd9")
        writer.add(Case(f"jpeg-no-end-{name}", whole[:-2], reference=whole))
        writer.add(Case(f"jpeg-trailer-{name}", whole[:-2] + trailer, reference=whole))
        writer.add(Case(f"jpeg-end-and-trailer-{name}", whole + trailer, reference=whole))


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
    photo.info.clear()
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
        "png-profile": saved(
            photo, "PNG", compress_level=1, icc_profile=by_table(b"RGB ", 3, 33, lambda nodes: nodes, P3)
        ),
        "jpeg-profile-inks": saved(
            photo.convert("CMYK"),
            "JPEG",
            icc_profile=by_table(b"CMYK", 4, 17, lambda nodes: (1 - nodes[:, :3]) * (1 - nodes[:, 3:]), SRGB),
        ),
        "tiff-tiles-planes": tiff(pixels, 2, tile=256, planar=True, compression=8, predictor=2),
        "tiff-jpeg": saved(photo, "TIFF", compression="jpeg"),
        "tiff-zstd": saved(photo, "TIFF", compression="zstd"),
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
    # The photo has a profile of its own, of sRGB.
    photo.info.clear()
    writer = Writer(out)
    for write in (
        jpegs,
        jpegs_without_end,
        pngs,
        bmps,
        gifs,
        tiffs,
        tiffs_of_more_samples,
        tiffs_of_other_kinds,
        webps,
        profiles,
        xmps,
        much_metadata,
    ):
        write(writer, photo)
    (out / "cases.json").write_text(json.dumps(writer.cases))


if __name__ == "__main__":
    main()
