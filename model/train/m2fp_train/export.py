"""Makes a model folder out of a checkpoint: graph, proof and manifest."""

from pathlib import Path

from m2fp_train import manifest
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import load_network
from m2fp_train.confidence import fit_confidence, fit_confidences
from m2fp_train.geometry import MULTIPOSE_SIZE, NANO_SIZE
from m2fp_train.logit_adjustment import fit_adjustment
from m2fp_train.multipose_parser import MultiposeParser
from m2fp_train.multipose_queries import MultiposeQueryParser
from m2fp_train.onnx_graph import simplify, store_small, verify_graph, write_graph
from m2fp_train.queries import QueryParser

GRAPH_NAME = "model.onnx"
CONFIDENCE_SCENES = 100
ADJUSTED_ON = 400
"""Photos that were trained on."""


def export(checkpoint: Path, out: Path, data: ClothingCoParsing, about: manifest.About) -> None:
    """Write `model.onnx` and `model.json` into `out`.

    Accuracy, memory and time are what `evaluate` and `m2fp calibrate` measure. Raises
    AssertionError where ONNX Runtime and PyTorch disagree; no manifest is written then.
    """
    out.mkdir(parents=True, exist_ok=True)
    graph = out / GRAPH_NAME
    network = load_network(checkpoint)
    joined = isinstance(network, MultiposeParser)
    kind, size = (MultiposeQueryParser, MULTIPOSE_SIZE) if joined else (QueryParser, NANO_SIZE)
    parser = kind(network, size.divisor).eval()
    people = [data.load(number) for number in data.validation]
    fit = fit_confidences if joined else fit_confidence
    parser.confidence.copy_(fit(parser, people, CONFIDENCE_SCENES))
    if joined:
        # After the scores, by which it is known what people wear.
        spaced = data.training[:: max(1, len(data.training) // ADJUSTED_ON)]
        parser.adjustment.copy_(fit_adjustment(parser, map(data.load, spaced), size))
    write_graph(parser, graph)
    print(f"verified: largest difference of a logit {verify_graph(parser, graph):.1e}", flush=True)
    store_small(graph)
    simplify(graph)
    manifest.write(manifest.build(graph, about, size, parser.stride), out)
