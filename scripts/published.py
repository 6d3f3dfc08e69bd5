"""What the published tables share: where they go in a page, the machine they are of, what is timed, package sizes."""

import datetime
import os
import platform
import re
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from cgroup import MB

END = "<!-- end -->"

# Of a report's `timings_ms`. What else its total has is waiting, and the loading of the model.
STAGES = ("decode", "preprocess", "inference", "postprocess", "encode")


def check_blocks(page: Path, made_by: list[str]) -> None:
    """Ends the process where the page lacks one of these blocks: before hours of measuring, not after."""
    for one in made_by:
        _split(page, one)


def replace_block(page: Path, made_by: str, text: str) -> None:
    """Puts `text` between the page's line that says what makes it and the next `END`."""
    before, begin, _, after = _split(page, made_by)
    page.write_text(f"{before}{begin}\n{text}\n{END}{after}")


def block(page: Path, made_by: str) -> str:
    """What stands in the page's block."""
    return _split(page, made_by)[2].removeprefix("\n").removesuffix("\n")


def _split(page: Path, made_by: str) -> tuple[str, str, str, str]:
    """What stands before the block, its first line, its text with line breaks around, what stands after `END`."""
    begin = f"<!-- made by `{made_by}` -->"
    before, found, rest = page.read_text().partition(begin)
    text, ended, after = rest.partition(END)
    if not (found and ended):
        raise SystemExit(f"{page}: it has no lines {begin} and {END}")
    return before, begin, text, after


def work_seconds(report: dict) -> float:
    """From decoding to encoding, the model loaded."""
    return sum(report["timings_ms"][stage] for stage in STAGES) / 1e3


def package_mb(binary: Path, model: Path) -> tuple[float, float]:
    """Of the binary, ONNX Runtime and the model: zipped, and unzipped."""
    files = [binary, Path(__file__).parents[1] / ".runtime/libonnxruntime.so", *model.iterdir()]
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "package.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as package:
            for file in files:
                package.write(file, file.name)
        return archive.stat().st_size / MB, sum(file.stat().st_size for file in files) / MB


def kind() -> str:
    """The instructions that decide how fast it computes: `VNNI`, `AVX-512` or `AVX-VNNI` alone, `AVX2`, or `NEON`."""
    if platform.machine() in ("aarch64", "arm64"):
        return "NEON"
    flags = set((re.search(r"flags\s*: (.*)", _cpuinfo()) or ["", ""])[1].split())
    kinds = {"VNNI": "avx512_vnni", "AVX-512": "avx512f", "AVX-VNNI": "avx_vnni", "AVX2": "avx2"}
    return next((kind for kind, flag in kinds.items() if flag in flags), platform.machine())


def machine() -> str:
    """Day, processor, cores and kernel."""
    described = _cpuinfo()
    named = re.search(r"model name\s*: (.*)", described)
    cpu = named[1] if named else platform.processor() or platform.machine()
    day = datetime.datetime.now(datetime.timezone.utc).date()
    kernel = re.match(r"[\d.]*\d", platform.release())
    return f"{day}; {cpu} ({kind()}), {os.cpu_count()} cores, {platform.system()} {kernel[0] if kernel else ''}"


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
