"""The table that is printed last: where, what, how long, and notes."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

ROWS: list[tuple[str, str, float, str]] = []

Timed = Callable[[str, str], AbstractContextManager[list[str]]]


@contextmanager
def timed(where: str, what: str) -> Iterator[list[str]]:
    """A row for what is done inside; what is put in the list are its notes."""
    notes: list[str] = []
    start = time.monotonic()
    yield notes
    ROWS.append((where, what, time.monotonic() - start, ", ".join(notes)))


def text() -> str:
    first, second = (max(len(row[column]) for row in ROWS) for column in (0, 1))
    lines = [f"{where:<{first}}  {what:<{second}}  {took:6.1f} s  {notes}" for where, what, took, notes in ROWS]
    return "\n".join(line.rstrip() for line in lines)
