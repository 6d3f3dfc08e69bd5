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

from m2fp_train.backbone import load_backbone
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.checkpoint import Checkpoint
from m2fp_train.classes import IGNORE, NUM_PARTS
from m2fp_train.crowd import PERSON_HEIGHT, training_scene, with_rare_parts_more_often
from m2fp_train.geometry import STRIDE
from m2fp_train.losses import centre_loss, mask_loss, parsing_loss
from m2fp_train.network import NanoParser
from m2fp_train.persons import agreed_masks, somebody_logit
from m2fp_train.queries import normalise
from m2fp_train.scene import Scene
from m2fp_train.targets import PersonTargets

CPU = torch.device("cpu")
CHECKPOINT_NAME = "checkpoint.pt"
CROP_SHAPES = ((1, 1), (3 / 2, 2 / 3), (4 / 3, 3 / 4), (3 / 4, 4 / 3))
"""Height and width of crops in sides of the square crop: batches take turns, all of one area."""
LOSS_STRIDE = 2
"""The loss of parts is taken at every second pixel each way: a quarter of the cost, hardly less to
learn."""
LOSSES = ("parts", "centres", "masks")
WARM_UP_STEPS = 100
FINAL_RATE = 0.01
"""Learning rate at the end, as a fraction of the one at the start."""
WEIGHT_DECAY = 1e-2
GRADIENT_NORM = 5.0
AVERAGE_DECAY = 0.998


@dataclass(frozen=True)
class Recipe:
    """What a run is; one that is resumed must have the same.

    crop: side of a square training crop in pixels, a multiple of 192. Learning rates are AdamW's.
    """

    seed: int = 0
    batch: int = 8
    crop: int = 384
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
        by_steps = _share(step, self.steps)
        by_time = _share(elapsed_s / 60, self.minutes)
        return max(by_steps, by_time)


