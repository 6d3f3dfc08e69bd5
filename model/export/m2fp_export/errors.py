"""What can be wrong with what the exporter is given."""

from pathlib import Path


class InputError(Exception):
    """A file that cannot be used: one sentence that names it and its fault."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}")


class VerificationError(Exception):
    """A graph that does not compute what the network does."""


class UsageError(Exception):
    """Options that contradict each other: one sentence."""
