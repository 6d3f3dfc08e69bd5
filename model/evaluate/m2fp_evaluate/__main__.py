"""Command line: `python -m m2fp_evaluate --data cihp:DIR --model DIR`."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from m2fp_evaluate import class_map
from m2fp_evaluate.data_sets import READERS, open_data_set
from m2fp_evaluate.errors import InputError, UsageError
from m2fp_evaluate.evaluate import evaluate
from m2fp_evaluate.program import Options, Program

FIGURES_NAME = "figures.json"
LEAST_SCORE = 0.01
"""Average precision needs the tail of unsure answers; M2FP's own code leaves out those below."""


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 an input cannot be used, 2 wrong usage; one line on stderr says which."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except UsageError as error:
        print(f"m2fp_evaluate: {error}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"m2fp_evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    data = open_data_set(options.data)
    if options.limit is not None:
        data = replace(data, samples=data.samples[: options.limit])
    mode = options.mode
    run = f"{data.name}-{options.model.resolve().name}-{mode}{'-flip' if options.flip else ''}"
    out = options.out or Path("runs/evaluate") / run
    settings = Options(mode, options.flip, options.max_side, options.score)
    program = Program(options.m2fp, options.model, settings, out)
    names, person_id = program.classes()
    table = np.zeros(len(names), np.uint8)
    if data.classes:
        renamed = class_map.read_map(options.map)
        table = class_map.class_map(names, person_id, data.classes, renamed)
        lacking = class_map.missing(table, person_id, data.classes)
        if lacking:
            said = f"the model has no {', '.join(lacking)}: counted as never found"
            print(f"m2fp_evaluate: {said}", file=sys.stderr)
    program.prepare(options.data)
    evaluation = evaluate(program, data, table)
    written = json.dumps(evaluation.json(), indent=2, ensure_ascii=False)
    (out / FIGURES_NAME).write_text(written + "\n", encoding="utf-8")
    print(evaluation.tables())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2fp_evaluate",
        description="Measures a model folder on a published data set. Stopped, it goes on.",
    )
    parser.add_argument(
        "--data", required=True, metavar="NAME:DIR", help=f"NAME is one of {', '.join(READERS)}"
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument(
        "--m2fp",
        type=Path,
        default=Path("target/release/m2fp"),
        help="the command line (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of answers (default: runs/evaluate/DATA-MODEL-MODE[-flip])"
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N photos")
    parser.add_argument("--mode", choices=("auto", "tiled"), default="auto", help="of m2fp parse")
    parser.add_argument(
        "--flip", action="store_true", help="of m2fp parse; M2FP's published figures have it"
    )
    parser.add_argument("--max-side", type=_positive, metavar="PX", help="of m2fp parse")
    parser.add_argument(
        "--score",
        type=float,
        default=LEAST_SCORE,
        help="least score of a person or part that counts (default: %(default)s)",
    )
    parser.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help='JSON, {"class of the model": "class of the data set"}, where names differ',
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
