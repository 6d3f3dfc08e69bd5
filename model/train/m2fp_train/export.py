"""Makes a model folder out of a checkpoint: graph, proof, accuracy and manifest."""

from pathlib import Path
from typing import Any

from m2fp_train import manifest
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import load_network
from m2fp_train.evaluate import evaluate, onnx_predictor
from m2fp_train.geometry import NANO_SIZE
from m2fp_train.onnx_graph import store_halves, verify_graph, write_graph
from m2fp_train.queries import QueryParser

GRAPH_NAME = "model.onnx"


def export(checkpoint: Path, out: Path, data: ClothingCoParsing, about: manifest.About) -> None:
    """Write `model.onnx` and `model.json` into `out`; memory and time `m2fp calibrate` measures.

    Raises AssertionError where ONNX Runtime and PyTorch disagree; no manifest is written then.
    """
    out.mkdir(parents=True, exist_ok=True)
    graph = out / GRAPH_NAME
    parser = QueryParser(load_network(checkpoint), NANO_SIZE.divisor).eval()
    write_graph(parser, graph)
    print(f"verified: largest difference of a logit {verify_graph(parser, graph):.1e}", flush=True)
    store_halves(graph)  # the accuracy is measured with these

    accuracy = about.accuracy or _measure_accuracy(graph, data)
    print(f"accuracy {accuracy}", flush=True)
    manifest.write(manifest.build(graph, about, accuracy), out)


def _measure_accuracy(graph: Path, data: ClothingCoParsing) -> dict[str, Any]:
    """The manifest's `accuracy` entry, of the validation photos."""
    scores = evaluate(onnx_predictor(graph), NANO_SIZE, map(data.load, data.validation))
    return {
        "miou": round(scores.mean_iou, 3),
        "person_iou": round(scores.person_iou, 3),
        "measured_on": f"{len(data.validation)} Clothing Co-Parsing photos (numbers ending in 3) "
        "that were not trained on, 20 classes, label map at photo size",
    }
