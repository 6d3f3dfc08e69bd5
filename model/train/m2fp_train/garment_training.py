"""Training of the garment classifier: photos with labels, and photos with lists of tags alone.

The networks that it looks through stay as they are, so every photo is looked at a few times and no
more, in ONNX Runtime; the rest is a matter of minutes.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from m2fp_train.augment import Rng
from m2fp_train.ccp import ClothingCoParsing
from m2fp_train.classes import BACKGROUND_ID, GARMENTS, IGNORE, NUM_PARTS
from m2fp_train.garment_classifier import GarmentClassifier, description
from m2fp_train.garments import CELL
from m2fp_train.geometry import MULTIPOSE_SIZE
from m2fp_train.multipose_parser import MultiposeParser
from m2fp_train.onnx_graph import INPUT_NAME, open_session, write_module
from m2fp_train.partial import allowed_by_tags
from m2fp_train.queries import normalise, pad_to
from m2fp_train.scene import box_around
from m2fp_train.sources import read_photo, read_tags

OTHER_VIEWS, FAR_VIEWS, CLOSE_VIEWS = 3, 1, 2
"""How often each photo is looked at, beside as it is: in other sizes, crops and lights; as if from
far away, too; and, where labels tell what is left to see, a part of the person alone."""
PIECES = 3
"""How often each view is described once more, by some of its cells."""
SHOWN = 2e-4
"""Share of a photo from which on a label counts as worn."""
MOST_CUT_HEIGHT, MOST_CUT_WIDTH = 0.08, 0.15
"""Of a photo, at each border."""
LIGHT, TINT, OFFSET = (0.8, 1.2), (0.75, 1.3), 20.0
LOG_ZOOM, LOG_ZOOM_FAR = (-0.5, 0.1), (-1.4, -0.5)
CLOSE_HEIGHT = (0.3, 0.7)
"""Of a person, in a close view."""
CLOSE_MARGIN = 0.1
"""Of the person's width, at most, beside it."""
LEAST_KEPT = 0.3
"""Of the cells, in a piece."""
PIECE_OF_HEIGHT_CHANCE = 0.3
FEWEST_CELLS = 30
EPOCHS = 6
BATCH = 256
RATE = 1e-3
WEIGHT_DECAY = 0.05
DROPOUT = 0.5
SMOOTHING = 0.05
"""Tags are wrong now and then."""
LEAST_DEVIATION = 1e-2


@dataclass(frozen=True)
class Outfit:
    """A photo of somebody, and what is worn in it.

    image: uint8 [H, W, 3]. worn: bool [garments], or None where `parts`, uint8 [H, W], tell.
    """

    image: np.ndarray
    worn: np.ndarray | None
    parts: np.ndarray | None = None

    def shows(self) -> np.ndarray:
        """float32 [garments], 1 for those that can be seen."""
        if self.parts is None:
            return self.worn.astype(np.float32)
        shares = np.bincount(self.parts.ravel(), minlength=NUM_PARTS)[list(GARMENTS)]
        return (shares / self.parts.size > SHOWN).astype(np.float32)


@dataclass(frozen=True)
class Seen:
    """What the networks see of a photo. looks: [LOOKS, h, w]. worn: [garments, h, w]."""

    looks: Tensor
    worn: Tensor


class Looks(nn.Module):
    """Padded image -> what `GarmentClassifier` is told, whoever wears it."""

    def __init__(self, network: MultiposeParser) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        answer = self.network(image)
        worn = F.avg_pool2d(answer.before.softmax(1), CELL)[:, list(GARMENTS)]
        return answer.looks, worn


class Eye:
    """`Looks` in ONNX Runtime, which takes a third of PyTorch's time."""

    def __init__(self, network: MultiposeParser) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "looks.onnx")
            free = {2: "cells_down", 3: "cells_across"}
            example = torch.zeros(1, 3, 320, 384)
            write_module(
                Looks(network).eval(), example, path, ("looks", "worn"), {0: free, 1: free}
            )
            self.session = open_session(path)

    def see(self, image: np.ndarray) -> Seen:
        """An image uint8 [H, W, 3], which is not resized."""
        given = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
        padded = pad_to(normalise(given), MULTIPOSE_SIZE.divisor).numpy()
        looks, worn = self.session.run(None, {INPUT_NAME: padded})
        return Seen(torch.from_numpy(looks[0]), torch.from_numpy(worn[0]))


def training_photos(data: Path) -> Iterator[Outfit]:
    """All photos whose garments are known: labelled ones, then those with tags."""
    ccp = ClothingCoParsing(data / "ccp")
    for number in ccp.training:
        scene = ccp.load(number)
        yield Outfit(scene.image, None, scene.parts)
    more = data / "ccp" / "more"
    tags = read_tags(more) if more.is_dir() else {}
    for number, names in sorted(tags.items()):
        image = read_photo(more / "photos" / f"{number}.jpg")
        yield Outfit(image, allowed_by_tags(names)[list(GARMENTS)])


def views(rng: Rng, photo: Outfit) -> Iterator[Outfit]:
    """A photo at the size that it is shown at: first as it is."""
    yield _shown(photo, 1.0)
    for _ in range(OTHER_VIEWS):
        yield _varied(rng, _cropped(rng, photo), LOG_ZOOM)
    for _ in range(FAR_VIEWS):
        yield _varied(rng, _cropped(rng, photo), LOG_ZOOM_FAR)
    if photo.parts is not None:
        for _ in range(CLOSE_VIEWS):
            yield _varied(rng, _close(rng, photo), LOG_ZOOM)


