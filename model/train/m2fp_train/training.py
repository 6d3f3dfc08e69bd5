"""The training loop: deterministic from its seed, resumable, and bounded by steps or by time."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from m2fp_train.augment import SCENE_PERSON_HEIGHT, training_scene
from m2fp_train.backbone import load_bodypix
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import Checkpoint
from m2fp_train.losses import parsing_loss
from m2fp_train.network import NanoParser
from m2fp_train.queries import normalise
from m2fp_train.scene import Scene

CHECKPOINT_NAME = "checkpoint.pt"
LOSS_STRIDE = 2
"""The loss is taken at every second pixel each way: a quarter of the cost, hardly less to learn."""
WARM_UP_STEPS = 100
FINAL_RATE = 0.01
"""Learning rate at the end, as a fraction of the one at the start."""
WEIGHT_DECAY = 1e-4
GRADIENT_NORM = 5.0
AVERAGE_DECAY = 0.998


@dataclass(frozen=True)
class Recipe:
    """What a run is; one that is resumed must have the same.

    crop: side of a training crop in pixels, a multiple of 32. Learning rates are AdamW's.
    """

    seed: int = 0
    batch: int = 8
    crop: int = 320
    backbone_rate: float = 2e-4
    head_rate: float = 2e-3


@dataclass(frozen=True)
class Budget:
    """When a run is over: after `steps` or after `minutes` of training, whichever comes first."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("a run needs a number of steps or of minutes")

    def progress(self, step: int, elapsed_s: float) -> float:
        """Part of the run that is done, 0 to 1 and above."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_time = elapsed_s / (60 * self.minutes) if self.minutes is not None else 0.0
        return max(by_steps, by_time)


class TrainingScenes(Dataset):
    """Sample `i` of a run is a function of the seed and `i` alone, whoever computes it."""

    def __init__(self, scenes: list[Scene], recipe: Recipe) -> None:
        self.scenes = scenes
        self.recipe = recipe

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image uint8 [3, S, S], parts and person int64 [S, S]."""
        rng = np.random.default_rng((self.recipe.seed, index))
        scene = training_scene(rng, self.scenes, self.recipe.crop)
        return (
            torch.from_numpy(scene.image.transpose(2, 0, 1).copy()),
            torch.from_numpy(scene.parts.astype(np.int64)),
            torch.from_numpy(scene.person.astype(np.int64)),
        )

    def batches(self, first: int, workers: int) -> Iterator[list[Tensor]]:
        """Batches number `first`, `first + 1`, … without end."""
        size = self.recipe.batch
        indices = (list(range(i * size, (i + 1) * size)) for i in count(first))
        return iter(DataLoader(self, batch_sampler=indices, num_workers=workers))


class Run:
    """A training run that keeps its state in one folder and goes on where it was stopped."""

    def __init__(self, folder: Path, recipe: Recipe, bodypix: Path) -> None:
        torch.manual_seed(recipe.seed)
        # Subnormal activations make convolutions many times slower.
        torch.set_flush_denormal(True)
        self.path = folder / CHECKPOINT_NAME
        self.recipe = recipe
        self.step = 0
        self.elapsed_s = 0.0
        self.network = NanoParser()
        self.network.backbone.freeze_first_blocks()
        self.optimizer = self._new_optimizer()
        if self.path.exists():
            self._resume()
        else:
            load_bodypix(self.network.backbone, bodypix)
            self.average = _copy_state(self.network)
        self.network.train()

    def train(self, data: ClothingCoParsing, budget: Budget, save_every: int, workers: int) -> None:
        """Train to the end of `budget`; a checkpoint every `save_every` steps and at the end."""
        tallest = math.ceil(self.recipe.crop * SCENE_PERSON_HEIGHT[1])
        scenes = TrainingScenes(data.load_shrunk(data.training, tallest), self.recipe)
        print(f"{len(scenes.scenes)} training photos, from step {self.step}", flush=True)
        batches = scenes.batches(self.step, workers)
        clock = time.monotonic() - self.elapsed_s
        losses: list[float] = []
        while (progress := budget.progress(self.step, self.elapsed_s)) < 1:
            losses.append(self._step(next(batches), progress))
            self.elapsed_s = time.monotonic() - clock
            if self.step % 10 == 0:
                print(
                    f"step {self.step}  {self.elapsed_s:.0f} s  loss {np.mean(losses):.3f}",
                    flush=True,
                )
                losses.clear()
            if self.step % save_every == 0:
                self.save()
        self.save()

    def save(self) -> None:
        Checkpoint(
            step=self.step,
            elapsed_s=self.elapsed_s,
            recipe=asdict(self.recipe),
            network=self.network.state_dict(),
            average=self.average,
            optimizer=self.optimizer.state_dict()["state"],
        ).save(self.path)

    def _step(self, batch: list[Tensor], progress: float) -> float:
        image, parts, person = batch
        rate = _rate(self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        logits = F.interpolate(
            self.network(normalise(image)),
            scale_factor=4 / LOSS_STRIDE,
            mode="bilinear",
            align_corners=False,
        )
        every = np.s_[:, ::LOSS_STRIDE, ::LOSS_STRIDE]
        loss = parsing_loss(logits, parts[every], person[every])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def _update_average(self) -> None:
        """Exponential moving average of the weights, quick at first."""
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        backbone = [p for p in self.network.backbone.parameters() if p.requires_grad]
        head = [
            p for name, p in self.network.named_parameters() if not name.startswith("backbone.")
        ]
        rates = ((backbone, self.recipe.backbone_rate), (head, self.recipe.head_rate))
        return torch.optim.AdamW(
            [{"params": params, "lr": rate, "initial_lr": rate} for params, rate in rates],
            weight_decay=WEIGHT_DECAY,
        )

    def _resume(self) -> None:
        checkpoint = Checkpoint.load(self.path)
        if checkpoint.recipe != asdict(self.recipe):
            raise ValueError(
                f"{self.path} is of another recipe: {checkpoint.recipe}, not {asdict(self.recipe)}"
            )
        self.step = checkpoint.step
        self.elapsed_s = checkpoint.elapsed_s
        self.network.load_state_dict(checkpoint.network)
        self.average = checkpoint.average
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": checkpoint.optimizer, "param_groups": groups})


def _rate(step: int, progress: float) -> float:
    """Learning rate as a fraction of the recipe's: a linear warm-up, then a half cosine."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return warm_up * (FINAL_RATE + (1 - FINAL_RATE) * cosine)


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
