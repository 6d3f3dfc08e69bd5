"""Makes a model folder out of a checkpoint: graph, proof, accuracy and manifest."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2fp_train import manifest
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import load_network
from m2fp_train.evaluate import (
    CONFIDENCE_SEED,
    evaluate,
    evaluate_crowds,
    onnx_predictor,
    torch_predictor,
)
from m2fp_train.geometry import NANO_SIZE
from m2fp_train.onnx_graph import store_halves, verify_graph, write_graph
from m2fp_train.queries import QueryParser
from m2fp_train.scene import Scene

GRAPH_NAME = "model.onnx"
CONFIDENCE_SCENES = 100


def export(checkpoint: Path, out: Path, data: ClothingCoParsing, about: manifest.About) -> None:
    """Write `model.onnx` and `model.json` into `out`; memory and time `m2fp calibrate` measures.

    Raises AssertionError where ONNX Runtime and PyTorch disagree; no manifest is written then.
    """
    out.mkdir(parents=True, exist_ok=True)
    graph = out / GRAPH_NAME
    parser = QueryParser(load_network(checkpoint), NANO_SIZE.divisor).eval()
    people = [data.load(number) for number in data.validation]
    parser.confidence.copy_(_confidence(parser, people))
    write_graph(parser, graph)
    print(f"verified: largest difference of a logit {verify_graph(parser, graph):.1e}", flush=True)
    store_halves(graph)  # the accuracy is measured with these

    accuracy = about.accuracy or _measure_accuracy(graph, data)
    print(f"accuracy {accuracy}", flush=True)
    manifest.write(manifest.build(graph, about, accuracy), out)


def _confidence(parser: QueryParser, people: list[Scene]) -> Tensor:
    """Scale and shift [2] that make a person's logit tell how often such a person is right."""
    predict = torch_predictor(parser)
    scores = evaluate_crowds(predict, NANO_SIZE, people, CONFIDENCE_SCENES, CONFIDENCE_SEED)
    return torch.tensor(scores.confidence())


def _measure_accuracy(graph: Path, data: ClothingCoParsing) -> dict[str, Any]:
    """The manifest's `accuracy` entry, of the validation photos."""
    scores = evaluate(onnx_predictor(graph), NANO_SIZE, map(data.load, data.validation))
    return {
        "miou": round(scores.mean_iou, 3),
        "person_iou": round(scores.person_iou, 3),
        "measured_on": f"{len(data.validation)} Clothing Co-Parsing photos (numbers ending in 3) "
        "that were not trained on, 20 classes, label map at photo size",
    }
