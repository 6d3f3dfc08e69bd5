"""One contender in a process of its own: `python -m bench.contender KIND MODEL PHOTO RUNS`.

Prints JSON: seconds and processor time of each run and, after each, the greatest resident set so
far in MB.
"""

import json
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench import whole_photo

THREADS = 2
WORKING_SIZE = (1138, 640)
"""Width and height of a 1920×1080 photo at M2FP's native size."""
PRODUCT = (5040, 1024, 256)
"""The shape of many products there: rows, channels in, channels out."""


def modelscope(folder: Path, photo: Path) -> Callable[[], object]:
    """Photo to results: each mask of each part and person, as the pipeline gives them."""
    import torch

    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import judge

    torch.set_num_threads(THREADS)
    pipeline = judge.Pipeline(folder)
    return lambda: pipeline.results(photo)


def onnxruntime_defaults(model: Path, photo: Path) -> Callable[[], object]:
    """The network only; all defaults but the threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(model), options)
    feed = {session.get_inputs()[0].name: image(photo)}
    return lambda: session.run(None, feed)


def onnxruntime_to_masks(model: Path, photo: Path) -> Callable[[], object]:
    """Photo to results as the reference has them: each mask at the photo's size."""
    network = onnxruntime_defaults(model, photo)
    with Image.open(photo) as opened:
        size = opened.size

    def run() -> object:
        class_logits, mask_logits = network()
        return whole_photo.results(class_logits[0], mask_logits[0], WORKING_SIZE, size)

    return run


def openvino_f32(model: Path, photo: Path) -> Callable[[], object]:
    return _openvino(model, photo, "f32")


def openvino_bf16(model: Path, photo: Path) -> Callable[[], object]:
    return _openvino(model, photo, "bf16")


def _openvino(model: Path, photo: Path, precision: str) -> Callable[[], object]:
    """The network only."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": THREADS}
    compiled = openvino.Core().compile_model(str(model), "CPU", settings)
    pixels = image(photo)
    return lambda: compiled([pixels])


def m2fp_pytorch(folder: Path, photo: Path) -> Callable[[], object]:
    """The network only."""
    import torch

    from m2fp_export import checkpoint

    torch.set_num_threads(THREADS)
    network, _ = checkpoint.load(folder)
    pixels = torch.from_numpy(image(photo)).float()

    def run() -> object:
        with torch.no_grad():
            return network(pixels)

    return run


def products(folder: Path, photo: Path) -> Callable[[], object]:
    """No network, but as many multiplications as M2FP's cannot do without, as PyTorch's own
    products: what the arithmetic alone takes.

    A 3×3 convolution of stride 1 needs a quarter of its own by F(4×4, 3×3) (Lavin, Gray, "Fast
    Algorithms for Convolutional Neural Networks", CVPR 2016); its transforms are not counted.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from m2fp_export import checkpoint

    torch.set_num_threads(THREADS)
    network, _ = checkpoint.load(folder)
    saved = 0.0

    def note(layer: nn.Module, given: object, made: torch.Tensor) -> None:
        nonlocal saved
        if isinstance(layer, nn.Conv2d) and (layer.kernel_size, layer.stride) == ((3, 3), (1, 1)):
            saved += 3 / 4 * 2 * made.numel() * layer.weight[0].numel()

    for layer in network.modules():
        layer.register_forward_hook(note)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.from_numpy(image(photo)).float())
    left, right = torch.rand(PRODUCT[:2]), torch.rand(PRODUCT[1:])
    times = round((counter.get_total_flops() - saved) / (2 * math.prod(PRODUCT)))
    return lambda: [torch.mm(left, right) for _ in range(times)]


def segformer_pytorch(folder: Path, photo: Path) -> Callable[[], object]:
    """Photo to label map."""
    import torch
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.set_num_threads(THREADS)
    processor = SegformerImageProcessor.from_pretrained(folder)
    network = SegformerForSemanticSegmentation.from_pretrained(folder).eval()

    def run() -> object:
        with Image.open(photo) as opened, torch.no_grad():
            rgb = opened.convert("RGB")
            answer = network(**processor(rgb, return_tensors="pt"))
            return processor.post_process_semantic_segmentation(answer, [rgb.size[::-1]])

    return run


def schp_pytorch(weights: Path, photo: Path) -> Callable[[], object]:
    """Photo to label map."""
    import torch

    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import schp

    torch.set_num_threads(THREADS)
    network = schp.Schp().eval()
    network.load_state_dict(torch.load(weights))

    def run() -> object:
        with Image.open(photo) as opened:
            return schp.labels(network, opened.convert("RGB"), 473)

    return run


def image(photo: Path) -> NDArray[np.uint8]:
    """[1, 3, 640, 1138]"""
    with Image.open(photo) as opened:
        resized = opened.convert("RGB").resize(WORKING_SIZE, Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1)[None])


KINDS = {
    f.__name__: f
    for f in (
        modelscope,
        onnxruntime_defaults,
        onnxruntime_to_masks,
        openvino_f32,
        openvino_bf16,
        m2fp_pytorch,
        products,
        segformer_pytorch,
        schp_pytorch,
    )
}


def main() -> None:
    kind, model, photo, runs = sys.argv[1:]
    run = KINDS[kind](Path(model), Path(photo))
    seconds, cpu_seconds, peaks = [], [], []
    for _ in range(int(runs)):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        peaks.append(_peak_mb())
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peaks_mb": peaks}))


def _peak_mb() -> float:
    """The kernel's VmHWM: of this process alone. getrusage(2) starts with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main()
