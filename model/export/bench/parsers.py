"""Dense parsers and M2FP's portable graph beside PyTorch: `python -m bench.parsers`, and a table.

Of networks in their published size with random weights. What is compared is processor time, which
other work on a shared machine changes least: the least of rounds of all contenders in turn.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import fill

import torch
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

import published
from bench import measure, prepare
from bench.contender import THREADS
from bench.measure import Result
from bench.prepare import ROOT
from m2fp_export.variants import LIP

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import schp

SCHP_SIDE = 473
OURS = "m2fp"
"""In place of a contender's kind: `m2fp parse`."""
MADE_BY = "make bench-parsers"


def main() -> int:
    options = _options()
    if options.write is not None:
        published.check_blocks(options.write, [MADE_BY])
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    photo = prepare.photo(work / "three-people.jpg")
    rows = {
        "SegFormer-B2": _segformer(work / "segformer"),
        "SCHP": _schp(work / "schp"),
        "M2FP": _m2fp(work),
    }
    best: dict[tuple[str, str], Result] = {}
    for _ in range(options.rounds):
        for parser, contenders in rows.items():
            for name, (kind, model) in contenders.items():
                measure.say(f"{parser}, {name}")
                result = _measured(kind, model, photo, options.m2fp)
                if result.fault:
                    raise RuntimeError(f"{parser}, {name}: {result.fault}")
                best[parser, name] = _better(best.get((parser, name)), result)
    text = f"{fill(_machine(options.rounds), 120)}\n\n{_table(best)}"
    print(f"\n{text}")
    if options.write is not None:
        published.replace_block(options.write, MADE_BY, text)
    return 0


Contenders = dict[str, tuple[str, Path]]
"""Kind and model by name. PyTorch comes first: ratios are to it."""


def _segformer(folder: Path) -> Contenders:
    """As `mattmdjaga/segformer_b2_clothes` has its sizes."""
    network, model = folder / "network", folder / "model"
    if not network.exists():
        torch.manual_seed(0)
        config = SegformerConfig(
            depths=[3, 4, 6, 3],
            hidden_sizes=[64, 128, 320, 512],
            decoder_hidden_size=768,
            num_labels=18,
        )
        SegformerForSemanticSegmentation(config).save_pretrained(network)
        SegformerImageProcessor(size={"height": 512, "width": 512}).save_pretrained(network)
    _wrap(model, "--source", network)
    return {"PyTorch": ("segformer_pytorch", network), "m2fp-lambda": (OURS, model)}


def _schp(folder: Path) -> Contenders:
    """Of LIP."""
    folder.mkdir(exist_ok=True)
    weights, model = folder / "weights.pt", folder / "model"
    if not weights.exists():
        network = schp.network(0)
        schp.export(network, folder / "schp.onnx", SCHP_SIDE)
        torch.save(network.state_dict(), weights)
    classes = folder / "classes.txt"
    classes.write_text("\n".join(LIP.classes))
    options = ["--output", "fusion", "--bgr", "--align-corners", "--size", str(SCHP_SIDE)]
    _wrap(model, "--source", folder / "schp.onnx", "--classes", classes, *options)
    return {"PyTorch": ("schp_pytorch", weights), "m2fp-lambda": (OURS, model)}


def _m2fp(work: Path) -> Contenders:
    """ResNet-101, the network alone."""
    weights = prepare.weights(work / "weights")
    portable = prepare.model(weights, work / "portable", ["--portable"])
    return {
        "PyTorch": ("m2fp_pytorch", weights),
        "portable, ONNX Runtime": ("onnxruntime_defaults", portable / "model.onnx"),
        "portable, OpenVINO, fp32": ("openvino_f32", portable / "model.onnx"),
        "m2fp-lambda": (OURS, prepare.model(weights, work / "fp32", [])),
    }


def _wrap(out: Path, *arguments: str | Path) -> None:
    if not out.exists():
        command = [sys.executable, "-m", "m2fp_export", "wrap", "--out", out, "--licence", "MIT"]
        subprocess.run([*command, *arguments], check=True, stdout=sys.stderr)


def _measured(kind: str, model: Path, photo: Path, m2fp: Path) -> Result:
    """Without the start and the loading, but for ours."""
    if kind != OURS:
        return measure.contender(sys.executable, kind, model, photo, 2)[-1]
    return measure.parse(m2fp, model, photo, 1)


def _better(before: Result | None, now: Result) -> Result:
    """The quicker one; the memory is the greatest seen."""
    if before is None:
        return now
    quicker = min(before, now, key=lambda one: one.cpu_seconds)
    return replace(quicker, peak_mb=max(before.peak_mb, now.peak_mb))


def _table(best: dict[tuple[str, str], Result]) -> str:
    lines = [
        "| | | processor seconds | peak RSS, MB | time | memory |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (parser, name), result in best.items():
        reference = best[parser, "PyTorch"]
        ratios = (
            result.cpu_seconds / reference.cpu_seconds,
            result.peak_mb / reference.peak_mb,
        )
        figures = [f"{result.cpu_seconds:.2f}", f"{result.peak_mb:.0f}"]
        figures += [f"{ratio:.2f} ×" for ratio in ratios]
        lines.append(f"| {parser} | {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _machine(rounds: int) -> str:
    return (
        f"{published.machine()}, {THREADS} threads; one photo of 1920×1080; random weights. The "
        f"least of {rounds} rounds in turn. Ratios are to PyTorch's ({torch.__version__})."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.parsers", description=__doc__)
    parser.add_argument("--m2fp", type=Path, required=True, help="the command line, optimised")
    parser.add_argument("--work", type=Path, default=ROOT / "dist/bench", help="for what is made")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--write", type=Path, help="replace the table in this file")
    options = parser.parse_args()
    # Contenders run elsewhere.
    for name in ("m2fp", "work", "write"):
        path = getattr(options, name)
        setattr(options, name, path and path.resolve())
    return options


if __name__ == "__main__":
    sys.exit(main())
