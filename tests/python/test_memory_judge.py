"""What `make test-memory` calls a fault."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.memory import sizes, soak
from tests.memory.program import Parsed, Ran

PHOTO = (40, 30)
SIZE_MB, MARGIN_MB = 512, 24


def ran(status: int = 0, error: str = "", peak_mb: float = 90, kills: int = 0) -> Ran:
    return Ran(status, 1.0, "", error, peak_mb, kills, None)


def report(*, predicted: int = 100, peak: int = 90, width: int = 40) -> dict[str, Any]:
    plan = {"working_width": width, "working_height": 30, "tiles": 1, "predicted_peak_mb": predicted, "predicted_ms": 1}
    return {"plan": plan, "memory": {"peak_rss_mb": peak}}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", PHOTO).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


CASES = {
    "": Parsed(ran(), report(), PHOTO),
    "killed": Parsed(ran(status=-9), None, None),
    "killed in": Parsed(ran(kills=1), report(), PHOTO),
    "ended with 101": Parsed(ran(status=101), None, None),
    "refused though admitted: no": Parsed(ran(status=1, error="no"), None, None),
    "held 125 MB": Parsed(ran(), report(peak=125), PHOTO),
    "held 126 MB": Parsed(ran(peak_mb=125.5), report(), PHOTO),
    "admitted with 600 MB": Parsed(ran(), report(predicted=600), PHOTO),
    "otherwise than planned": Parsed(ran(), report(width=39), PHOTO),
    "a mask of (30, 40)": Parsed(ran(), report(), (30, 40)),
}


@pytest.mark.parametrize(("fault", "parsed"), CASES.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_run_that_was_admitted(fault: str, parsed: Parsed, photo: Path) -> None:
    cell = sizes.Cell("nano", "a photo", SIZE_MB, MARGIN_MB)
    sizes.judge_done(cell, parsed, SIZE_MB, report(), photo)
    assert len(cell.faults) == bool(fault)
    assert fault in "".join(cell.faults)


def test_a_leak_is_seen_and_noise_is_not() -> None:
    noise = [float(n * 7919 % 31) for n in range(480)]
    slope, error = soak.slope_per_100(noise)
    assert slope - 2 * error < soak.MOST_MB_PER_100
    # 40 KiB a request.
    slope, error = soak.slope_per_100([value + n / 25 for n, value in enumerate(noise)])
    assert slope - 2 * error > soak.MOST_MB_PER_100
