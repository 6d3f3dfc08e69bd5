"""Random weights are reproducible, and their answers look like answers."""

import pytest
import torch

import shrunken
from m2fp_export.model import M2FP
from m2fp_export.random_checkpoint import random_network, synthetic_photos


def test_a_seed_gives_one_network(network: M2FP) -> None:
    again = random_network(shrunken.SIZES, seed=0).state_dict()
    other = random_network(shrunken.SIZES, seed=1).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(again[name], value), name
        assert torch.isfinite(value).all(), name
    name = "sem_seg_head.predictor.query_feat.weight"
    assert not torch.equal(other[name], again[name])


def spread(network: M2FP) -> list[dict[str, float]]:
    """For each photo: parts and persons above ModelScope's thresholds, parts that are pasted."""
    counts = []
    for photo in synthetic_photos(seed=7):
        with torch.no_grad():
            classes, masks = network(photo)
        shares = classes[0].softmax(1)[:, :-1]
        inside = (masks[0] > 0).flatten(1)
        certainty = (masks[0].sigmoid().flatten(1) * inside).sum(1) / (inside.sum(1) + 1e-6)
        scores = shares * certainty[:, None]
        counts.append(
            {
                "parts": int((scores[:, 1:-1] >= 0.1).sum()),
                "pasted": int((scores[:, :-1] >= 0.5).sum()),
                "persons": int((scores[:, -1] > 0.1).sum()),
                "covered": float(inside.float().mean()),
                "classes": len(shares.argmax(1).unique()),
            }
        )
    return counts


@pytest.mark.full
def test_parts_and_persons_pass_the_thresholds(full_network: M2FP) -> None:
    for counts in spread(full_network):
        assert counts["parts"] >= 30, counts
        assert counts["pasted"] >= 10, counts
        assert counts["persons"] >= 3, counts
        assert counts["classes"] >= 10, counts
        assert 0.05 <= counts["covered"] <= 0.6, counts
