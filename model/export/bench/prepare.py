"""What is compared, made once: photo, weights at random, the plain graph and the model folders."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from PIL import Image

from bench.contender import WORKING_SIZE
from m2fp_export import checkpoint
from m2fp_export.architecture import Architecture
from m2fp_export.random_checkpoint import random_network, read_photos, write_folder

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT / "../shared/data/photos"
PEOPLE = ((420, 860, True), (1480, 900, False), (960, 760, False))
"""(centre x, side of the square portrait, mirrored), as `scripts/compose_scene.py` has them."""
OPSET = 17


def photo(out: Path) -> Path:
    """Three people, 1920×1080."""
    if not out.exists():
        place = ROOT / "scripts/compose_scene.py"
        spec = importlib.util.spec_from_file_location("compose_scene", place)
        scenes = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(scenes)
        scenes.PEOPLE = PEOPLE
        with Image.open(ROOT / ".runtime/photos/astronaut.png") as portrait:
            scenes.compose(portrait, 7).save(out, quality=90)
    return out


def weights(out: Path) -> Path:
    """ResNet-101 of seed 0, as ModelScope has its folders."""
    if not (out / checkpoint.WEIGHTS_NAME).exists():
        seen = read_photos(PHOTOS) if PHOTOS.is_dir() else None
        write_folder(random_network(Architecture(), 0, seen), out)
    return out


def plain_graph(folder: Path, out: Path) -> Path:
    """`torch.onnx` as everybody calls it: our network in PyTorch, a fixed size, no rewrites."""
    if not out.exists():
        network, _ = checkpoint.load(folder)
        example = torch.zeros(1, 3, *WORKING_SIZE[::-1], dtype=torch.uint8)
        partial = out.with_suffix(".part")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (example,), str(partial), opset_version=OPSET, dynamo=False)
        partial.replace(out)
    return out


def model(folder: Path, out: Path, arguments: list[str]) -> Path:
    """A model folder of ours."""
    if not (out / "model.json").exists():
        command = [sys.executable, "-m", "m2fp_export", "export", "--no-verify"]
        given = ["--checkpoint", str(folder), "--out", str(out), *arguments]
        subprocess.run([*command, *given], check=True, stdout=sys.stderr)
    return out


def int8(folder: Path, out: Path, m2fp: Path) -> Path:
    """The same in 8 bits, as `make export` leaves it."""
    if not (out / "model.json").exists():
        made = model(folder, out.with_name("int8.made"), ["--quantize", "int8", *_calibration()])
        subprocess.run([m2fp, "optimize", made], check=True, stdout=sys.stderr)
        made.rename(out)
    return out


def _calibration() -> list[str]:
    """Photographs where there are some, else the astronaut."""
    return ["--calibrate", str(PHOTOS if PHOTOS.is_dir() else ROOT / ".runtime/photos")]
