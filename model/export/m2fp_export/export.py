"""Makes a model folder out of a checkpoint: graph, weights, proof, manifest."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from m2fp_export import manifest
from m2fp_export.checkpoint import load, weights_file
from m2fp_export.errors import InputError
from m2fp_export.onnx_graph import GRAPH_NAME, write_graph
from m2fp_export.verify import SIZES, TOLERANCE, verify


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
) -> float:
    """The largest relative error over the verified `sizes`, 0 where there are none.

    `out` changes only when all is written and verified. Raises InputError for a checkpoint that
    cannot be used, VerificationError for a graph that computes something else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(out, "it is a file; a model is a folder")
    network, described = load(checkpoint, variant)
    about = manifest.About(
        name or manifest.default_name(described),
        version,
        licence,
        _named(weights_file(checkpoint)),
        portable,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside `out`, so that moving is renaming.
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as partial:
        files = write_graph(network, Path(partial) / GRAPH_NAME, portable)
        error = verify(network, files[0], sizes, tolerance) if sizes else 0.0
        description = Path(partial) / manifest.MANIFEST_NAME
        manifest.write(manifest.build(files, described, about), description)
        out.mkdir(exist_ok=True)
        # While files are replaced there is no manifest: a folder is whole or is none.
        (out / manifest.MANIFEST_NAME).unlink(missing_ok=True)
        for file in (*files, description):
            file.replace(out / file.name)
    return error


def _named(path: Path) -> str:
    with path.open("rb") as file:
        return f"{path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
