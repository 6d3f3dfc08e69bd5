"""Command line: `python -m m2fp_export {export, quantize, random, verify, wrap}`."""

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from m2fp_export import checkpoint, manifest, quantize_folder, random_checkpoint, wrap
from m2fp_export.architecture import Architecture
from m2fp_export.errors import InputError, UsageError, VerificationError
from m2fp_export.export import export
from m2fp_export.variants import VARIANTS
from m2fp_export.verify import SIZES, TOLERANCE, verify
from m2fp_export.wrap_source import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LARGEST_SIDE,
    Preprocessing,
    Source,
    from_hugging_face,
    from_onnx,
    read_classes,
)

PHOTOS = Path("../shared/data/photos")


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 an input cannot be used or a graph is wrong; one line on stderr says which."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("m2fp_export").setLevel(logging.INFO)
    options = _parser().parse_args(arguments)
    # Debian's PyTorch starts with a single thread, and is then ten times slower than with two.
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        options.run(options)
    except (InputError, UsageError, VerificationError) as error:
        print(f"m2fp_export: {error}", file=sys.stderr)
        return 1
    return 0


def _export(options: argparse.Namespace) -> None:
    start = time.monotonic()
    if (options.quantize is None) != (not options.calibrate):
        raise UsageError("--quantize int8 and --calibrate PHOTOS belong together")
    errors, report = export(
        options.checkpoint,
        options.out,
        variant=options.variant,
        portable=options.portable,
        name=options.name,
        version=options.version,
        licence=options.licence,
        sizes=() if options.no_verify else SIZES,
        tolerance=options.tolerance,
        calibration=options.calibrate,
    )
    for line in quantize_folder.lines(report) if report else ():
        print(line)
    verified = "not verified" if errors is None else f"at most {errors}"
    print(f"{options.out}: {verified}, {time.monotonic() - start:.0f} s")


def _quantize(options: argparse.Namespace) -> None:
    report = quantize_folder.quantize_folder(options.model, options.calibrate, options.out)
    for line in quantize_folder.lines(report):
        print(line)


def _random(options: argparse.Namespace) -> None:
    variant = VARIANTS[options.variant]
    photos = None
    if options.photos.is_dir():
        photos = random_checkpoint.read_photos(options.photos)
    sizes = Architecture(classes=len(variant.classes))
    has_human = variant.person_id is not None
    network = random_checkpoint.random_network(sizes, options.seed, photos, has_human=has_human)
    random_checkpoint.write_folder(network, options.out, variant)
    seen = options.photos if photos else "synthetic photos"
    print(f"{options.out}: random weights of seed {options.seed}, statistics of {seen}")


def _verify(options: argparse.Namespace) -> None:
    graph = manifest.check_files(options.model)
    network, _ = checkpoint.load(options.checkpoint, options.variant)
    errors = verify(network, graph, tolerance=options.tolerance)
    print(f"{options.model}: at most {errors}")


def _wrap(options: argparse.Namespace) -> None:
    name = options.name or options.out.resolve().name
    about = wrap.About(name, options.version, options.licence)
    with TemporaryDirectory() as scratch:
        differ = wrap.wrap(_source(options, Path(scratch)), options.out, about)
    print(f"{options.out}: {differ:.3%} of the labels are not the network's own on test scenes")
    print(f"what it takes is a guess until `m2fp calibrate {options.out}` has measured it")


