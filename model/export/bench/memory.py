"""`python -m bench.memory`: from the plain export to the function, one step after the other.

Each step is a process of its own: its greatest resident set, and the time of one photo.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import published
from bench import measure, prepare, steps_plot
from bench.contender import THREADS, WORKING_SIZE
from bench.measure import Result
from bench.prepare import ROOT


@dataclass(frozen=True)
class Step:
    """Where a fault is, there are no figures."""

    name: str
    peak_mb: float
    seconds: float
    fault: str = ""


ARTICLE = (
    Step("original", 3850, 12.4),
    Step("+ no_grad, detach", 3100, 11.8),
    Step("+ chunks of 512", 2200, 18.6),
    Step("+ streamed colouring", 1950, 17.3),
    Step("+ features released", 1600, 16.9),
    Step("all", 1420, 15.7),
)
"""As published, of the same photo size; its machine and its weights are not ours."""
MADE_BY = "make bench-memory"


def main() -> int:
    options = _options()
    if options.write is not None:
        published.check_blocks(options.write, [MADE_BY])
    options.work.mkdir(parents=True, exist_ok=True)
    photo = prepare.photo(options.work / "three-people.jpg")
    steps = _steps(photo, options)
    text = "\n\n".join([_machine(options.runs), _table(steps)])
    print(f"\n{text}")
    if options.plot is not None:
        measured = [step for step in steps if not step.fault]
        steps_plot.draw(options.plot, ARTICLE, measured)
    if options.write is not None:
        published.replace_block(options.write, MADE_BY, text)
    return int(any(step.fault for step in steps))


def _steps(photo: Path, options: argparse.Namespace) -> list[Step]:
    work, m2fp, runs = options.work, options.m2fp, options.runs
    weights = prepare.weights(work / "weights")
    plain = prepare.plain_graph(weights, work / "plain.onnx")
    portable = options.portable or prepare.model(weights, work / "portable", ["--portable"])
    inside = prepare.plain_folder(plain, portable, work / "plain-inside", mapped=False)
    mapped = prepare.plain_folder(plain, portable, work / "plain-mapped", mapped=True)
    fused = options.fp32 or prepare.model(weights, work / "fp32", [])
    int8 = options.int8 or prepare.int8(weights, work / "int8", m2fp)

    def contender(name: str, kind: str, model: Path, times: int) -> Step:
        measure.say(name)
        done = [measure.contender(sys.executable, kind, model, photo, 1)[0] for _ in range(times)]
        return _summary(name, done)

    def parse(name: str, model: Path) -> Step:
        measure.say(name)
        return _summary(name, [measure.parse(m2fp, model, photo, 1) for _ in range(runs)])

    return [
        contender("ModelScope's pipeline, PyTorch", "modelscope", weights, 1),
        contender("plain ONNX export, ONNX Runtime", "onnxruntime_to_masks", plain, runs),
        parse("+ streamed post-processing, in Rust", inside),
        parse("+ mapped weights", mapped),
        parse("+ exact rewrites", portable),
        parse("+ fused operators", fused),
        parse("+ int8", int8),
    ]


def _summary(name: str, runs: list[Result]) -> Step:
    fault = next((run.fault for run in runs if run.fault), "")
    if fault:
        return Step(name, 0, 0, fault)
    return Step(name, max(run.peak_mb for run in runs), median(run.work_seconds for run in runs))


def _table(steps: list[Step]) -> str:
    lines = [
        "| | peak, MB | seconds | memory, of the first | time, of the first |",
        "|---|---|---|---|---|",
    ]
    for place, group in (("ours", steps), ("the article's, as published", ARTICLE)):
        first = group[0]
        lines.append(f"| **{place}** | | | | |")
        for step in group:
            if step.fault or first.fault:
                lines.append(f"| {step.name} | – | – | – | {step.fault or 'first step failed'} |")
                continue
            memory, time = step.peak_mb / first.peak_mb, step.seconds / first.seconds
            lines.append(
                f"| {step.name} | {step.peak_mb:.0f} | {step.seconds:.1f} "
                f"| {memory:.2f} × | {time:.2f} × |"
            )
    return "\n".join(lines)


def _machine(runs: int) -> str:
    width, height = WORKING_SIZE
    return (
        f"{published.machine()}, {THREADS} threads; a photo of 1920×1080, {width}×{height} for the "
        "network; random weights, ResNet-101. Each run is a process of its own. Greatest peak and "
        f"median time of runs: {runs}, ModelScope's 1."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.memory", description=__doc__)
    parser.add_argument("--m2fp", type=Path, required=True, help="the command line, optimised")
    parser.add_argument("--work", type=Path, default=ROOT / "dist/bench", help="for what is made")
    for name in ("portable", "fp32", "int8"):
        parser.add_argument(f"--{name}", type=Path, help=f"{name} model folder (default: made)")
    parser.add_argument("--runs", type=int, default=3, help="of each but ModelScope (default: 3)")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument("--plot", type=Path, help="SVG to draw")
    options = parser.parse_args()
    # Contenders run elsewhere.
    for name in ("m2fp", "work", "portable", "fp32", "int8", "write", "plot"):
        path = getattr(options, name)
        setattr(options, name, path and path.resolve())
    return options


if __name__ == "__main__":
    sys.exit(main())