class TrainingScenes(Dataset):
    """Sample `i` of a run is a function of the seed and `i` alone, whoever computes it."""

    def __init__(self, scenes: list[Scene], recipe: Recipe) -> None:
        self.scenes = scenes
        self.recipe = recipe

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Image uint8 [3, H, W], parts and numbers int64 [H, W], and the `PersonTargets`."""
        rng = np.random.default_rng((self.recipe.seed, index))
        scene = training_scene(rng, self.scenes, self._shape(index))
        targets = PersonTargets.of(rng, scene.numbers)
        arrays = (
            scene.image.transpose(2, 0, 1).copy(),
            scene.parts.astype(np.int64),
            scene.numbers.astype(np.int64),
            targets.centres,
            targets.cells,
            targets.drawn,
        )
        return tuple(torch.from_numpy(array) for array in arrays)

    def _shape(self, index: int) -> tuple[int, int]:
        """Height and width of a sample, the same for all of a batch."""
        shape = CROP_SHAPES[index // self.recipe.batch % len(CROP_SHAPES)]
        return round(shape[0] * self.recipe.crop), round(shape[1] * self.recipe.crop)

    def batches(self, first: int, workers: int) -> Iterator[list[Tensor]]:
        """Batches number `first`, `first + 1`, … without end."""
        size = self.recipe.batch
        indices = (list(range(i * size, (i + 1) * size)) for i in count(first))
        return iter(DataLoader(self, batch_sampler=indices, num_workers=workers))


class Run:
    """A training run that keeps its state in one folder and goes on where it was stopped.

    device: where the network is; a run may go on on another. published: where the weights are
    that a new run starts from.
    """

    loss_names = LOSSES

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        published: Path | tuple[Path, ...],
        device: torch.device = CPU,
    ) -> None:
        torch.manual_seed(recipe.seed)
        # Subnormal activations make convolutions many times slower.
        torch.set_flush_denormal(True)
        self.path = folder / CHECKPOINT_NAME
        self.recipe = recipe
        self.step = 0
        self.elapsed_s = 0.0
        # A step takes a quarter less time with channels last.
        self.device = device
        self.network = self._new_network().to(device, memory_format=torch.channels_last)
        self.optimizer = self._new_optimizer()
        if self.path.exists():
            self._resume()
        else:
            self._load_published(published)
            self.average = _copy_state(self.network)
        self.network.train()

    def train(self, data: ClothingCoParsing, budget: Budget, save_every: int, workers: int) -> None:
        """Train to the end of `budget`; a checkpoint every `save_every` steps and at the end."""
        photos = data.load_shrunk(data.training, PERSON_HEIGHT[1])
        print(f"{len(photos)} training photos, from step {self.step}", flush=True)
        scenes = TrainingScenes(with_rare_parts_more_often(photos), self.recipe)
        self.train_on(scenes, budget, save_every, workers)

    def train_on(
        self, scenes: TrainingScenes, budget: Budget, save_every: int, workers: int
    ) -> None:
        """Train on samples that are made already known how; see `train`."""
        batches = scenes.batches(self.step, workers)
        clock = time.monotonic() - self.elapsed_s
        losses: list[Tensor] = []
        while (progress := budget.progress(self.step, self.elapsed_s)) < 1:
            batch = [tensor.to(self.device) for tensor in next(batches)]
            losses.append(self._step(batch, progress))
            self.elapsed_s = time.monotonic() - clock
            if self.step % 10 == 0:
                means = torch.stack(losses).mean(0).tolist()
                named = "  ".join(
                    f"{name} {mean:.3f}" for name, mean in zip(self.loss_names, means, strict=True)
                )
                print(f"step {self.step}  {self.elapsed_s:.0f} s  {named}", flush=True)
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

    def _new_network(self) -> nn.Module:
        """The network, those of its weights frozen that stay as published."""
        network = NanoParser()
        network.backbone.freeze_first_blocks()
        return network

    def _load_published(self, published: Path) -> None:
        load_backbone(self.network.backbone, published)

    def _step(self, batch: list[Tensor], progress: float) -> Tensor:
        """One step of the optimizer; the losses before it, in the order of `loss_names`."""
        rate = _rate(self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        losses = self._losses(*batch)
        self.optimizer.zero_grad()
        losses.sum().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return losses.detach()

    def _losses(
        self,
        image: Tensor,
        parts: Tensor,
        numbers: Tensor,
        centres: Tensor,
        cells: Tensor,
        drawn: Tensor,
    ) -> Tensor:
        """[3], as `LOSSES` names them, of a batch of `TrainingScenes`."""
        answer = self.network(normalise(image))
        logits = F.interpolate(
            answer.logits, scale_factor=STRIDE / LOSS_STRIDE, mode="bilinear", align_corners=False
        )
        every = np.s_[:, ::LOSS_STRIDE, ::LOSS_STRIDE]
        person = numbers.where(numbers == IGNORE, numbers.clamp(max=1))

        most = max(1, int((drawn > 0).sum(1).max()))
        cells, drawn = cells[:, :most], drawn[:, :most]
        masks = self.network.masks_at(answer.people, cells)
        masks = agreed_masks(masks, somebody_logit(answer.logits[:, :NUM_PARTS]))
        return torch.stack(
            [
                parsing_loss(logits, parts[every], person[every]),
                centre_loss(answer.people.centres[:, 0], centres),
                mask_loss(masks, numbers, drawn, STRIDE),
            ]
        )

    def _update_average(self) -> None:
        """Exponential moving average of the weights, quick at first."""
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        named = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        backbone = [p for name, p in named if name.startswith("backbone.")]
        head = [p for name, p in named if not name.startswith("backbone.")]
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
        self.average = {name: value.to(self.device) for name, value in checkpoint.average.items()}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": checkpoint.optimizer, "param_groups": groups})


def _share(done: float, budget: float | None) -> float:
    """0 of a budget that is not set; a budget of nothing is used up at once."""
    if budget is None:
        return 0.0
    return done / budget if budget > 0 else 1.0


def _rate(step: int, progress: float) -> float:
    """Learning rate as a fraction of the recipe's: a linear warm-up, then a half cosine."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return warm_up * (FINAL_RATE + (1 - FINAL_RATE) * cosine)


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
