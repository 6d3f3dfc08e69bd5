"""Take files out of a PyPI wheel: `fetch_wheel_file.py REQUIREMENT PATTERN=DESTINATION… [--arch ARCH]`.

Wheels are the one place where ONNX Runtime's library and a public-domain photograph can be had on any machine
with pip. The wheel itself is not installed.
"""

import argparse
import fnmatch
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# What Lambda, macOS and Linux call an architecture, and what wheels for Linux call it.
ARCHES = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


# The wheels that are fetched, by their names, and their sha256: PyPI never changes a file, and this is how one knows.
SHA256 = {
    "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_x86_64.whl": (
        "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8"
    ),
    "onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_aarch64.whl": (
        "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054"
    ),
    "scikit_image-0.26.0-cp312-cp312-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl": (
        "7df650e79031634ac90b11e64a9eedaf5a5e06fcd09bcd03a34be01745744466"
    ),
    "scikit_image-0.26.0-cp312-cp312-manylinux_2_24_aarch64.manylinux_2_28_aarch64.whl": (
        "4c717490cec9e276afb0438dd165b7c3072d6c416709cc0f9f5a4c1070d23a44"
    ),
}


def check(wheel: Path) -> None:
    """Raises ValueError unless the wheel is one of those above, byte for byte."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if SHA256.get(wheel.name) != found:
        raise ValueError(f"{wheel.name} has the sha256 {found}, which is not the one that is known of it")


def download(requirement: str, arch: str, folder: Path) -> Path:
    """Downloads the wheel of `requirement` for CPython 3.12 on `arch` Linux into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", f"--dest={folder}"]
    # pip matches platform tags exactly, so each one a wheel may carry is named.
    command += [f"--platform=manylinux_2_{minor}_{arch}" for minor in (28, 27, 26, 24, 17)]
    command += [f"--platform=manylinux2014_{arch}"]
    subprocess.run([*command, requirement], check=True)
    (wheel,) = folder.glob("*.whl")
    check(wheel)
    return wheel


def extract(archive: zipfile.ZipFile, pattern: str, destination: Path) -> None:
    """Writes the one member that matches `pattern` to `destination`."""
    names = fnmatch.filter(archive.namelist(), pattern)
    if len(names) != 1:
        raise LookupError(f"{archive.filename}: {len(names)} files match {pattern}, not one")
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: an interrupted run leaves no half file.
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    partial.write_bytes(archive.read(names[0]))
    partial.replace(destination)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirement", help="for example onnxruntime==1.32.0")
    parser.add_argument("files", nargs="+", metavar="PATTERN=DESTINATION", help="glob of one member, where it goes")
    parser.add_argument("--arch", default=os.uname().machine, choices=[*ARCHES])
    arguments = parser.parse_args()
    pairs = [file.partition("=") for file in arguments.files]
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(arguments.requirement, ARCHES[arguments.arch], Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            for pattern, _, destination in pairs:
                extract(archive, pattern, Path(destination))
                print(f"  {destination} from {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
