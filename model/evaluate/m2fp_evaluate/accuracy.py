"""What each way to run a model costs in accuracy, and what it takes: one table, made by a command.

`python -m m2fp_evaluate.accuracy --model DIR --data NAME:DIR --write FILE`. Every row is a run of
`m2fp parse` on the same photos. The figures are those of `m2fp_evaluate`. Memory and time are those
of a few of the first data set's photos, in processes of their own, the ways to run taking turns.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from m2fp_evaluate import class_map
from m2fp_evaluate.__main__ import LEAST_SCORE
from m2fp_evaluate.data_sets import READERS, open_data_set
from m2fp_evaluate.errors import InputError, UsageError
from m2fp_evaluate.evaluate import evaluate
from m2fp_evaluate.program import MANIFEST_NAME, Options, Program, read_json
from m2fp_evaluate.truth import DataSet

JPEG_QUALITY = 50
FIGURES = {"mIoU": "mIoU", "APp_50": "AP^p, 50", "person_AP50": "persons' AP, 50"}
"""Of `Evaluation.figures`, and their heads in the table."""
TIMED_PHOTOS, TURNS = 6, 3


@dataclass(frozen=True)
class Way:
    """A way to run a model. quality: photos are encoded anew as JPEG of this quality before."""

    name: str
    model: Path
    options: Options
    quality: int | None = None


@dataclass(frozen=True)
class Taken:
    """predicted_mb, peak_mb: greatest of all photos. seconds: of all photos, each its fastest."""

    predicted_mb: int
    peak_mb: int
    seconds: float


def ways(model: Path, beside: Path | None, folder: Path) -> list[Way]:
    """Every way that the model can be run in, the plain one first.

    beside: the same model in another precision.
    """
    plain = Way(
        "native size", model, Options(mode="auto", flip=False, max_side=None, score=LEAST_SCORE)
    )
    found = [plain]
    manifest = read_json(model / MANIFEST_NAME)
    if "letterbox" not in manifest["input"]["size"]:
        found.append(replace(plain, name="half the size", model=half_size(model, folder / "half")))
        found.append(replace(plain, name="tiles", options=replace(plain.options, mode="tiled")))
    if manifest.get("flip_pairs") is not None:
        found.append(replace(plain, name="flip", options=replace(plain.options, flip=True)))
    if beside is not None:
        in_bytes = "quantization" in read_json(beside / MANIFEST_NAME)
        found.append(replace(plain, name="8 bits" if in_bytes else "float32", model=beside))
    found.append(replace(plain, name=f"JPEG of quality {JPEG_QUALITY}", quality=JPEG_QUALITY))
    return found


def half_size(model: Path, folder: Path) -> Path:
    """A copy of a model folder that sees photos at half their native size, as it does anyhow where
    memory is short."""
    manifest = read_json(model / MANIFEST_NAME)
    size = manifest["input"]["size"]
    for side in ("min_side", "max_side"):
        size[side] //= 2
    size["smallest_side"] = min(size["smallest_side"], size["min_side"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    for file in manifest["files"]:
        (folder / file["path"]).symlink_to((model / file["path"]).resolve())
    return folder


def encoded_anew(data: DataSet, quality: int, folder: Path) -> DataSet:
    """The same data set with its photos as JPEG of that quality, upright."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for sample in data.samples:
        path = folder / f"{sample.photo.stem}.jpg"
        if not path.is_file():
            with Image.open(sample.photo) as photo:
                upright = ImageOps.exif_transpose(photo).convert("RGB")
                upright.save(path.with_suffix(".part"), "JPEG", quality=quality)
            path.with_suffix(".part").rename(path)
        samples.append(replace(sample, photo=path))
    return replace(data, samples=samples)


def figures(way: Way, data: DataSet, given: str, m2fp: Path, out: Path) -> dict[str, float]:
    """Those of `FIGURES` that the data set's labels allow."""
    name = way.name.replace(" ", "-")
    if way.quality is not None:
        data = encoded_anew(data, way.quality, out / "photos" / f"{data.name}-{way.quality}")
    program = Program(m2fp, way.model, way.options, out / f"{data.name}-{name}")
    names, person_id = program.classes()
    table = class_map.class_map(names, person_id, data.classes, {})
    program.prepare(given)
    found = evaluate(program, data, table).figures
    return {key: found[key] for key in FIGURES if key in found}


