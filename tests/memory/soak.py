"""Hundreds of requests of random sizes and formats in one process: memory stays flat, answers are a fresh process's."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from tests.memory import client, photos, program
from tests.memory.photos import EXIF_ORIENTATION, QUARTER_TURN, Size
from tests.memory.program import Program

SIZE_MB = 512
REQUESTS = 500
# By then every buffer and thread that stays has been made.
WARM_UP = 20
# So often an answer is held against a fresh process's.
SAMPLED = 25
LONGEST_SIDE = 4000
# 20 KiB a request: any buffer of a photo that stayed would exceed it.
MOST_MB_PER_100 = 2.0
SEED = 4

Encoder = Callable[[Path, Size], None]


def _pillow(kind: str, **how: object) -> Encoder:
    return lambda path, size: photos.image(size).save(path, kind, **how)


def _turned(path: Path, size: Size) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = QUARTER_TURN
    photos.image(size).save(path, "JPEG", quality=90, exif=exif)


def _grey(path: Path, size: Size) -> None:
    photos.image(size).convert("L").save(path, "JPEG", quality=90)


FORMATS: dict[str, Encoder] = {
    "JPEG": _pillow("JPEG", quality=90),
    "progressive JPEG": _pillow("JPEG", quality=90, progressive=True),
    "turned JPEG": _turned,
    "grey JPEG": _grey,
    "PNG": photos.write_png,
    "interlaced PNG": photos.write_interlaced_png,
    "PNG of 16 bits": lambda path, size: photos.write_png(path, size, 16),
    "WebP": _pillow("WEBP", quality=80, method=0),
    "GIF": _pillow("GIF"),
    "BMP": _pillow("BMP"),
    "TIFF": _pillow("TIFF"),
    "TIFF of LZW": _pillow("TIFF", compression="tiff_lzw"),
    "TIFF of JPEG": _pillow("TIFF", compression="jpeg"),
}
# Bytes a pixel, at most: requests stay under M2FP_MAX_BODY_BYTES.
MOST_PIXELS = {"BMP": 6_000_000, "TIFF": 6_000_000, "TIFF of LZW": 4_000_000, "PNG of 16 bits": 3_000_000}


def _size(chance: random.Random, kind: str) -> Size:
    """Sides are as likely to be in each octave from 64 pixels on."""
    most = MOST_PIXELS.get(kind, 12_000_000)
    while True:
        width, height = (int(64 * (LONGEST_SIDE / 64) ** chance.random()) for _ in range(2))
        if width * height <= most:
            return width, height


def slope_per_100(values: list[float]) -> tuple[float, float]:
    """Least squares: growth for each 100 requests, and its standard error."""
    x = np.arange(len(values)) / 100
    (slope, _), covariance = np.polyfit(x, values, 1, cov=True)
    return float(slope), float(np.sqrt(covariance[0, 0]))


def run(subject: Program, requests: int) -> tuple[str, list[str]]:
    """The page's text, and what was wrong."""
    chance = random.Random(SEED)
    peaks, rests, faults, compared = [], [], [], 0
    with (
        TemporaryDirectory() as folder,
        program.serve(subject, SIZE_MB, {"MAX_WAIT_MS": "60000"}) as server,
    ):
        for number in range(requests):
            kind = chance.choice(list(FORMATS))
            photo = Path(folder) / "photo"
            FORMATS[kind](photo, size := _size(chance, kind))
            body = photo.read_bytes()
            answer = client.post(server.address, "/parse?output=json", body)
            what = f"request {number}, {kind} of {size[0]}×{size[1]}"
            if answer.status != 200:
                faults.append(f"{what}: {answer.status} {answer.body[:200].decode(errors='replace')}")
                continue
            peaks.append(json.loads(answer.body)["memory"]["peak_rss_mb"])
            rests.append(server.anonymous_mb())
            if number % SAMPLED == 0:
                compared += 1
                mask = client.post(server.address, "/parse?output=mask", body).body
                if mask != _fresh(subject, photo):
                    faults.append(f"{what}: another mask than that of a fresh process")
            if number % 50 == 0:
                print(f"  {what}: peak {peaks[-1]} MB, afterwards {rests[-1]:.1f} MB", file=sys.stderr)
        kills, group_peak = server.group.kills(), server.group.peak_mb()
    if kills:
        faults.append(f"{kills} kills")
    return _text(requests, peaks, rests, compared, group_peak, faults), faults


def _fresh(subject: Program, photo: Path) -> bytes:
    with TemporaryDirectory() as folder:
        ran = program.run(subject, SIZE_MB, ["parse", "--output", "mask", "--out", folder], photo)
        masks = list(Path(folder).glob("*.mask.png"))
        if ran.status != 0 or not masks:
            return f"it ended with {ran.status}: {ran.last_line}".encode()
        return masks[0].read_bytes()


def _text(
    requests: int, peaks: list[float], rests: list[float], compared: int, group_peak: float | None, faults: list[str]
) -> str:
    rows = ["| | first quarter | last quarter | slope, MB for 100 requests |", "|---|---|---|---|"]
    measured = {"peak of a request, resident": peaks, "after a request, anonymous": rests}
    for name, values in measured.items():
        settled = values[WARM_UP:]
        quarter = max(1, len(settled) // 4)
        slope, error = slope_per_100(settled)
        first, last = np.median(settled[:quarter]), np.median(settled[-quarter:])
        rows.append(f"| {name} | {first:.1f} MB | {last:.1f} MB | {slope:+.2f} ± {error:.2f} |")
        if slope - 2 * error > MOST_MB_PER_100:
            faults.append(f"{name}: grows by {slope:.2f} MB for 100 requests, more than {MOST_MB_PER_100}")
    group = "not known" if group_peak is None else f"{group_peak:.0f} MB with cached files"
    told = [
        f"{requests} requests, {len(FORMATS)} formats, sides of 64 to {LONGEST_SIDE} pixels, one process,",
        f"{SIZE_MB} MB: {len(peaks)} answered with 200; greatest peak {max(peaks):.0f} MB, of the cgroup {group};",
        f"{compared} masks held against a fresh process's, byte for byte.",
        f"Medians are of the first and the last quarter after the first {WARM_UP} requests;",
        f"a slope that exceeds {MOST_MB_PER_100} by more than twice its standard error is a fault.",
    ]
    return "\n".join([*told, "", *rows])
