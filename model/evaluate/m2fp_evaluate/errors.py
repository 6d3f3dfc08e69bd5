"""What can be wrong with what is given to the evaluation."""

from pathlib import Path


class InputError(Exception):
    """A file or folder that cannot be used: one sentence that names it and its fault."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}")


class UsageError(Exception):
    """Options that cannot be meant: one sentence."""
