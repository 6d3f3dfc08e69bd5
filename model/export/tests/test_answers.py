"""The comparison itself: every way to be different is noticed."""

from dataclasses import replace

import numpy as np
import pytest

from answers import Answer, Entry, assert_same, packed


def answer() -> Answer:
    chance = np.random.default_rng(0)
    masks = np.zeros((3, 80, 100), bool)
    for number, mask in enumerate(masks):
        mask[10 * number :, 20:90] = True
    entries = [Entry(1 + n // 2, 0.9 - 0.3 * n, packed(mask)) for n, mask in enumerate(masks)]
    return Answer(
        chance.normal(size=(20, 22)).astype(np.float32),
        chance.normal(size=(20, 20, 25)).astype(np.float32),
        chance.integers(0, 20, (80, 100), np.uint8),
        entries,
    )


def test_the_same_is_the_same() -> None:
    theirs = answer()
    assert_same(replace(theirs, entries=theirs.entries[::-1]), theirs)


@pytest.mark.parametrize("field", ["class_logits", "mask_logits"])
def test_logits(field: str) -> None:
    changed = getattr(answer(), field) * 1.0002
    with pytest.raises(AssertionError, match="logits"):
        assert_same(replace(answer(), **{field: changed}), answer())


def test_label_map() -> None:
    labels = answer().labels.copy()
    labels[0, :9] += 1
    with pytest.raises(AssertionError, match="label map"):
        assert_same(replace(answer(), labels=labels), answer())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"score": 0.902}, "only theirs: class 1, score 0.9000"),
        ({"class_id": 3}, "only theirs: class 1, score 0.9000"),
        ({"mask": packed(np.ones((80, 100), bool))}, "IoU"),
    ],
)
def test_entries(changes: dict[str, object], fault: str) -> None:
    first, *others = answer().entries
    with pytest.raises(AssertionError, match=fault):
        assert_same(replace(answer(), entries=[replace(first, **changes), *others]), answer())


def test_one_too_many_or_too_few() -> None:
    few = replace(answer(), entries=answer().entries[1:])
    with pytest.raises(AssertionError, match="only theirs"):
        assert_same(few, answer())
    with pytest.raises(AssertionError, match="only ours"):
        assert_same(answer(), few)


def test_what_lies_at_the_threshold_may_be_missing() -> None:
    mask = packed(np.ones((80, 100), bool))
    more = replace(answer(), entries=[*answer().entries, Entry(5, 0.1002, mask)])
    assert_same(answer(), more)
    assert_same(more, answer())
