"""Good checkpoints load; bad ones are refused in one sentence that names the file."""

import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from m2fp_export.checkpoint import load
from m2fp_export.errors import InputError
from m2fp_export.model import M2FP
from m2fp_export.variants import CIHP


@pytest.fixture
def checkpoint(folder: Path, tmp_path: Path) -> Path:
    """A folder to spoil."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def refusal(path: Path, variant: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load(path, variant)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and "\n" not in sentence
    return sentence


def change_weights(checkpoint: Path, **changes: torch.Tensor | None) -> Path:
    path = checkpoint / "pytorch_model.pt"
    state = torch.load(path, weights_only=True)["model"]
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    torch.save({"model": state}, path)
    return path


def change_settings(checkpoint: Path, section: str | None = None, **changes: Any) -> None:  # noqa: ANN401
    path = checkpoint / "configuration.json"
    content = json.loads(path.read_text())
    target = content["model"] if section is None else content["model"][section]
    target.update(changes)
    path.write_text(json.dumps(content))


def test_a_folder_loads(network: M2FP, folder: Path) -> None:
    loaded, described = load(folder)
    assert described.classes[-1] == "Human"
    assert (described.name, described.person_id) == ("pascal-person-part", 7)
    assert (described.label_map, described.paste_score) == ("paste", 0.3)
    assert loaded.sizes == network.sizes
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_the_score_is_modelscopes_where_the_configuration_has_none(checkpoint: Path) -> None:
    path = checkpoint / "configuration.json"
    content = json.loads(path.read_text())
    del content["model"]["parsing_ins_score_thr"]
    path.write_text(json.dumps(content))
    assert load(checkpoint)[1].paste_score == 0.5


def test_what_training_leaves_is_ignored_and_other_extras_are_told(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counter = "backbone__stem__conv1__norm__num_batches_tracked"
    changes = {"criterion__empty_weight": torch.ones(9), counter: None}
    change_weights(checkpoint, **changes)
    with caplog.at_level(logging.WARNING):
        load(checkpoint)
        assert not caplog.records
        change_weights(checkpoint, ema__decay=torch.ones(1))
        load(checkpoint)
    assert "ema.decay" in caplog.text


def test_missing_and_misshapen_weights_are_told_together(checkpoint: Path) -> None:
    path = change_weights(
        checkpoint,
        backbone__res2__0__conv1__weight=None,
        sem_seg_head__predictor__class_embed__bias=torch.zeros(22),
    )
    with pytest.raises(InputError) as caught:
        load(checkpoint)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert "backbone.res2.0.conv1.weight is missing" in sentence
    assert "sem_seg_head.predictor.class_embed.bias is 22, not 9" in sentence


def test_a_long_list_is_cut(folder: Path) -> None:
    with pytest.raises(InputError, match=r"and \d+ more"):
        load(folder / "pytorch_model.pt", CIHP.name)


def test_weights_that_are_not_finite(checkpoint: Path) -> None:
    name = "sem_seg_head.predictor.decoder_norm.bias"
    change_weights(checkpoint, **{name.replace(".", "__"): torch.full((64,), torch.nan)})
    with pytest.raises(InputError, match=f"{name} is not finite"):
        load(checkpoint)


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_truncated(checkpoint: Path, kept: int) -> None:
    path = checkpoint / "pytorch_model.pt"
    path.write_bytes(path.read_bytes()[:kept])
    assert "truncated" in refusal(path, "pascal-person-part")


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>", b"\x89PNG\r\n", b"version https://git"]
)
def test_foreign(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content * 100)
    assert "no PyTorch checkpoint" in refusal(path, "cihp")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_code_is_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    zipped, pickled = tmp_path / "zipped.pth", tmp_path / "pickled.pth"
    torch.save({"model": {"a": torch.zeros(1)}, "trainer": Payload(made)}, zipped)
    pickled.write_bytes(pickle.dumps({"model": Payload(made)}, protocol=2))
    assert "code" in refusal(zipped, "cihp")
    refusal(pickled, "cihp")
    assert not made.exists()


def test_no_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save([torch.zeros(1)], path)
    assert "no state dict" in refusal(path, "cihp")
    torch.save({"model": {"a": "text"}}, path)
    assert "a are no tensors" in refusal(path, "cihp")


def test_what_is_not_there(tmp_path: Path, folder: Path) -> None:
    assert "no such" in refusal(tmp_path / "absent")
    assert "no configuration.json" in refusal(tmp_path)
    assert "--variant" in refusal(folder / "pytorch_model.pt")


def test_a_folder_needs_no_variant(folder: Path) -> None:
    with pytest.raises(InputError, match="leave out --variant"):
        load(folder, "cihp")


@pytest.mark.parametrize(
    ("section", "changes", "fault"),
    [
        (None, {"surprise": 1}, "`model` has fields that are not known: surprise"),
        ("encoder", {"surprise": 1}, "`encoder` has fields that are not known: surprise"),
        (None, {"type": "maskdino_swin"}, "of type 'maskdino_swin'"),
        (None, {"single_human": True}, "`parsing_on` is True; only False"),
        (None, {"classes": ["Background"]}, "1 names where the decoder has 8"),
        (None, {"classes": "Background"}, "not a list of names"),
        (None, {"num_parsing": 3}, "`num_parsing` is 3"),
        (None, {"parsing_ins_score_thr": 7}, "`parsing_ins_score_thr` is 7"),
        (None, {"decoder": None}, "`model` has no `decoder`"),
        ("backbone", {"depth": 18}, "`backbone.depth`"),
        ("backbone", {"res4_dilation": 2}, "`backbone.res4_dilation` is 2"),
        ("backbone", {"res5_multi_grid": 4}, "`backbone.res5_multi_grid`"),
        ("decoder", {"pre_norm": True}, "`decoder.pre_norm` is True"),
        ("decoder", {"dec_layers": "9"}, "`decoder.dec_layers` is '9'"),
        ("decoder", {"hidden_dim": 128}, "`decoder.hidden_dim` is 128"),
    ],
)
def test_configurations_that_are_refused(
    checkpoint: Path, section: str | None, changes: dict[str, Any], fault: str
) -> None:
    change_settings(checkpoint, section, **changes)
    with pytest.raises(InputError) as caught:
        load(checkpoint)
    sentence = str(caught.value)
    assert sentence.startswith(str(checkpoint / "configuration.json")) and fault in sentence


def make_single_person(checkpoint: Path, **changes: Any) -> None:  # noqa: ANN401
    settings = {
        "single_human": True,
        "input_single_human": {"sizes": [[384, 512], [1, 1]], "enabled": True},
        "num_parsing": None,
        "parsing_on": False,
        "semantic_on": True,
        "sem_seg_postprocess_before_inference": False,
    }
    change_settings(checkpoint, **(settings | changes))


def test_a_single_person_folder_loads(checkpoint: Path) -> None:
    make_single_person(checkpoint)
    _, described = load(checkpoint)
    assert described.canvas == (384, 512)
    assert (described.label_map, described.person_id) == ("semantic", None)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"parsing_on": True}, "`parsing_on` is True"),
        ({"semantic_on": False}, "`semantic_on` is False"),
        ({"sem_seg_postprocess_before_inference": True}, "before_inference` is True"),
        ({"input_single_human": None}, "`input_single_human.sizes`"),
        ({"input_single_human": {"sizes": []}}, "`input_single_human.sizes`"),
        ({"input_single_human": {"sizes": [384, 512]}}, "`input_single_human.sizes`"),
        ({"input_single_human": {"sizes": [[384, 0]]}}, "`input_single_human.sizes`"),
        ({"input_single_human": {"sizes": [[384.0, 512]]}}, "`input_single_human.sizes`"),
        ({"input_single_human": {"sizes": [[8193, 512]]}}, "`input_single_human.sizes`"),
    ],
)
def test_single_person_configurations_that_are_refused(
    checkpoint: Path, changes: dict[str, Any], fault: str
) -> None:
    make_single_person(checkpoint, **changes)
    with pytest.raises(InputError) as caught:
        load(checkpoint)
    sentence = str(caught.value)
    assert sentence.startswith(str(checkpoint / "configuration.json")) and fault in sentence


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": 3}', "\udcff"])
def test_no_configuration(checkpoint: Path, text: str) -> None:
    path = checkpoint / "configuration.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as caught:
        load(checkpoint)
    assert str(caught.value).startswith(str(path))
