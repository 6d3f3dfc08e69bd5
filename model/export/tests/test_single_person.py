"""A single person's photo through our function and through ModelScope's code: the same label map.

Random weights of true size. Needs ModelScope's files (README, Check) and the program `m2fp`.
"""

import importlib
import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

import judge
from m2fp_export.architecture import Architecture
from m2fp_export.export import export
from m2fp_export.random_checkpoint import random_network, synthetic_photos, write_folder
from m2fp_export.variants import LIP

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[3]
PROGRAM = "PARSE_PROGRAM"
"""Names the built program; cargo builds and runs it where this is not set."""
UTILITIES = "modelscope.models.cv.image_human_parsing.parsing_utils"
AGREEING = 0.999
"""Of all pixels."""
SIZES = {
    "bars above and below": (1920, 1080),
    "bars left and right": (601, 1003),
    "bars all around, not shrunk": (97, 141),
    "no bars": (1200, 1600),
    "one column short, so not padded": (767, 1024),
    "elongated": (150, 1400),
    "large": (3000, 4000),
}
"""Width and height."""


class Theirs:
    """ModelScope's network and post-processing as its pipeline calls them."""

    def __init__(self, network: nn.Module) -> None:
        settings = {
            "single_human": True,
            "parsing_on": False,
            "semantic_on": True,
            "sem_seg_postprocess_before_inference": False,
        }
        self.model = judge.network(Architecture(classes=len(LIP.classes)), **settings)
        self.model.load_state_dict(network.state_dict())
        # The judge has made the package importable.
        self.utilities = importlib.import_module(UTILITIES)

    def labels(self, photo: Path) -> NDArray[np.int64]:
        image = np.asarray(Image.open(photo))
        height, width = image.shape[:2]
        image, box = self.utilities.center_to_target_size_test(image, list(LIP.canvas))
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        given = {"width": width, "height": height, "image": planes, "crop_box": box}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = self.model.postprocess(self.model({"batched_inputs": [given]}))
        return answer["eval_result"][0]["sem_seg"].argmax(0).numpy()


def ours(model: Path, photo: Path, out: Path) -> NDArray[np.uint8]:
    """The function's label map."""
    built = os.environ.get(PROGRAM)
    cargo = ["cargo", "run", "--quiet", "--release", "--locked", "--bin", "m2fp", "--"]
    command = [*([built] if built else cargo), "parse", str(photo), "--model", str(model)]
    runtime = {"ORT_DYLIB_PATH": str(ROOT / ".runtime/libonnxruntime.so")}
    done = subprocess.run(
        [*command, "-o", str(out), "--output", "mask"],
        cwd=ROOT,
        env={"ORT_DISABLE_TELEMETRY": "1", "M2FP_THREADS": "2", **runtime, **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(out / f"{photo.name}.mask.png"))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return random_network(Architecture(classes=len(LIP.classes)), seed=0, has_human=False)


@pytest.fixture(scope="module")
def theirs(network: nn.Module) -> Theirs:
    return Theirs(network)


@pytest.fixture(scope="module", params=["fused", "portable"])
def model(
    request: pytest.FixtureRequest, network: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    write_folder(network, folder / "checkpoint", LIP)
    export(folder / "checkpoint", folder / "m", portable=request.param == "portable", sizes=())
    return folder / "m"


@pytest.mark.parametrize("which", SIZES)
def test_a_photo(theirs: Theirs, model: Path, which: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    planes = synthetic_photos(seed=list(SIZES).index(which))[0][0]
    image = Image.fromarray(planes.permute(1, 2, 0).numpy())
    ImageOps.fit(image, SIZES[which], Image.Resampling.BICUBIC).save(photo, compress_level=1)
    expected = theirs.labels(photo)
    labels = ours(model, photo, tmp_path)
    assert labels.shape == expected.shape
    agreeing = float((labels == expected).mean())
    classes = len(np.unique(expected))
    print(f"\n{which}: {1 - agreeing:.1e} of the pixels differ, {classes} classes")
    assert classes >= 4, classes
    assert agreeing >= AGREEING, agreeing
