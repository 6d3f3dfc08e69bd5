"""Every function size × photo × model: what was planned, what was held, what was refused."""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import published
from tests.memory import photos, program
from tests.memory.program import Parsed, Program

# 1769 MB buy one vCPU.
SIZES_MB = (256, 512, 1024, 1769, 3008)
# What predictions aim at, percent of the measured peak.
AIM_PERCENT = 10


@dataclass
class Cell:
    """One photo, model and size."""

    name: str
    photo: str
    size_mb: int
    margin_mb: int
    # Of the run at `size_mb`, or of the one at the memory that its refusal named.
    planned: dict | None = None
    report: dict | None = None
    # Greatest resident set of the whole process.
    peak_mb: int = 0
    group_peak_mb: float | None = None
    needs_mb: int | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def error_percent(self) -> float | None:
        """Of the predicted peak, in percent of the measured one."""
        if self.report is None:
            return None
        return 100 * (self.report["plan"]["predicted_peak_mb"] - self.peak_mb) / self.peak_mb

    def text(self) -> str:
        """As the table has it."""
        if self.faults:
            return "**" + "; ".join(self.faults) + "**"
        plan = self.report["plan"]
        group = "" if self.group_peak_mb is None else f", group {self.group_peak_mb:.0f}"
        tiles = f", {plan['tiles']} tiles" if plan["tiles"] > 1 else ""
        lines = [
            f"{plan['working_width']}×{plan['working_height']}{tiles}",
            f"{plan['predicted_peak_mb']} / {self.peak_mb} MB{group}",
            f"{plan['predicted_ms'] / 1e3:.1f} / {published.work_seconds(self.report):.1f} s",
        ]
        if self.needs_mb is not None:
            lines.insert(0, f"refused: needs {self.needs_mb} MB; there:")
        return "<br>".join(lines)


def measure(subject: Program, margin_mb: int, size_mb: int, name: str, path: Path) -> Cell:
    """Plans the photo, parses it, and judges both."""
    cell = Cell(subject.model.name, name, size_mb, margin_mb)
    planned, answer = program.plan(subject, size_mb, path)
    if planned.killed or answer is None:
        cell.faults.append("plan: killed" if planned.killed else f"plan: {planned.last_line or planned.status}")
        return cell
    parsed = program.parse(subject, size_mb, path)
    if answer["admitted"]:
        judge_done(cell, parsed, size_mb, answer, path)
    else:
        _judge_refused(cell, subject, parsed, path)
    return cell


def judge_done(cell: Cell, parsed: Parsed, size_mb: int, answer: dict, path: Path) -> None:
    ran, report = parsed.ran, parsed.report
    cell.planned, cell.report, cell.group_peak_mb = answer["plan"], report, ran.group_peak_mb
    if ran.killed:
        cell.faults.append(f"killed in {size_mb} MB though admitted")
    elif ran.status not in (0, 1):
        cell.faults.append(f"ended with {ran.status}")
    elif ran.status == 1 or report is None:
        cell.faults.append(f"refused though admitted: {ran.last_line}")
    else:
        cell.peak_mb = max(report["memory"]["peak_rss_mb"], math.ceil(ran.peak_mb))
        predicted, peak = report["plan"]["predicted_peak_mb"], cell.peak_mb
        if peak > predicted + cell.margin_mb:
            cell.faults.append(f"held {peak} MB where {predicted} were predicted")
        if predicted > size_mb:
            cell.faults.append(f"admitted with {predicted} MB in {size_mb}")
        if [report["plan"][key] for key in _SHAPE] != [answer["plan"][key] for key in _SHAPE]:
            cell.faults.append("parsed otherwise than planned")
        size, _ = photos.size_and_bytes(path)
        if parsed.mask_size != size:
            cell.faults.append(f"a mask of {parsed.mask_size} for a photo of {size}")


def _judge_refused(cell: Cell, subject: Program, parsed: Parsed, path: Path) -> None:
    ran = parsed.ran
    named = program.NAMED.search(ran.error)
    if ran.killed:
        cell.faults.append(f"killed in {cell.size_mb} MB instead of refused")
    elif ran.status != 1:
        cell.faults.append(f"the plan refuses, parsing ends with {ran.status}")
    elif named is None:
        cell.faults.append(f"a refusal that names no memory: {ran.last_line}")
    else:
        cell.needs_mb = int(named[1])
        enough = program.parse(subject, cell.needs_mb, path)
        _, answer = program.plan(subject, cell.needs_mb, path)
        if answer is None or not answer["admitted"]:
            cell.faults.append(f"needs {cell.needs_mb} MB, and is refused there")
        else:
            judge_done(cell, enough, cell.needs_mb, answer, path)


_SHAPE = ("working_width", "working_height", "tiles")


def run(subject: Program, sizes_mb: tuple[int, ...], names: list[str], folder: Path) -> tuple[str, list[str]]:
    """The page's text, and what was wrong."""
    cells = []
    for name in names:
        path = photos.photo(name, folder)
        margin_mb = program.margin_mb(subject, path)
        for size_mb in sizes_mb:
            cell = measure(subject, margin_mb, size_mb, name, path)
            print(f"  {cell.name}, {name}, {size_mb} MB: {cell.text().replace('<br>', ', ')}", file=sys.stderr)
            cells.append(cell)
    faults = [f"{cell.photo}, {cell.size_mb} MB: {fault}" for cell in cells for fault in cell.faults]
    return _table(cells, sizes_mb, folder), faults


def _table(cells: list[Cell], sizes_mb: tuple[int, ...], folder: Path) -> str:
    rows = [f"| photo | {' | '.join(f'{size} MB' for size in sizes_mb)} |", f"|---|{'---|' * len(sizes_mb)}"]
    for name in dict.fromkeys(cell.photo for cell in cells):
        _, length = photos.size_and_bytes(photos.photo(name, folder))
        texts = [cell.text() for cell in cells if cell.photo == name]
        rows.append(f"| {name}, {length / 2**20:.1f} MB | {' | '.join(texts)} |")
    return "\n".join([*rows, "", _predictions(cells)])


def _predictions(cells: list[Cell]) -> str:
    errors = [cell.error_percent for cell in cells if cell.error_percent is not None]
    if not errors:
        return "No run ended, so no prediction could be held against a peak."
    within = sum(abs(error) <= AIM_PERCENT for error in errors)
    return (
        f"Predicted against measured peak: {within} of {len(errors)} runs within {AIM_PERCENT} %, "
        f"from {min(errors):+.0f} % to {max(errors):+.0f} %."
    )
