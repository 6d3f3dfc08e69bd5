"""Makes a model folder out of a checkpoint: graph, weights, proof, manifest."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from m2fp_export import manifest, photos
from m2fp_export.checkpoint import load, weights_file
from m2fp_export.errors import InputError
from m2fp_export.model import M2FP
from m2fp_export.onnx_graph import GRAPH_NAME, write_graph
from m2fp_export.quantize_folder import Quantized, quantize_graph
from m2fp_export.verify import SIZES, TOLERANCE, Errors, verify

logger = logging.getLogger("m2fp_export")


def export(
    checkpoint: Path,
    out: Path,
    *,
    variant: str | None = None,
    portable: bool = False,
    name: str | None = None,
    version: str = "1.0.0",
    licence: str = manifest.LICENCE,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    tolerance: float = TOLERANCE,
    calibration: Sequence[Path] = (),
) -> tuple[Errors | None, dict[str, Any] | None]:
    """The largest errors over the verified `sizes`, None where there are none; and, with folders
    of photos to calibrate on, which makes the model one in 8 bits, the report on that.

    `out` changes only when all is written and verified. Raises InputError for a checkpoint that
    cannot be used, VerificationError for a graph that computes something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(out, "it is a file; a model is a folder")
    photos_in = [photos.find(folder) for folder in calibration]
    network, described = load(checkpoint, variant)
    about = manifest.About(
        name or manifest.default_name(described),
        version,
        licence,
        _named(weights_file(checkpoint)),
        portable,
    )
    logger.info("read %s: ResNet-%d, %s", checkpoint, described.depth, described.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside `out`, so that moving is renaming.
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as partial:
        folder = Path(partial)
        fused = not portable and not photos_in
        files = write_graph(network, folder / GRAPH_NAME, portable, fused)
        logger.info("wrote the graph")
        errors = verify(network, files[0], sizes, tolerance) if sizes else None
        description = folder / manifest.MANIFEST_NAME
        built = manifest.build(files, described, about)
        report = None
        if photos_in:
            quantized = _quantize(network, files[0], built, photos_in, folder)
            built = manifest.quantized(built, quantized.files, quantized.quantization)
            files = [*quantized.files, quantized.write_report(quantized.files[0].parent)]
            report = quantized.report
        manifest.write(built, description)
        manifest.replace(out, [*files, description])
    return errors, report


def _quantize(
    network: M2FP, graph: Path, built: dict[str, Any], photos_in: list[list[Path]], folder: Path
) -> Quantized:
    """What is measured is measured on the portable form: nothing else runs here."""
    runnable = folder / "portable" / GRAPH_NAME
    made = folder / "quantized"
    for path in (runnable.parent, made):
        path.mkdir()
    write_graph(network, runnable, portable=True)
    return quantize_graph(graph, runnable, built, photos_in, made)


def _named(path: Path) -> str:
    with path.open("rb") as file:
        return f"{path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
