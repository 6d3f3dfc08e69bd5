"""Command line: `python -m m2fp_train teach|train|blend|garments|evaluate|export|scenes`."""

import argparse
import os
import tempfile
from pathlib import Path

import torch

from m2fp_train import manifest
from m2fp_train.as_cihp import write_as_cihp
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import Checkpoint, load_network
from m2fp_train.crowd import crowd_scenes
from m2fp_train.evaluate import CROWD_SEED, GROUPS, Evaluation, evaluate
from m2fp_train.export import export
from m2fp_train.garment_training import train_garments
from m2fp_train.multipose import multipose_graph
from m2fp_train.multipose_training import MultiposeRecipe, MultiposeRun, Published
from m2fp_train.ordinary import read_ordinary
from m2fp_train.program import Program
from m2fp_train.sources import AllScenes, read_sources, unlabelled_photos
from m2fp_train.taught import Taught, teach
from m2fp_train.teachers import Teachers
from m2fp_train.training import Budget, Recipe, Run

ABOUT = Path(__file__).parents[1] / "about" / "multipose.json"


def main() -> None:
    arguments = _arguments().parse_args()
    # Debian's PyTorch starts with a single thread, and then computes 1x1 convolutions ten times
    # slower than with two.
    torch.set_num_threads(os.cpu_count() or 1)
    arguments.run(arguments)


