"""Which class of the data set each class of a model is."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2fp_evaluate.class_names import plain
from m2fp_evaluate.errors import InputError, UsageError


def class_map(
    model: list[str], person_id: int | None, data: tuple[str, ...], renamed: dict[str, str]
) -> NDArray[np.uint8]:
    """Class ids of the data set by class id of the model.

    Names are compared without case, signs and a plural's s, after `renamed`, a name of the data set
    for each of the model. Raises UsageError where a class of the model is none of the data set's.
    """
    ids = {plain(name): class_id for class_id, name in enumerate(data)}
    strangers = sorted(set(renamed) - set(model)) + sorted(
        name for name in renamed.values() if plain(name) not in ids
    )
    if strangers:
        raise UsageError(f"--map names what is no class: {', '.join(strangers)}")
    table = np.zeros(len(model), np.uint8)
    unknown = []
    for class_id, name in enumerate(model):
        if class_id == person_id:
            continue
        wanted = ids.get(plain(renamed.get(name, name)))
        if wanted is None:
            unknown.append(name)
        else:
            table[class_id] = wanted
    if unknown:
        raise UsageError(
            f"the data set has no class {', '.join(unknown)}: say with --map which of its classes "
            f"they are ({', '.join(data)})"
        )
    return table


def missing(table: NDArray[np.uint8], person_id: int | None, data: tuple[str, ...]) -> list[str]:
    """Classes of the data set that the model does not have: they count as never found."""
    known = {int(table[index]) for index in range(len(table)) if index != person_id}
    return [name for class_id, name in enumerate(data) if class_id not in known]


def read_map(path: Path | None) -> dict[str, str]:
    """`{"class of the model": "class of the data set"}`."""
    if path is None:
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"it cannot be read ({error})") from error
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read.values()):
        raise InputError(path, "it is no JSON object of class names")
    return read