def _source(options: argparse.Namespace, scratch: Path) -> Source:
    only_onnx = ("classes", "size", "mean", "std", "output", "bgr", "align_corners")
    if options.source.is_dir():
        given = [f"--{name.replace('_', '-')}" for name in only_onnx if getattr(options, name)]
        if given:
            raise UsageError(f"a Hugging Face folder says itself what {', '.join(given)} would")
        return from_hugging_face(options.source, scratch, options.keep_shape)
    if not options.source.is_file():
        raise InputError(options.source, "there is no such file or folder")
    if options.classes is None or options.size is None:
        raise UsageError("an ONNX file needs --classes FILE and --size HxW")
    preprocessing = Preprocessing(
        options.size,
        not options.keep_shape,
        options.mean or IMAGENET_MEAN,
        options.std or IMAGENET_STD,
        options.bgr,
    )
    classes = read_classes(options.classes)
    return from_onnx(options.source, classes, preprocessing, options.output, options.align_corners)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    sides = (int(height), int(width or height))
    if not all(32 <= side <= LARGEST_SIDE for side in sides):
        raise argparse.ArgumentTypeError(f"{text} is not within 32 to {LARGEST_SIDE}")
    return sides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2fp_export", description="Makes model folders out of M2FP checkpoints."
    )
    commands = parser.add_subparsers(required=True)
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="folder with configuration.json and pytorch_model.pt, or a soeaver/M2FP checkpoint",
    )
    source.add_argument("--variant", choices=VARIANTS, help="data set of a soeaver/M2FP checkpoint")
    source.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="relative error against PyTorch in float64 that is always allowed; so is a small "
        "multiple of PyTorch's own in float32 (default: %(default)s)",
    )
    with_defaults = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    out = commands.add_parser("export", help="make a model folder", parents=[source])
    out.set_defaults(run=_export)
    out.add_argument("--out", type=Path, required=True, help="model folder to make or replace")
    out.add_argument("--portable", action="store_true", help="only standard ONNX operators")
    out.add_argument("--name", help="of the model (default: m2fp-r101-cihp and the like)")
    out.add_argument("--version", default="1.0.0", help="of the model (default: %(default)s)")
    out.add_argument(
        "--licence", default=manifest.LICENCE, help="of the weights, SPDX (default: %(default)s)"
    )
    out.add_argument("--no-verify", action="store_true", help="do not compare with PyTorch")

    out.add_argument("--quantize", choices=("int8",), help="compute in 8 bits")
    out.add_argument(
        "--calibrate", type=Path, nargs="+", default=(), metavar="PHOTOS", help="for --quantize"
    )

    small = commands.add_parser("quantize", help="make an 8-bit model folder of a float one")
    small.set_defaults(run=_quantize)
    small.add_argument("--model", type=Path, required=True, help="model folder")
    small.add_argument("--out", type=Path, required=True, help="model folder to make or replace")
    small.add_argument(
        "--calibrate", type=Path, nargs="+", required=True, metavar="PHOTOS", help="their folders"
    )

    made = commands.add_parser("random", help="make a checkpoint at random", **with_defaults)
    made.set_defaults(run=_random)
    made.add_argument("--out", type=Path, required=True, help="folder to make")
    made.add_argument("--seed", type=int, default=0, help="of every choice")
    made.add_argument("--variant", choices=VARIANTS, default="cihp", help="whose classes")
    made.add_argument(
        "--photos", type=Path, default=PHOTOS, help="photos for statistics, if the folder is there"
    )

    proof = commands.add_parser(
        "verify", help="compare a model folder with PyTorch", parents=[source]
    )
    proof.set_defaults(run=_verify)
    proof.add_argument("--model", type=Path, required=True, help="model folder")

    dense = commands.add_parser("wrap", help="make a model folder of a dense human parser")
    dense.set_defaults(run=_wrap)
    dense.add_argument(
        "--source", type=Path, required=True, help="an ONNX file, or a folder of Hugging Face's"
    )
    dense.add_argument("--out", type=Path, required=True, help="model folder to make or replace")
    dense.add_argument(
        "--licence", required=True, help="of the weights, SPDX; whoever uses the model is shown it"
    )
    dense.add_argument("--name", help="of the model (default: the folder's)")
    dense.add_argument("--version", default="1.0.0", help="of the model (default: %(default)s)")
    dense.add_argument(
        "--keep-shape",
        action="store_true",
        help="run photos in their own shape, padded, and not stretched",
    )
    file = dense.add_argument_group("of an ONNX file")
    file.add_argument("--classes", type=Path, metavar="FILE", help="a class a line: Name [#rrggbb]")
    file.add_argument(
        "--size", type=_size, metavar="HxW", help="that the network takes, height first"
    )
    file.add_argument("--output", metavar="NAME", help="which output is the answer")
    numbers = {"type": float, "nargs": 3}
    rgb = ("RED", "GREEN", "BLUE")
    file.add_argument("--mean", **numbers, metavar=rgb, help="of values 0..1 (default: ImageNet's)")
    file.add_argument("--std", **numbers, metavar=rgb, help="of values 0..1 (default: ImageNet's)")
    file.add_argument("--bgr", action="store_true", help="the network takes blue first")
    file.add_argument(
        "--align-corners",
        action="store_true",
        help="its own pipeline enlarges the answer with corners aligned",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