def _train(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {"seed": arguments.seed, "batch": arguments.batch, "crop": arguments.crop}
    device = torch.device(arguments.device)
    budget = Budget(steps=arguments.steps, minutes=arguments.minutes)
    if arguments.network == "nano":
        run = Run(arguments.out, Recipe(**settings), arguments.data / "bodypix", device)
        run.train(_ccp(arguments), budget, arguments.save_every, arguments.workers)
        return
    going_on = arguments.learned is not None
    recipe = MultiposeRecipe.going_on(**settings) if going_on else MultiposeRecipe(**settings)
    published = Published(
        multipose_graph(arguments.data),
        arguments.nano,
        arguments.data / "bodypix",
        arguments.learned,
    )
    run = MultiposeRun(arguments.out, recipe, published, device)
    sources = read_sources(arguments.data, Taught(arguments.taught))
    run.train_on(AllScenes(sources, recipe), budget, arguments.save_every, arguments.workers)


def _garments(arguments: argparse.Namespace) -> None:
    network = load_network(arguments.checkpoint)
    train_garments(network, arguments.data, arguments.seed)
    checkpoint = Checkpoint.load(arguments.checkpoint)
    classifier = {
        f"garment_classifier.{name}": value
        for name, value in network.garment_classifier.state_dict().items()
    }
    checkpoint.network.update(classifier)
    checkpoint.average.update(classifier)
    checkpoint.save(arguments.checkpoint)


def _blend(arguments: argparse.Namespace) -> None:
    checkpoint, start = (Checkpoint.load(path) for path in (arguments.checkpoint, arguments.start))
    checkpoint.blended(start, arguments.share).save(arguments.out)


def _teach(arguments: argparse.Namespace) -> None:
    # One thread and no more: it may run beside other work for hours.
    torch.set_num_threads(arguments.threads)
    photos = unlabelled_photos(arguments.data)
    teach(photos, Taught(arguments.taught), lambda: Teachers(arguments.data), arguments.photos)


def _evaluate(arguments: argparse.Namespace) -> None:
    if arguments.model.is_dir():
        evaluation = _measured(arguments, arguments.model)
        print(evaluation.tables())
        if arguments.write:
            manifest.write_accuracy(evaluation.accuracy(), arguments.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        export(arguments.model, Path(folder), _ccp(arguments), manifest.About.read(ABOUT))
        print(_measured(arguments, Path(folder)).tables())


def _scenes(arguments: argparse.Namespace) -> None:
    data = _ccp(arguments)
    people = [data.load(number) for number in data.validation]
    scenes = crowd_scenes(people, GROUPS[0], arguments.scenes, CROWD_SEED)
    print(f"{write_as_cihp(scenes, arguments.out)} scenes in {arguments.out}")


def _export(arguments: argparse.Namespace) -> None:
    about = manifest.About.read(arguments.about)
    export(arguments.checkpoint, arguments.out, _ccp(arguments), about)
    accuracy = _measured(arguments, arguments.out)
    manifest.write_accuracy(accuracy.accuracy(), arguments.out)
    print(accuracy.tables())


def _measured(arguments: argparse.Namespace, model: Path) -> Evaluation:
    ordinary = read_ordinary(arguments.data / "persons" / "coco-dev")
    return evaluate(Program(arguments.m2fp, model), _ccp(arguments), arguments.scenes, ordinary)


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
        help="folder with ccp/, persons/ and, for training, bodypix/ (default: %(default)s)",
    )
    with_defaults = {"parents": [data], "formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    lessons = argparse.ArgumentParser(add_help=False)
    lessons.add_argument(
        "--taught", type=Path, default=Path("runs/taught"), help="what teachers said of photos"
    )
    teacher = commands.add_parser(
        "teach",
        help="ask the teachers about photos without labels, or go on with it",
        parents=[data, lessons],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    teacher.set_defaults(run=_teach)
    teacher.add_argument("--photos", type=int, help="end after so many more photos")
    teacher.add_argument("--threads", type=int, default=1, help="threads of PyTorch")

    with_defaults["parents"] = [data, lessons]
    train = commands.add_parser("train", help="train, or go on with a run", **with_defaults)
    train.set_defaults(run=_train)
    train.add_argument("--out", type=Path, required=True, help="folder of the run")
    train.add_argument(
        "--network", choices=("multipose", "nano"), default="multipose", help="which to train"
    )
    train.add_argument(
        "--nano",
        type=Path,
        default=Path("model/pico/model.onnx"),
        help="graph of the nano that multipose is joined with",
    )
    train.add_argument(
        "--learned", type=Path, help="graph of an earlier run, to go on from what it learned"
    )
    train.add_argument("--steps", type=int, help="end after so many steps")
    train.add_argument("--minutes", type=float, help="end after so many minutes of training")
    train.add_argument("--seed", type=int, default=Recipe.seed, help="seed of every choice")
    train.add_argument("--batch", type=int, default=Recipe.batch, help="crops per step")
    train.add_argument("--crop", type=int, default=Recipe.crop, help="side of a square crop")
    train.add_argument("--save-every", type=int, default=200, help="steps between checkpoints")
    train.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="where the network is",
    )
    train.add_argument("--workers", type=int, default=1, help="processes that make crops")

    blend = commands.add_parser(
        "blend", help="average the weights of a run with those that it went on from"
    )
    blend.set_defaults(run=_blend)
    blend.add_argument("--checkpoint", type=Path, required=True, help="the run's")
    blend.add_argument(
        "--start", type=Path, required=True, help="that of a run of no minutes from the same graph"
    )
    blend.add_argument("--share", type=float, required=True, help="of the run's own weights, 0..1")
    blend.add_argument("--out", type=Path, required=True, help="checkpoint to write")

    garments = commands.add_parser(
        "garments",
        help="train what a checkpoint's network says of a person's garments, after its masks",
        parents=[data],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    garments.set_defaults(run=_garments)
    garments.add_argument("--checkpoint", type=Path, required=True, help="a run's")
    garments.add_argument("--seed", type=int, default=Recipe.seed, help="seed of every choice")

    program = argparse.ArgumentParser(add_help=False, parents=[data])
    program.add_argument(
        "--m2fp", type=Path, default=Path("target/release/m2fp"), help="the command line"
    )
    program.add_argument("--scenes", type=int, default=100, help="composed scenes of each kind")
    with_defaults["parents"] = [program]

    judge = commands.add_parser("evaluate", help="measure what m2fp parse writes", **with_defaults)
    judge.set_defaults(run=_evaluate)
    judge.add_argument("--model", type=Path, required=True, help="model folder or checkpoint")
    judge.add_argument("--write", action="store_true", help="into the folder's manifest, too")

    out = commands.add_parser("export", help="make and measure a model folder", **with_defaults)
    out.set_defaults(run=_export)
    out.add_argument("--checkpoint", type=Path, required=True, help="a run's")
    out.add_argument("--out", type=Path, required=True, help="model folder")
    out.add_argument("--about", type=Path, default=ABOUT, help="name, version, provenance")
    scenes = commands.add_parser(
        "scenes",
        help="write the composed scenes that people are told apart in, in the form of CIHP",
        parents=[data],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    scenes.set_defaults(run=_scenes)
    scenes.add_argument("--out", type=Path, required=True, help="folder of the data set")
    scenes.add_argument("--scenes", type=int, default=100, help="how many")
    return parser


if __name__ == "__main__":
    main()