def _varied(rng: Rng, photo: Outfit, log_zoom: tuple[float, float]) -> Outfit:
    """Mirrored or not, in another light and size. What is worn is the same on the other side."""
    way = -1 if rng.random() < 0.5 else 1
    gain = rng.uniform(*TINT, 3) * rng.uniform(*LIGHT)
    image = photo.image[:, ::way] * gain + rng.uniform(-OFFSET, OFFSET)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return _shown(Outfit(image, photo.worn, photo.parts), np.exp(rng.uniform(*log_zoom)))


def _shown(photo: Outfit, zoom: float) -> Outfit:
    height, width = photo.image.shape[:2]
    size = MULTIPOSE_SIZE.working_size(width, height)
    size = tuple(max(1, round(side * zoom)) for side in size)
    resized = Image.fromarray(photo.image).resize(size, Image.Resampling.BILINEAR)
    return Outfit(np.asarray(resized), photo.worn, photo.parts)


def _cropped(rng: Rng, photo: Outfit) -> Outfit:
    """Without some of its borders."""
    height, width = photo.image.shape[:2]
    cut = [int(h * rng.uniform(0, MOST_CUT_HEIGHT)) for h in (height, height)]
    cut += [int(w * rng.uniform(0, MOST_CUT_WIDTH)) for w in (width, width)]
    return _part(photo, np.s_[cut[0] : height - cut[1], cut[2] : width - cut[3]])


def _close(rng: Rng, photo: Outfit) -> Outfit:
    """A part of the person's height, as if from near; all of a photo of nobody."""
    somebody = (photo.parts != BACKGROUND_ID) & (photo.parts != IGNORE)
    if not somebody.any():
        return photo
    left, top, right, bottom = box_around(somebody)
    height = max(1, round((bottom - top) * rng.uniform(*CLOSE_HEIGHT)))
    top = int(rng.integers(top, bottom - height + 1))
    margins = ((right - left) * rng.uniform(0, CLOSE_MARGIN, 2)).astype(int)
    left = max(0, left - margins[0])
    return _part(photo, np.s_[top : top + height, left : right + margins[1]])


def _part(photo: Outfit, kept: tuple[slice, slice]) -> Outfit:
    parts = None if photo.parts is None else photo.parts[kept]
    return Outfit(photo.image[kept], photo.worn, parts)


def whole(seen: Seen) -> Tensor:
    """How the classifier is told of it, [`DESCRIBED`], all being one person's."""
    return _described(seen, torch.ones(seen.worn[0].numel()))


def piece(rng: Rng, seen: Seen) -> Tensor:
    """The same of some of the cells."""
    height, width = seen.worn.shape[1:]
    kept = rng.random((height, width)) < rng.uniform(LEAST_KEPT, 1)
    top, bottom = np.sort(rng.integers(0, height, 2))
    if rng.random() < PIECE_OF_HEIGHT_CHANCE and bottom - top > height // 2:
        kept[:top] = False
        kept[bottom:] = False
    if kept.sum() < FEWEST_CELLS:
        kept[:] = True
    return _described(seen, torch.from_numpy(kept.ravel()).float())


def _described(seen: Seen, cells: Tensor) -> Tensor:
    return description(seen.looks[None], seen.worn[None], cells[None, None])[0, 0]


def examples(photos: Iterable[Outfit], eye: Eye, seed: int) -> tuple[Tensor, Tensor]:
    """Descriptions [K, `DESCRIBED`] and what is worn [K, garments]."""
    described, worn = [], []
    for index, photo in enumerate(photos):
        rng = np.random.default_rng((seed, index))
        for shown in views(rng, photo):
            seen = eye.see(shown.image)
            pieces = [whole(seen), *(piece(rng, seen) for _ in range(PIECES))]
            described += pieces
            worn += [torch.from_numpy(shown.shows())] * len(pieces)
        if (index + 1) % 100 == 0:
            print(f"{index + 1} photos seen", flush=True)
    return torch.stack(described), torch.stack(worn)


def fit(classifier: GarmentClassifier, described: Tensor, worn: Tensor, seed: int) -> None:
    """Train a classifier anew.

    It sees numbers of mean 0 and deviation 1; afterwards its first layer takes them as they are.
    """
    torch.manual_seed(seed)
    mean, deviation = described.mean(0), described.std(0) + LEAST_DEVIATION
    fresh = GarmentClassifier()
    nn.init.normal_(fresh.out.weight, std=fresh.out.in_features**-0.5)
    layers = nn.Sequential(
        nn.Dropout(DROPOUT), fresh.hidden, nn.ReLU(), nn.Dropout(DROPOUT), fresh.out
    )
    optimizer = torch.optim.AdamW(layers.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - epoch / EPOCHS)
        losses = []
        for batch in torch.randperm(len(described)).split(BATCH):
            logits = layers((described[batch] - mean) / deviation)
            wanted = worn[batch] * (1 - SMOOTHING) + SMOOTHING / 2
            loss = F.binary_cross_entropy_with_logits(logits, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}  garments {np.mean(losses):.3f}", flush=True)
    with torch.no_grad():
        classifier.hidden.weight.copy_(fresh.hidden.weight / deviation)
        shift = fresh.hidden.weight @ (mean / deviation)
        classifier.hidden.bias.copy_(fresh.hidden.bias - shift)
        classifier.out.load_state_dict(fresh.out.state_dict())
        classifier.usual.bias.copy_(worn.mean(0).clamp(min=1 / len(worn)).log())


def train_garments(network: MultiposeParser, data: Path, seed: int) -> None:
    """Train the network's garment classifier on all that may be trained on in the folder `data`."""
    described, worn = examples(training_photos(data), Eye(network), seed)
    fit(network.garment_classifier, described, worn, seed)
