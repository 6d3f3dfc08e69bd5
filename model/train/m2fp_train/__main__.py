"""Command line: `python -m m2fp_train train|evaluate|export`."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import load_network
from m2fp_train.classes import CLASS_NAMES
from m2fp_train.evaluate import (
    Predictor,
    count_ghosts,
    evaluate,
    evaluate_crowds,
    onnx_predictor,
    torch_predictor,
)
from m2fp_train.export import export
from m2fp_train.geometry import NANO_SIZE
from m2fp_train.manifest import About
from m2fp_train.queries import QueryParser
from m2fp_train.training import Budget, Recipe, Run

ABOUT_NANO = Path(__file__).parents[1] / "about" / "nano.json"


def main() -> None:
    arguments = _arguments().parse_args()
    # Debian's PyTorch starts with a single thread, and then computes 1x1 convolutions ten times
    # slower than with two.
    torch.set_num_threads(os.cpu_count() or 1)
    arguments.run(arguments)


def _train(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(seed=arguments.seed, batch=arguments.batch, crop=arguments.crop)
    run = Run(arguments.out, recipe, arguments.data / "bodypix")
    budget = Budget(steps=arguments.steps, minutes=arguments.minutes)
    run.train(_ccp(arguments), budget, arguments.save_every, arguments.workers)


def _evaluate(arguments: argparse.Namespace) -> None:
    data = _ccp(arguments)
    numbers = data.validation[: arguments.photos]
    rule = replace(NANO_SIZE, min_side=arguments.min_side, max_side=arguments.max_side)
    predict = _predictor(arguments.model)
    scores = evaluate(predict, rule, map(data.load, numbers))
    print(
        f"{len(numbers)} photos, short side {rule.min_side}: "
        f"mIoU {scores.mean_iou:.4f}, person IoU {scores.person_iou:.4f}"
    )
    for name, iou in zip(CLASS_NAMES, scores.iou, strict=True):
        print(f"{name:14} {iou:.3f}")
    people = [data.load(number) for number in data.validation]
    told_apart = evaluate_crowds(predict, NANO_SIZE, people, arguments.scenes)
    ghosts = count_ghosts(predict, NANO_SIZE, people, arguments.scenes)
    print(
        f"{arguments.scenes} composed scenes, {told_apart.people} people: "
        f"AP50 {told_apart.ap50:.3f}, AP {told_apart.ap:.3f}; "
        f"{ghosts} people seen in as many scenes of nobody"
    )


def _export(arguments: argparse.Namespace) -> None:
    about = About.read(arguments.about)
    export(arguments.checkpoint, arguments.out, _ccp(arguments), about)


def _predictor(model: Path) -> Predictor:
    if model.suffix == ".onnx":
        return onnx_predictor(model)
    return torch_predictor(QueryParser(load_network(model), NANO_SIZE.divisor).eval())


def _ccp(arguments: argparse.Namespace) -> ClothingCoParsing:
    return ClothingCoParsing(arguments.data / "ccp")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="m2fp_train", description=__doc__)
    commands = parser.add_subparsers(required=True)

    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder with ccp/ and, for training, bodypix/ (default: %(default)s)",
    )
    with_defaults = {"parents": [data], "formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    train = commands.add_parser("train", help="train, or go on with a run", **with_defaults)
    train.set_defaults(run=_train)
    train.add_argument("--out", type=Path, required=True, help="folder of the run")
    train.add_argument("--steps", type=int, help="end after so many steps")
    train.add_argument("--minutes", type=float, help="end after so many minutes of training")
    train.add_argument("--seed", type=int, default=Recipe.seed, help="seed of every choice")
    train.add_argument("--batch", type=int, default=Recipe.batch, help="crops per step")
    train.add_argument("--crop", type=int, default=Recipe.crop, help="side of a square crop")
    train.add_argument("--save-every", type=int, default=200, help="steps between checkpoints")
    train.add_argument("--workers", type=int, default=1, help="processes that make crops")

    judge = commands.add_parser("evaluate", help="measure on validation photos", **with_defaults)
    judge.set_defaults(run=_evaluate)
    judge.add_argument("--model", type=Path, required=True, help="checkpoint or model.onnx")
    judge.add_argument("--photos", type=int, help="only the first so many")
    judge.add_argument("--scenes", type=int, default=100, help="composed scenes of several people")
    judge.add_argument("--min-side", type=int, default=NANO_SIZE.min_side, help="short side")
    judge.add_argument("--max-side", type=int, default=NANO_SIZE.max_side, help="long side")

    out = commands.add_parser("export", help="make a model folder", **with_defaults)
    out.set_defaults(run=_export)
    out.add_argument("--checkpoint", type=Path, required=True, help="a run's")
    out.add_argument("--out", type=Path, required=True, help="model folder")
    out.add_argument("--about", type=Path, default=ABOUT_NANO, help="name, version, provenance")
    return parser


if __name__ == "__main__":
    main()
