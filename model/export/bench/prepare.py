"""What is compared, made once: photo, weights at random, the plain graph and the model folders."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import onnx
import torch
from PIL import Image

import compose_scene
from bench.contender import WORKING_SIZE
from m2fp_export import checkpoint, manifest
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
        compose_scene.PEOPLE = PEOPLE
        with Image.open(ROOT / ".runtime/photos/astronaut.png") as portrait:
            compose_scene.compose(portrait, 7).save(out, quality=90)
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


def plain_folder(plain: Path, like: Path, out: Path, *, mapped: bool) -> Path:
    """The plain graph as a model folder, its facts those of `like`: weights inside or mapped."""
    if not (out / manifest.MANIFEST_NAME).exists():
        out.mkdir(exist_ok=True)
        graph = onnx.load(plain)
        facts = json.loads((like / manifest.MANIFEST_NAME).read_text())
        facts["input"]["name"] = graph.graph.input[0].name
        names = (output.name for output in graph.graph.output)
        facts["outputs"].update(zip(("class_logits", "mask_logits"), names, strict=True))
        files = [out / "model.onnx", *([out / "model.onnx.data"] if mapped else [])]
        onnx.save_model(graph, files[0], save_as_external_data=mapped, location=files[-1].name)
        facts["files"] = [manifest.file_entry(file) for file in files]
        manifest.write(facts, out / manifest.MANIFEST_NAME)
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
