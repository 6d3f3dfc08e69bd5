"""Put the Lambda package together: a folder that is the function's /var/task, and a zip of it.

`package.py --bootstrap FILE --runtime LIBRARY --model FOLDER --licences FOLDER --arch x86_64 --out dist/NAME`
"""

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import al2023
import hide_avx512
import published

# Lambda's limit on a zip package with its layers, unzipped: 250 MB of 2^20 bytes.
UNZIPPED_LIMIT = 250 * 2**20


def check_binaries(arch: str, *binaries: Path) -> None:
    """Ends with one line a fault unless all run on Amazon Linux 2023 of `arch`."""
    found = [fault for binary in binaries for fault in al2023.faults(binary)]
    found += [
        f"{binary} is for {al2023.architecture(binary)}, the package for {arch}"
        for binary in binaries
        if al2023.architecture(binary) != arch
    ]
    if found:
        raise SystemExit("\n".join(found))


def model_files(folder: Path) -> list[Path]:
    """What of a model folder is served: the manifest, the files it names, the card and licence."""
    manifest = folder / "model.json"
    if not manifest.is_file():
        raise SystemExit(f"{folder} is not a model folder: it has no model.json")
    described = json.loads(manifest.read_text())
    files = described["files"] + ([described["optimized"]["file"]] if "optimized" in described else [])
    named = [folder / file["path"] for file in files]
    missing = [str(file) for file in named if not file.is_file()]
    if missing:
        raise SystemExit(f"{manifest} names files that are not there: {', '.join(missing)}")
    return [manifest, *named, *sorted(folder.glob("*.md")), *sorted(folder.glob("LICENSE*"))]


def fill(arguments: argparse.Namespace) -> None:
    """Writes the folder anew."""
    out: Path = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    shutil.copy(arguments.bootstrap, out / "bootstrap")
    shutil.copy(arguments.runtime, out / "libonnxruntime.so")
    for binary in ("bootstrap", "libonnxruntime.so"):
        (out / binary).chmod(0o755)
    for file in model_files(arguments.model):
        target = out / "model" / file.relative_to(arguments.model)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    shutil.copytree(arguments.licences, out / "licences")
    for text in ("LICENSE", "NOTICE"):
        shutil.copy(text, out / "licences" / text)


def graph_before(arguments: argparse.Namespace) -> tuple[dict[str, Any], bytes] | None:
    """The optimized graph of the package that is there, if it is of the same program, runtime and model, and what the
    manifest says of it.

    The runtime writes no graph twice in the same order, and a package of the same content should have the same bytes.
    """
    out: Path = arguments.out
    there = out / "model/model.json"
    described = json.loads(there.read_text()) if there.is_file() else {}
    now = json.loads(model_files(arguments.model)[0].read_text())
    pairs = [(arguments.bootstrap, out / "bootstrap"), (arguments.runtime, out / "libonnxruntime.so")]
    if (
        "optimized" not in described
        or described["files"] != now["files"]
        or not all(before.is_file() and filecmp.cmp(new, before, shallow=False) for new, before in pairs)
    ):
        return None
    graph = out / "model" / described["optimized"]["file"]["path"]
    return (described["optimized"], graph.read_bytes()) if graph.is_file() else None


def optimize(model: Path, m2fp: Path, runtime: Path) -> dict[str, Any]:
    """Has the graph made ready for the processors of Lambda's that are of this machine's architecture. Returns what the
    manifest then says of it.

    Lambda's x86_64 processors show AVX2 and no more to functions. Without objdump, there is no telling a program so.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = m2fp
        if published.kind() not in ("AVX2", "NEON"):
            (program,) = hide_avx512.hide([m2fp.absolute()], Path(folder), runtime)
        environment = {**os.environ, "ORT_DYLIB_PATH": str(runtime.absolute())}
        subprocess.run([program, "optimize", model], check=True, stdout=sys.stderr, env=environment)
    return json.loads((model / "model.json").read_text())["optimized"]


def make_ready(arguments: argparse.Namespace, before: tuple[dict[str, Any], bytes] | None) -> None:
    """Puts an optimized graph into the folder, that of before or a new one, and into its manifest."""
    model = arguments.out / "model"
    manifest = json.loads((model / "model.json").read_text())
    if before:
        manifest["optimized"], graph = before
        (model / manifest["optimized"]["file"]["path"]).write_bytes(graph)
    elif arguments.m2fp and (len(manifest["files"]) == 1 or "quantization" in manifest):
        try:
            manifest["optimized"] = optimize(model, arguments.m2fp, arguments.runtime)
        except FileNotFoundError as absent:
            print(
                f"{absent.filename} is missing: the model is not made ready for Lambda, and loads slowly.",
                file=sys.stderr,
            )
            return
    else:
        return
    (model / "model.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def write_zip(folder: Path, target: Path) -> None:
    """Zips `folder`; the same content gives the same bytes, so that an unchanged package is not deployed again."""
    partial = target.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())
            executable = file.parent == folder
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    partial.replace(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", type=Path, required=True)
    parser.add_argument("--runtime", type=Path, required=True, help="libonnxruntime.so of the same architecture")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--licences", type=Path, required=True, help="folder of third parties' licence texts")
    parser.add_argument("--arch", choices=["x86_64", "arm64"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--m2fp", type=Path, help="command line that runs here and makes the graph ready for Lambda's")
    parser.add_argument("--folder-only", action="store_true", help="no zip, and no limit of size: for an image")
    arguments = parser.parse_args()

    check_binaries(arguments.arch, arguments.bootstrap, arguments.runtime)
    before = graph_before(arguments)
    fill(arguments)
    make_ready(arguments, before)
    out: Path = arguments.out
    archive = out.with_name(out.name + ".zip")
    if arguments.folder_only:
        return 0
    archive.unlink(missing_ok=True)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    for part in ("bootstrap", "libonnxruntime.so", "model", "licences"):
        files = [out / part] if (out / part).is_file() else (out / part).rglob("*")
        print(f"  {part:<18} {sum(file.stat().st_size for file in files) / 2**20:7.1f} MB")
    if size > UNZIPPED_LIMIT:
        print(
            f"{arguments.model} makes a package of {size / 2**20:.0f} MB, over the 250 MB of a zip: `make image` "
            f'builds a container image with deploy/container/Dockerfile (docs/deploy.md, "Container image").',
            file=sys.stderr,
        )
        return 1
    write_zip(out, archive)
    print(f"  {archive}: {archive.stat().st_size / 2**20:.1f} MB, {size / 2**20:.1f} of 250 MB unzipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