def measure(all_ways: Sequence[Way], data: DataSet, m2fp: Path, out: Path) -> list[Taken]:
    """What each way takes for some of the photos. The ways take turns, so that what else the
    machine does meanwhile is no single one's burden, and a photo's fastest turn counts."""
    step = max(1, len(data.samples) // TIMED_PHOTOS)
    chosen = replace(data, samples=data.samples[::step][:TIMED_PHOTOS])
    reports: list[list[list[dict[str, Any]]]] = [[] for _ in all_ways]
    for _ in range(TURNS):
        for way, own in zip(all_ways, reports, strict=True):
            some = chosen
            if way.quality is not None:
                folder = out / "photos" / f"{data.name}-{way.quality}"
                some = encoded_anew(chosen, way.quality, folder)
            own.append(_reports(way, [sample.photo for sample in some.samples], m2fp))
    return [_taken(own) for own in reports]


def _taken(turns: list[list[dict[str, Any]]]) -> Taken:
    def greatest(value: Callable[[dict[str, Any]], int]) -> int:
        return max(value(report) for turn in turns for report in turn)

    times = np.array([[report["timings_ms"]["total"] for report in turn] for turn in turns])
    return Taken(
        greatest(lambda report: report["plan"]["predicted_peak_mb"]),
        greatest(lambda report: report["memory"]["peak_rss_mb"]),
        float(times.min(0).sum() / 1e3),
    )


def _reports(way: Way, photos: Sequence[Path], m2fp: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [m2fp, "parse", *photos, "--model", way.model, "-o", folder, "--json"]
        # One at a time, or a photo's time and memory would be its neighbour's, too.
        command += ["--output", "mask", "--jobs", "1", *way.options.flags()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(way.model, f"m2fp parse failed: {done.stderr.strip().splitlines()[-1:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def document(
    manifest: dict[str, Any],
    sets: Sequence[DataSet],
    all_ways: Sequence[Way],
    found: Sequence[Sequence[dict[str, float]]],
    taken: Sequence[Taken],
) -> str:
    """Markdown. found: figures by way, then by data set."""
    heads = [
        f"{data.name}: {FIGURES[key]}"
        for data, first in zip(sets, found[0], strict=True)
        for key in first
    ]
    rows = [
        "| run | " + " | ".join(heads) + " | peak memory (predicted), MB | time |",
        "|---|" + "---:|" * (len(heads) + 2),
    ]
    for way, own, cost in zip(all_ways, found, taken, strict=True):
        pairs = zip(own, found[0], strict=True)
        cells = [
            _cell(values[key], None if way is all_ways[0] else plain[key])
            for values, plain in pairs
            for key in plain
        ]
        memory = f"{cost.peak_mb} ({cost.predicted_mb})"
        time = f"{cost.seconds / taken[0].seconds:.2f}"
        rows.append(f"| {way.name} | " + " | ".join([*cells, memory, time]) + " |")
    photos = ", ".join(f"`{data.name}` {len(data.samples)}" for data in sets)
    timed = min(TIMED_PHOTOS, len(sets[0].samples))
    digest = manifest["files"][0]["sha256"][:12]
    text = [
        "# Measured: accuracy against memory and time",
        "",
        f"Model: `{manifest['name']}` {manifest['version']} (sha256 {digest}…). Photos: {photos}.",
        "Figures are in per cent; in brackets is the difference from the first row. Memory is the",
        "process's, with the model in it, of the hungriest photo. Time is that of the same photos,",
        f"as a multiple of the first row's. Both are of {timed} photos of `{sets[0].name}`, on",
        f"{os.cpu_count()} cores of {_processor()}. What the rows are, and what follows:",
        "[accuracy.md](../accuracy.md).",
        "",
        *rows,
    ]
    return "\n".join(text) + "\n"


def _cell(value: float, plain: float | None) -> str:
    """In per cent; beside it what it differs by from the plain run's, where that is another."""
    if np.isnan(value):
        return "–"
    if plain is None:
        return f"{100 * value:.2f}"
    return f"{100 * value:.2f} ({100 * (value - plain):+.2f})".replace("-", "−")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 an input cannot be used, 2 wrong usage; one line on stderr says which."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (UsageError, InputError) as error:
        print(f"m2fp_evaluate.accuracy: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _run(options: argparse.Namespace) -> None:
    sets = [open_data_set(given) for given in options.data]
    if options.limit is not None:
        sets = [replace(data, samples=data.samples[: options.limit]) for data in sets]
    for data in sets:
        if not data.classes:
            raise UsageError(f"--data: {data.name} has no classes; {', '.join(READERS)} but coco")
    all_ways = ways(options.model, options.beside, options.out)
    taken = measure(all_ways, sets[0], options.m2fp, options.out)
    found = [
        [
            figures(way, data, given, options.m2fp, options.out)
            for data, given in zip(sets, options.data, strict=True)
        ]
        for way in all_ways
    ]
    text = document(read_json(options.model / MANIFEST_NAME), sets, all_ways, found, taken)
    if options.write is not None:
        options.write.write_text(text, encoding="utf-8")
    print(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="m2fp_evaluate.accuracy", description=__doc__)
    parser.add_argument(
        "--data",
        required=True,
        action="append",
        metavar="NAME:DIR",
        help="as of m2fp_evaluate; several may be given",
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--beside", type=Path, help="the same model in 8 bits, or in float32")
    parser.add_argument("--m2fp", type=Path, default=Path("target/release/m2fp"))
    parser.add_argument(
        "--out", type=Path, default=Path("runs/accuracy"), help="folder of answers (%(default)s)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N photos of each")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown, what is printed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
