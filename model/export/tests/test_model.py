"""Our network against ModelScope's, with the same weights."""

import pytest
import torch

import judge
import shrunken
from m2fp_export.architecture import Architecture
from m2fp_export.model import M2FP
from m2fp_export.verify import Judge, outputs_of


def compare(network: M2FP, height: int, width: int) -> None:
    theirs = judge.network(network.sizes)
    theirs.load_state_dict(network.state_dict())
    generator = torch.Generator().manual_seed(height * width)
    image = torch.randint(0, 256, (1, 3, height, width), generator=generator).float()
    with torch.no_grad():
        reference = [output.numpy() for output in judge.logits(theirs, image)]
    # Either may be the one that rounds more.
    exact = Judge(network)
    for errors in exact.errors(image, outputs_of(network, image), reference):
        assert errors.acceptable(), f"ours is {errors}"
    for errors in exact.errors(image, reference):
        assert errors.acceptable(), f"theirs is {errors}"


@pytest.mark.parametrize(("height", "width"), [(64, 96), (75, 33), (1, 1), (128, 31)])
def test_logits_are_modelscopes(network: M2FP, height: int, width: int) -> None:
    compare(network, height, width)


def test_an_empty_mask_hides_nothing(network: M2FP) -> None:
    shifted = M2FP(shrunken.SIZES).eval()
    shifted.load_state_dict(network.state_dict())
    with torch.no_grad():
        # The first mask feature is constant: every mask of every layer is empty.
        shifted.sem_seg_head.predictor.mask_embed.layers[2].bias[0] = -1e3
    compare(shifted, 64, 64)


def test_a_dilated_res5_is_modelscopes() -> None:
    torch.manual_seed(0)
    sizes = Architecture(**{**vars(shrunken.SIZES), "res5_dilations": (1, 2, 4)})
    compare(M2FP(sizes).eval(), 96, 64)


@pytest.mark.full
def test_a_published_state_dict_has_928_entries(full_network: M2FP) -> None:
    state = full_network.state_dict()
    assert len(state) == 928
    assert sum(p.numel() for p in full_network.parameters()) == 63_124_118
    theirs = judge.network(full_network.sizes).state_dict()
    assert {name: x.shape for name, x in theirs.items()} == {n: x.shape for n, x in state.items()}


@pytest.mark.full
@pytest.mark.parametrize(("height", "width"), [(160, 224), (97, 65)])
def test_logits_of_resnet101_are_modelscopes(full_network: M2FP, height: int, width: int) -> None:
    compare(full_network, height, width)
