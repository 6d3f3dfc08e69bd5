"""`python -m bench`: every contender once, in one run, and a table."""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import cgroup
import published
from bench import measure, prepare
from bench.contender import THREADS, WORKING_SIZE
from bench.measure import Result
from bench.prepare import ROOT

LIMITS_MB = {"fp32": 450, "int8": 256}


@dataclass(frozen=True)
class Row:
    name: str
    scope: str
    result: Result


def main() -> int:
    options = _options()
    # Machines of different kinds do not overwrite each other's figures.
    made_by = f"make bench-m2fp, {published.kind()}"
    if options.write is not None:
        published.check_blocks(options.write, [made_by])
    options.work.mkdir(parents=True, exist_ok=True)
    photo = prepare.photo(options.work / "three-people.jpg")
    weights = prepare.weights(options.work / "weights")
    plain = prepare.plain_graph(weights, options.work / "plain.onnx")
    models = {"fp32": prepare.model(weights, options.work / "fp32", options.fp32_args.split())}
    models["int8"] = options.int8 or prepare.int8(weights, options.work / "int8", options.m2fp)
    rows = [*_others(weights, plain, photo, options.runs), *_ours(models, photo, options)]
    text = "\n\n".join([_machine(), _table(rows), _facts(models, options)])
    print(f"\n{text}")
    if options.write is not None:
        published.replace_block(options.write, made_by, text)
    return 0


def _others(weights: Path, plain: Path, photo: Path, runs: int) -> list[Row]:
    def results(kind: str, model: Path, times: int) -> list[Result]:
        measure.say(kind)
        return measure.contender(sys.executable, kind, model, photo, times)

    everything, network = "photo to results", "network only"
    rows = [Row("ModelScope, PyTorch", everything, results("modelscope", weights, 1)[0])]
    names = ("plain ONNX export, ONNX Runtime's defaults, first run", "the same, later runs")
    found = results("onnxruntime_defaults", plain, runs + 1)
    rows += [Row(name, network, r) for name, r in zip(names, found, strict=False)]
    for kind, name in (("openvino_f32", "OpenVINO, fp32"), ("openvino_bf16", "OpenVINO, bf16")):
        rows.append(Row(name, network, results(kind, plain, runs + 1)[-1]))
    name = "the network's multiplications and nothing else, PyTorch"
    return [*rows, Row(name, "products only", results("products", weights, runs + 1)[-1])]


def _ours(models: dict[str, Path], photo: Path, options: argparse.Namespace) -> list[Row]:
    rows = []
    for kind, model in models.items():
        measure.say(f"m2fp-lambda {kind}")
        free = measure.parse(options.m2fp, model, photo, options.runs)
        rows.append(Row(f"**m2fp-lambda, {kind}**", "process: photo to mask and report", free))
        limit = LIMITS_MB[kind]
        measure.say(f"m2fp-lambda {kind} in {limit} MB")
        with cgroup.group(limit) as group:
            if group is None:
                result = Result(fault="this machine lets us make no memory cgroup")
            else:
                result = measure.parse(options.m2fp, model, photo, options.runs, group)
        if not (result.fault or free.fault):
            against = f"{result.seconds / free.seconds:.2f} × the time without a limit"
            result = replace(result, note=f"{result.note}; {against}")
        rows.append(
            Row(f"**{kind} in a cgroup of {limit} MB**, files not cached", "the same", result)
        )
    return rows


def _table(rows: list[Row]) -> str:
    reference = rows[0].result
    lines = [
        "| | what is timed | seconds | peak RSS, MB | time | memory | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        result = row.result
        if result.fault:
            lines.append(f"| {row.name} | {row.scope} | – | – | – | – | {result.fault} |")
            continue
        figures = [f"{result.seconds:.2f}", f"{result.peak_mb:.0f}"]
        for own, other in (
            (result.seconds, reference.seconds),
            (result.peak_mb, reference.peak_mb),
        ):
            figures.append(f"{own / other:.2f} ×" if other else "–")
        lines.append(f"| {row.name} | {row.scope} | {' | '.join(figures)} | {result.note} |")
    return "\n".join(lines)


def _facts(models: dict[str, Path], options: argparse.Namespace) -> str:
    lines = ["| model | loads in | package, zipped | unzipped |", "|---|---|---|---|"]
    for kind, model in models.items():
        measure.say(f"load and package of {kind}")
        zipped, unzipped = published.package_mb(options.bootstrap, model)
        load = measure.load_ms(options.m2fp, model)
        lines.append(f"| {kind} | {load:.0f} ms | {zipped:.0f} MB | {unzipped:.0f} MB |")
    return "\n".join(lines)


def _machine() -> str:
    width, height = WORKING_SIZE
    return (
        f"{published.machine()}, {THREADS} threads; one photo of 1920×1080 with three people, "
        f"{width}×{height} for the network; random weights, ResNet-101. Ratios are to ModelScope's."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--m2fp", type=Path, required=True, help="the command line, optimised")
    parser.add_argument("--bootstrap", type=Path, required=True, help="the Lambda binary")
    parser.add_argument("--work", type=Path, default=ROOT / "dist/bench", help="for what is made")
    parser.add_argument("--int8", type=Path, help="int8 model folder (default: made)")
    parser.add_argument(
        "--fp32-args", default="", help="of the exporter, for the fp32 model: --portable"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each but ModelScope (default: 3)")
    parser.add_argument("--write", type=Path, help="replace this kind's table in this file")
    options = parser.parse_args()
    # Contenders run elsewhere.
    for name in ("m2fp", "bootstrap", "work", "int8", "write"):
        path = getattr(options, name)
        setattr(options, name, path and path.resolve())
    return options


if __name__ == "__main__":
    sys.exit(main())
