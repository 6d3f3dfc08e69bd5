"""`python -m tests.memory`: the memory promise under real limits, see docs/memory.md. Run by `make test-memory`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import published
from tests.memory import clients, photos, program, sizes, soak
from tests.memory.photos import ROOT
from tests.memory.program import Program

PARTS = ("sizes", "soak", "clients")
MODELS = ("model/nano", "model/m2fp-r101-int8", "model/m2fp-r101")
# Three minutes on two cores: the sizes at which memory is scarce, and a photo of each kind of decoder.
QUICK_SIZES_MB = (256, 512)
QUICK_PHOTOS = (
    "1080p JPEG",
    "24 MP progressive JPEG",
    "24 MP PNG, 16 bits",
    "24 MP TIFF, JPEG",
    "24 MP AVIF",
    photos.HEIC,
    "100 MP JPEG",
    "20000×200 JPEG",
    "64×64 PNG",
)
QUICK_REQUESTS = 100


def main() -> int:
    options = _options()
    if not program.can_limit():
        print("Skipped: this machine lets us make no memory cgroup (cgroup v1 or v2, as root).")
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    with program.copied(options.m2fp, _models(options), options.mode, options.work) as subjects:
        faults = _run(subjects, options)
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"\n{len(faults)} faults")
    return int(bool(faults))


def _run(subjects: list[Program], options: argparse.Namespace) -> list[str]:
    """Each part: measured, printed, written; what was wrong."""
    folder, packaged = options.work / "photos", subjects[0]
    names = [name for name in (QUICK_PHOTOS if options.quick else photos.PHOTOS) if options.photo in name]
    if photos.HEIC in names and not _reads_heic(packaged, folder):
        print(f"Left out, not read by this build: {photos.HEIC}")
        names.remove(photos.HEIC)
    requests = QUICK_REQUESTS if options.quick else soak.REQUESTS
    blocks: list[tuple[str, Callable[[], tuple[str, list[str]]]]] = []
    if "sizes" in options.part:
        for subject in subjects:
            blocks.append((subject.name, partial(sizes.run, subject, options.sizes, names, folder)))
    if "soak" in options.part:
        blocks.append(("soak", partial(soak.run, packaged, requests)))
    if "clients" in options.part:
        blocks.append(("clients", partial(clients.run, packaged, folder)))
    if options.write is not None:
        published.check_blocks(options.write, [_made_by(name) for name, _ in blocks])
    faults = []
    for name, measured in blocks:
        print(f"\n{name}", file=sys.stderr)
        text, found = measured()
        text = f"{published.machine()}.\n\n{text}"
        print(f"\n{name}: {text}", flush=True)
        faults += [f"{name}: {fault}" for fault in found]
        if options.write is not None:
            published.replace_block(options.write, _made_by(name), text)
    return faults


def _reads_heic(subject: Program, folder: Path) -> bool:
    """Whether the program was built with the feature `heic`."""
    _, answer = program.plan(subject, program.LEAST_MB, photos.photo(photos.HEIC, folder))
    return answer is not None


def _made_by(block: str) -> str:
    return f"make test-memory, {block}"


def _models(options: argparse.Namespace) -> list[Path]:
    """The folders that are there; the first is the packaged model."""
    left_out = [model for model in options.models if not (model / "model.json").exists()]
    for model in left_out:
        print(f"Left out, not there: {model.name}")
    if options.quick:
        print(f"Left out, --quick: all but {options.models[0].name}, {QUICK_SIZES_MB} MB and {', '.join(QUICK_PHOTOS)}")
    models = list(dict.fromkeys(model.resolve() for model in options.models if model not in left_out))
    return models[:1] if options.quick else models


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.memory", description=__doc__)
    parser.add_argument("--m2fp", type=Path, required=True, help="the command line, optimised")
    parser.add_argument(
        "--models",
        type=Path,
        nargs="+",
        default=[ROOT / model for model in MODELS],
        help=f"model folders, the packaged one first (default: of {', '.join(MODELS)} those that are there)",
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="MB", help="function sizes")
    parser.add_argument("--photo", default="", help="only photos whose names hold this")
    parser.add_argument("--mode", default="auto", help="of the sizes: auto or tiled (default: auto)")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="only these")
    parser.add_argument("--quick", action="store_true", help="the packaged model, small sizes, fewer photos")
    parser.add_argument("--work", type=Path, default=ROOT / "dist/memory", help="for the photos, made once")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    options = parser.parse_args()
    options.sizes = tuple(options.sizes or (QUICK_SIZES_MB if options.quick else sizes.SIZES_MB))
    return options


if __name__ == "__main__":
    sys.exit(main())
