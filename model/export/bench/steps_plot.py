"""The steps as bars: the article's as published beside ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

GREY, BLUE = "#8c8c8c", "#2f6f9f"


class Step(Protocol):
    name: str
    peak_mb: float
    seconds: float


def draw(out: Path, article: Sequence[Step], ours: Sequence[Step]) -> None:
    # The same figures give the same file: no date, no random ids, text as text.
    settings = {"svg.hashsalt": "m2fp", "svg.fonttype": "none", "font.size": 9}
    with pyplot.rc_context(settings):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
        most = 1.35 * max(step.peak_mb for step in (*article, *ours))
        theirs = "The article, as published\n(its own machine and weights)"
        _bars(left, article, GREY, most, theirs)
        _bars(right, ours, BLUE, most, "m2fp-lambda, measured\n(another machine, random weights)")
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, metadata={"Date": None})
        pyplot.close(figure)


def _bars(axes: Axes, steps: Sequence[Step], colour: str, most: float, title: str) -> None:
    places = range(len(steps))
    axes.barh(places, [step.peak_mb for step in steps], color=colour, height=0.65)
    for place, step in zip(places, steps, strict=True):
        label = f" {step.peak_mb:.0f} MB, {step.seconds:.1f} s"
        axes.text(step.peak_mb, place, label, va="center")
    axes.set_yticks(places, [step.name for step in steps])
    axes.invert_yaxis()
    axes.set_xlim(0, most)
    axes.set_xlabel("peak resident set, MB; 1920×1080 photo")
    axes.set_title(title, fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
