"""Writes a HEIF grid (ISO/IEC 23008-12, 6.6.2.3) out of copies of one coded picture, as phones write their photos."""

import struct
from collections.abc import Iterator

Size = tuple[int, int]
FULL = struct.pack(">I", 0)


def boxes(data: bytes, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Type and contents of each box."""
    while first + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, first)
        yield kind, data[first + 8 : first + length]
        first += length


def _find(data: bytes, *path: tuple[bytes, int]) -> bytes:
    """What is in the first box of each type, within the one before; its own fields are left out."""
    for kind, fields in path:
        data = next(body for found, body in boxes(data) if found == kind)[fields:]
    return data


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def grid(tile: bytes, size: Size) -> bytes:
    """A photo of `size` whose tiles are all the first picture of the file `tile`, which is not cropped."""
    properties = _find(tile, (b"meta", 4), (b"iprp", 0), (b"ipco", 0))
    wanted = (b"hvcC", b"av1C", b"ispe", b"colr")
    kept = {kind: body for kind, body in reversed(list(boxes(properties))) if kind in wanted}
    width, height = struct.unpack(">II", kept[b"ispe"][4:])
    across, down = -(-size[0] // width), -(-size[1] // height)
    tiles = range(1, across * down + 1)
    data = _picture(tile)
    layout = struct.pack(">BBBBHH", 0, 0, down - 1, across - 1, *size)
    brand, kind = (b"avif", b"av01") if b"av1C" in kept else (b"heic", b"hvc1")
    kept_boxes = [_box(kind, body) for kind, body in kept.items()]
    own_size = _box(b"ispe", FULL, struct.pack(">II", *size))
    of_tile = bytes([len(kept_boxes), *range(1, len(kept_boxes) + 1)])
    of_grid = bytes([1, len(kept_boxes) + 1])
    primary = len(tiles) + 1
    start = _box(b"ftyp", brand, FULL, b"mif1", brand)
    begins = len(start) + 8
    places = [(item, begins + (item - 1) * len(data), len(data)) for item in tiles]
    places.append((primary, begins + len(tiles) * len(data), len(layout)))
    entries = [_entry(item, kind) for item in tiles] + [_entry(primary, b"grid")]
    references = struct.pack(f">HH{len(tiles)}H", primary, len(tiles), *tiles)
    associations = [struct.pack(">H", item) + of_tile for item in tiles] + [struct.pack(">H", primary) + of_grid]
    meta = _box(
        b"meta",
        FULL,
        _box(b"hdlr", FULL, FULL, b"pict", bytes(13)),
        _box(b"pitm", FULL, struct.pack(">H", primary)),
        _box(
            b"iloc",
            FULL,
            struct.pack(">HH", 0x4400, len(places)),
            *(struct.pack(">HHHII", item, 0, 1, first, length) for item, first, length in places),
        ),
        _box(b"iinf", FULL, struct.pack(">H", len(entries)), *entries),
        _box(b"iref", FULL, _box(b"dimg", references)),
        _box(
            b"iprp",
            _box(b"ipco", *kept_boxes, own_size),
            _box(b"ipma", FULL, struct.pack(">I", primary), *associations),
        ),
    )
    return start + _box(b"mdat", data * len(tiles), layout) + meta


def _entry(item: int, kind: bytes) -> bytes:
    return _box(b"infe", struct.pack(">IHH", 2 << 24, item, 0), kind, b"\0")


def _picture(file: bytes) -> bytes:
    """The bytes of the first item, as libheif and libavif say where they are (`iloc` of version 0)."""
    places = _find(file, (b"meta", 4), (b"iloc", 0))
    base_bytes = places[5] >> 4
    base = int.from_bytes(places[12 : 12 + base_bytes], "big")
    first, length = struct.unpack_from(">II", places, 14 + base_bytes)
    return file[base + first : base + first + length]
