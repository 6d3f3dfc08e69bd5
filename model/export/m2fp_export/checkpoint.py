"""Reads checkpoints: a folder of ModelScope's, or a file of soeaver/M2FP's trainer.

Only tensors are loaded; a file that would run code is refused.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2fp_export import configuration
from m2fp_export.configuration import BLOCKS, Description
from m2fp_export.errors import InputError
from m2fp_export.model import M2FP
from m2fp_export.variants import VARIANTS

WEIGHTS_NAME = "pytorch_model.pt"
LISTED = 20
"""So many names are listed of what is wrong, and the number of the rest."""
IGNORED = re.compile(r"^criterion\.|\.num_batches_tracked$")
"""Of training: weights of the loss, and a counter that inference never reads."""

logger = logging.getLogger("m2fp_export")


def load(path: Path, variant: str | None = None) -> tuple[M2FP, Description]:
    """The network of a folder, or of a file of `variant`. Raises InputError."""
    if path.is_dir():
        return _load_folder(path, variant)
    if not path.is_file():
        raise InputError(path, "there is no such file or folder")
    if variant is None:
        names = ", ".join(VARIANTS)
        raise InputError(
            path, f"a checkpoint without {configuration.FILE_NAME} needs --variant ({names})"
        )
    state = read_state(path)
    described = Description.of_variant(VARIANTS[variant], _blocks(state))
    return network_of(state, described, path), described


def weights_file(path: Path) -> Path:
    """The file that the weights of a checkpoint are in."""
    return path / WEIGHTS_NAME if path.is_dir() else path


def _load_folder(folder: Path, variant: str | None) -> tuple[M2FP, Description]:
    settings = folder / configuration.FILE_NAME
    weights = weights_file(folder)
    for file in (settings, weights):
        if not file.is_file():
            raise InputError(folder, f"it has no {file.name}")
    if variant is not None:
        raise InputError(settings, "it says what model this is; leave out --variant")
    described = configuration.read(settings)
    return network_of(read_state(weights), described, weights), described


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in `path`, which may be one, or hold one as `model`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the reader do
        raise InputError(path, _loading_fault(error)) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise InputError(path, "it holds no state dict")
    strangers = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise InputError(
            path, f"it is no state dict: {_listed(map(str, strangers))} are no tensors"
        )
    return content


def _loading_fault(error: Exception) -> str:
    if re.search("Unsupported (global|class)", str(error)):
        return "it holds code or objects besides tensors; only tensors are loaded"
    return "it is no PyTorch checkpoint of tensors and text, or it is truncated or damaged"


def network_of(state: dict[str, Tensor], described: Description, path: Path) -> M2FP:
    """The network with the weights of `state`; `path` is where they are from."""
    network = M2FP(described.sizes)
    expected = network.state_dict()
    faults = list(_faults(state, expected))
    if faults:
        raise InputError(path, f"its weights are not those of this network: {_listed(faults)}")
    extras = sorted(name for name in set(state) - set(expected) if not IGNORED.search(name))
    if extras:
        logger.warning("%s: weights that the network does not have: %s", path, _listed(extras))
    network.load_state_dict({name: state.get(name, own) for name, own in expected.items()})
    return network.eval()


def _faults(state: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterable[str]:
    for name, own in expected.items():
        if IGNORED.search(name):
            continue
        if name not in state:
            yield f"{name} is missing"
        elif state[name].shape != own.shape:
            yield f"{name} is {_shape(state[name])}, not {_shape(own)}"
        elif not torch.isfinite(state[name]).all():
            yield f"{name} is not finite"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"


def _listed(names: Iterable[Any]) -> str:
    names = list(names)
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _blocks(state: dict[str, Tensor]) -> tuple[int, ...]:
    """ResNet's depth, by the number of blocks in res4; 101 where that is none of the usual."""
    numbers = [int(m[1]) for name in state if (m := re.match(r"backbone\.res4\.(\d+)\.", name))]
    found = max(numbers, default=0) + 1
    return next((blocks for blocks in BLOCKS.values() if blocks[2] == found), BLOCKS[101])
