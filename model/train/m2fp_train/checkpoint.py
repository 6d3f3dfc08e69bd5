"""Checkpoints: what a training run needs to go on, and the networks of finished ones."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2fp_train.multipose_parser import MultiposeParser
from m2fp_train.network import NanoParser

MULTIPOSE_KEY = "multipose.stem.weight"
"""A weight that tells the two networks apart."""


@dataclass
class Checkpoint:
    """The state of a training run after `step` steps and `elapsed_s` seconds of training.

    optimizer: AdamW's moments, by the number of the parameter; its rates follow from the recipe.
    """

    step: int
    elapsed_s: float
    recipe: dict[str, Any]
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]

    def save(self, path: Path) -> None:
        """Write to `path` in one move: a run stopped while saving keeps its last checkpoint."""
        header = {"step": self.step, "elapsed_s": self.elapsed_s, "recipe": self.recipe}
        partial = path.with_suffix(".partial")
        # PyTorch 1.13 loads no float safely, only tensors and text: hence JSON.
        stored = {
            "header": json.dumps(header),
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
        }
        torch.save(stored, partial)
        partial.replace(path)

    def blended(self, start: "Checkpoint", share: float) -> "Checkpoint":
        """With averaged weights that are by `share` its own, and else those of `start`, from which
        its run went on.

        Often better than either: WiSE-FT (Wortsman et al., "Robust fine-tuning of zero-shot
        models", CVPR 2022).
        """
        average = {
            name: start.average[name].lerp(own, share) if own.is_floating_point() else own
            for name, own in self.average.items()
        }
        return replace(self, average=average)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return cls(**json.loads(stored.pop("header")), **stored)


def load_network(path: Path) -> NanoParser | MultiposeParser:
    """The network to evaluate or export: a run's averaged weights."""
    average = torch.load(path, map_location="cpu", weights_only=True)["average"]
    network = MultiposeParser() if MULTIPOSE_KEY in average else NanoParser()
    network.load_state_dict(average)
    return network.eval()
